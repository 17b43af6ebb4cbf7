"""What a run that goes on refuses, what it does not need any more, and what begins anew: on a line, in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import fakes
from tests.rollout.test_collector import act, remembering
from vla_rl import config, resume, train, train_state
from vla_rl.config import fixed
from vla_rl.envs.vector import VectorEnvs
from vla_rl.registry import ConfigError
from vla_rl.rollout.collector import Collector
from vla_rl.runtime import checkpoint
from vla_rl.runtime.logger import Log, cut
from vla_rl.sft import sft
from vla_rl.specs import STATE

OTHERS = [
    ("env.id=fake/Wild-v0", r'env\.id: .*run was saved with "fake/Line-v0", and now it is "fake/Wild-v0"'),
    ("action_space.bins=9", r"action_space: .*saved with .*bins.* and now it is .*9"),
    ("policy.train=all", r'policy\.train: .*saved with "head", and now it is "all"; .*train\.checkpoint=.*run and an'),
    ("replay.stack=2", r"replay\.stack: .*saved with 1, and now it is 2"),
    ("train.num_envs=3", r"train\.num_envs: .*saved with 2, and now it is 3"),
    ("algorithm.critic_width=48", r"algorithm\.critic_width=48, saved with 32: what .* holds does not fit that"),
    ("seed=5", r"seed: .*saved with 0, and now it is 5"),
]


def test_what_cannot_go_on_is_refused_and_nothing_is_written(line: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train.train(config.load([*line, "train.steps=24"]))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for override, said in OTHERS:
        with pytest.raises(ConfigError, match=said):
            train.train(config.load([f"run_dir={folder}", "resume=true", override]))
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before, override
    last = train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=32", "algorithm.actor_lr=1e-4"]))
    assert int(last.name) >= 32
    assert config.load([f"run_dir={folder}", "resume=true"]).algorithm.actor_lr == 1e-4


def test_pictures_of_another_size_and_further_tasks_are_refused() -> None:
    run = config.load(["env=reach"])
    for override, said in (
        (["env=reach", "env.image_size=32"], r"env\.image_size: .*null.* 32"),
        (["env=[reach,push]"], r"more_envs: .*saved with 0, and now it is 1"),
        (["env=push"], r"env\.id.*\(and 1 more: env\.sensors\)|env\.id"),
    ):
        with pytest.raises(ConfigError, match=said):
            fixed.check(fixed.told(run), config.load(override), "RUN")
    fixed.check(fixed.told(run), config.load(["env=reach", "algorithm.actor_lr=1", "train.steps=9"]), "RUN")


def test_it_goes_on_without_what_it_was_started_from_and_in_another_folder(
    line: list[str], tmp_path: Path, random_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backbone = shutil.copytree(random_backbone, tmp_path / "backbone")
    own = [*line, "policy.backbone={type: pretrained, source: backbone}", "demos.path=demos", "run_dir=run"]
    start = sft(config.load([*own, "sft.steps=0", "run_dir=start"], command="sft"))
    train.train(config.load([*own, f"train.checkpoint={start}", "algorithm.kl_weight=0.1"]))
    shutil.rmtree(tmp_path / "start")
    shutil.rmtree(backbone)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    state = train_state.make(config.load(["run_dir=../run", "resume=true"]), tmp_path / "run")
    try:
        assert resume.restore(tmp_path / "run", state) >= 64
        kept = checkpoint.latest(tmp_path / "run").folder / "reference_model"
        reference, policy = state.algorithm.reference, state.policy
        first = {name: value.clone() for name, value in reference.state_dict().items()}
        reference.load_pretrained(kept)
        assert all(value.equal(first[name]) for name, value in reference.state_dict().items())
        assert not all(value.equal(first[name]) for name, value in policy.state_dict().items())
    finally:
        state.close()
    last = train.train(config.load(["run_dir=../run", "resume=true", "train.steps=72"]))
    assert (last / "reference_model").is_dir()
    assert config.load(["run_dir=../run", "resume=true"]).demos.path == tmp_path / "demos"


def test_a_checkpoint_of_an_older_version_goes_on(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = {"replay", "log", "config", "device", "precision", "compiled", "cached"}
    common, own, save = resume.common_state, resume.own_state, train.save
    with monkeypatch.context() as older:
        for name, made in (("common_state", common), ("own_state", own)):
            older.setattr(
                resume,
                name,
                lambda state, made=made: {key: value for key, value in made(state).items() if key not in later},
            )
        older.setattr(train, "save", lambda folder, step, state, lanes: save(folder, step, state))
        first = train.train(config.load(line))
    assert not (first / "training_state" / "lanes").exists()
    last = train.train(config.load([f"run_dir={tmp_path}/run", "resume=true", "train.steps=80"]))
    assert int(last.name) >= 80


def test_lanes_that_a_checkpoint_tells_otherwise_of_begin_anew(line: list[str], tmp_path: Path) -> None:
    folder, run = tmp_path / "run", config.load(line)
    last = train.train(run)
    lanes = checkpoint.load_state(last / "training_state" / "lanes")
    lanes["groups"][0]["lanes"] = [0, 5]
    states = [train_state.make(run, folder) for _ in range(2)]
    try:
        resume.restore(folder, states[0])
        resume.save(folder, int(last.name) + 1, states[0], lanes)
        with pytest.warns(
            UserWarning, match=r"lanes: it tells of lanes in groups .*; all environments begin new episodes"
        ):
            resume.restore(folder, states[1])
        assert len(states[1].replay) == len(states[0].replay)
        assert states[1].collector.step(states[1].explore, states[1].log) == 0
    finally:
        for state in states:
            state.close()


def steps_of(collector: Collector, log: Log, count: int) -> list[int]:
    return [collector.step(act, log) for _ in range(count)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_lanes_go_on_as_they_were_and_others_begin_anew(tmp_path: Path, workers: int, groups: int) -> None:
    def make(seed: int) -> Collector:
        return Collector(VectorEnvs(fakes.known_in_five_bins, 4, workers), remembering(500, 4), seed, groups)

    log = Log(tmp_path, None, 1, "", show=False)
    first, same, partly = make(100_000), make(100_100), make(100_200)
    steps_of(first, log, 7 * groups)
    saved = first.state_dict(log)
    first.replay.save(tmp_path / "replay")
    for other in (same, partly):
        other.replay.load(tmp_path / "replay")
    checkpoint.save_state(tmp_path / "lanes", saved)
    assert same.load_state_dict(checkpoint.load_state(tmp_path / "lanes"), log) == (0, {})

    damaged: dict[str, Any] = checkpoint.load_state(tmp_path / "lanes")
    damaged["snapshots"][0]["env"]["state"]["place"] = None
    damaged["snapshots"][3] = None
    made, reasons = partly.load_state_dict(damaged, log)
    assert made >= 3
    assert "the line goes on from nowhere" in reasons.pop(0)
    assert list(reasons) == [3]

    counts = [steps_of(each, log, 20 * groups) for each in (first, same, partly)]
    assert counts[0] == counts[1]
    ids = np.arange(first.replay.added)
    assert same.replay.added == len(ids)
    for name, value in first.replay.recorded(ids).items():
        np.testing.assert_array_equal(same.replay.recorded(ids)[name], value)
    seen, again = (each.replay.observations(ids)[STATE] for each in (first, same))
    np.testing.assert_array_equal(seen, again)
    assert partly.replay.added > len(ids) - 5 * groups
    for collector in (first, same, partly):
        collector.close()


def test_what_is_gathered_for_the_log_goes_on_and_no_line_is_told_twice(tmp_path: Path) -> None:
    log = Log(tmp_path, None, 10, "", show=False)
    log._show = True
    with log:
        log.update({"loss": 1.0})
        log.write(3)
        log.update({"loss": 2.0})
        state = log.state_dict()
        log.update({"loss": 4.0})
        log.write(3)
    other = Log(tmp_path, None, 10, "", show=False)
    other._show = True
    other.load_state_dict(state)
    cut(tmp_path, 3, other.lines)
    with other:
        other.update({"loss": 4.0})
        assert other.write(3)["loss"] == 3.0
    told = [json.loads(each) for each in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [each["loss"] for each in told] == [1.0, 3.0]
