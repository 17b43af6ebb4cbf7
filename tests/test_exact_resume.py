"""A run that is stopped and goes on in another process ends as one that never stopped: number by number.

Told to stop in the warm-up, in mid-episode, in an evaluation, and where the ring has wrapped; in six kinds of runs, of
which one has chunks of two steps for decisions, and two work out credit.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pytest

from tests.launch import in_processes, run
from vla_rl import config
from vla_rl.data.record import record
from vla_rl.runtime.generations import CHECKPOINTS, generations
from vla_rl.sft import sft

DRIVER = str(Path(__file__).with_name("exact_driver.py"))
DECISIONS = 6
"""The fewest decisions of evaluations that a whole run takes."""
CAMERA = "{type: camera, name: front, width: 32, height: 32}"
KINDS = {
    "contacts": [
        "env=push",
        f"env.sensors=[{CAMERA}, {{type: end_effector_pose}}, {{type: timed, sensor: {{type: tracking_error}}, "
        "noise: 0.01, delay: 1}, {type: instruction}]",
        "env.kwargs={horizon: 14}",
        "action_space={type: chunk, horizon: 2, inner: {type: binned, bins: 5}}",
        "train.groups=2",
        "plugins=[tests.own_parts]",
        'algorithm.adaptation={type: "tests.own_parts:Eager"}',
    ],
    "screens": [
        "env=gui_click_colour",
        "action_space={type: command, grid: [8, 8]}",
        "env.kwargs={horizon: 7}",
        "policy.remembers=turns",
        "train.failed_starts=0.5",
        "train.groups=2",
        "replay.stack=2",
        "replay.prioritised=true",
        "replay.success_share=0.25",
        "demos.episodes=2",
        "algorithm.demo_share=0.25",
        "algorithm.credit={type: milestones, every: 3}",
    ],
    "workers": [
        "env=insert_peg",
        f"env.sensors=[{CAMERA}, {{type: end_effector_pose}}, {{type: instruction}}]",
        "env.kwargs={horizon: 9}",
        "train.workers=2",
        "train.groups=2",
        "eval.workers=1",
        "algorithm.kl_weight=0.1",
        "replay.cache=never",
    ],
    "resets": [
        "env=gui_named_chain",
        "env.kwargs={steps: 2, codes: 0, named: 6, horizon: 4, starts: 2}",
        "action_space={type: choice}",
        "algorithm.credit={type: resets, share: 0.3, rollouts: 2}",
    ],
    "processes": [
        "env=push",
        f"env.sensors=[{CAMERA}, {{type: end_effector_pose}}, {{type: instruction}}]",
        "env.kwargs={horizon: 9}",
        "train.groups=2",
    ],
    "shares": [
        "env=push",
        f"env.sensors=[{CAMERA}, {{type: end_effector_pose}}, {{type: instruction}}]",
        "env.kwargs={horizon: 9}",
        "train.groups=2",
        "sharding=fsdp",
        "policy.train=lora",
        "policy.lora={rank: 2}",
        "algorithm.kl_weight=0.1",
        "train.renew_every=48",
    ],
}
IN_TWO = ("processes", "shares")
"""Those kinds that take two processes, of which each keeps the whole policy, or a share of its layers."""
MARKS = {"resets": [pytest.mark.slow], "processes": [pytest.mark.processes]}
MARKS["shares"] = [pytest.mark.processes, pytest.mark.slow]


class Runs:
    """Runs of one kind, each in a folder of its own."""

    def __init__(self, kind: str, folder: Path, backbone: Path) -> None:
        self.kind, self.folder = kind, folder
        self._settings = [
            "experiment=smoke",
            "device=cpu",
            f"policy.backbone={{type: pretrained, source: '{backbone}'}}",
            f"demos.path={folder}/demos",
            "demos.episodes=0",
            "algorithm.demo_share=0",
            "algorithm.mc_weight=0.5",
            "algorithm.warmup_updates=4",
            "algorithm.batch_size=16",
            "algorithm.actor_batch_size=8",
            "algorithm.critic_width=16",
            "train.updates_per_step=0.5",
            "train.num_envs=4",
            "train.workers=0",
            "train.steps=90",
            "train.learning_starts=24",
            "train.log_every=16",
            "train.eval_every=40",
            "train.save_every=32",
            "train.keep=1",
            "replay.capacity=64",
            "tracker=null",
            *KINDS[kind],
        ]
        if "demos.episodes=2" in self._settings:
            record(config.load(self._settings, command="demos"))
        if "algorithm.kl_weight=0.1" in self._settings:
            start = sft(config.load([*self._settings, "sft.steps=0", f"run_dir={folder}/sft"], command="sft"))
            self._settings.append(f"train.checkpoint={start}")
        self.whole = self.stopped_at("whole")

    def stopped_at(self, name: str, *stops: str) -> list[dict[str, str]]:
        """What each process of a run has ended with that was told to stop so many times, and went on."""
        told = self._run(name, stops[0], *self._settings) if stops else self._run(name, "never", *self._settings)
        for stop in (*stops[1:], *(["never"] if stops else [])):
            assert not any(told), f"{name}: was not told to stop at {stops}"
            told = self._run(name, stop, *self._again)
        return told

    @property
    def _again(self) -> list[str]:
        """What has a run go on."""
        return ["resume=true", *(each for each in self._settings if each.startswith("plugins="))]

    @cached_property
    def saving(self) -> list[dict[str, str]]:
        """What each process of a run has ended with that has saved at every turn, and kept all of that."""
        return self._run("saving", "never", *self._settings, "train.save_every=1", "train.keep=1000")

    @property
    def steps(self) -> list[int]:
        """Where it has saved before its end."""
        return [each.step for each in generations(self.folder / "saving_run" / CHECKPOINTS)[:0:-1]]

    def from_saved(self, step: int) -> list[dict[str, str]]:
        """What each process of a run has ended with that goes on from what `saving` has saved at a step."""
        name = f"from_{step}"
        copy = shutil.copytree(self.folder / "saving_run", self.folder / f"{name}_run", ignore=_later_than(step))
        told = self._run(name, "never", *self._again, "train.save_every=32", "train.keep=1")
        shutil.rmtree(copy)
        return told

    def _run(self, name: str, stop: str, *settings: str) -> list[dict[str, str]]:
        told = self.folder / name
        given = [DRIVER, str(told), stop, f"run_dir={told}_run", *settings]
        if self.kind in IN_TWO:
            in_processes(2, *given)
        else:
            run(*given)
        return [json.loads(file.read_text()) for file in sorted(told.glob("*.json"))]


def _later_than(step: int) -> Callable[[str, list[str]], list[str]]:
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "last" or (name.isdigit() and int(name) > step)]

    return ignored


@pytest.fixture(scope="module", params=[pytest.param(kind, marks=MARKS.get(kind, [])) for kind in KINDS])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, random_backbone: Path) -> Runs:
    return Runs(request.param, tmp_path_factory.mktemp(request.param), random_backbone)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(runs: Runs) -> None:
    """In the warm-up, in the first evaluation, and, the third process, after the ring has wrapped."""
    assert runs.stopped_at("thrice", "turn:7", "eval:3", "turn:16") == runs.whole


@pytest.mark.slow
def test_saving_changes_nothing(runs: Runs) -> None:
    assert runs.saving == runs.whole


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_a_run_goes_on_from_anywhere_as_if_it_had_not_been_stopped(runs: Runs, number: int) -> None:
    assert runs.saving
    rng = random.Random(number)
    if number % 5 == 0:
        assert runs.stopped_at(f"at_{number}", f"eval:{rng.randint(1, DECISIONS)}") == runs.whole
    else:
        assert runs.from_saved(rng.choice(runs.steps)) == runs.whole
