"""Seeds, and what a run that goes on takes up again: on a line, in this process, without demonstrations."""

from __future__ import annotations

import json
import random
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests import fakes
from vla_rl import build, config, resume, train, train_state
from vla_rl.algorithms import losses
from vla_rl.algorithms.pa_rl import PaRlAlgorithm
from vla_rl.envs.vector import VectorEnvs
from vla_rl.evaluation.episodes import Evaluator
from vla_rl.evaluation.outcome import EvalResult, Outcome
from vla_rl.registry import ConfigError, FaultError
from vla_rl.runtime import checkpoint
from vla_rl.runtime.learner import Learner
from vla_rl.runtime.schedule import Schedule
from vla_rl.runtime.signals import Stop
from vla_rl.specs import HELD_OUT_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The seeds that lanes begin with, one list a start."""
    seen: list[list[int]] = []
    reset = VectorEnvs.reset

    def spy(envs: VectorEnvs, seed: Any) -> Any:
        seen.append(list(range(seed, seed + envs.count)) if isinstance(seed, int) else list(seed))
        return reset(envs, seed)

    monkeypatch.setattr(VectorEnvs, "reset", spy)
    return seen


def as_rank(rank: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a run's learner be one of several processes, of which the others say nothing."""
    learner = build.learner

    def one_of_several(*arguments: Any) -> Any:
        made = learner(*arguments)
        made.rank, made.processes = rank, processes
        return made

    monkeypatch.setattr(build, "learner", one_of_several)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("seed", [0, 12345, 2**32 - 1])
def test_every_seed_and_rank_begins_with_training_seeds_of_its_own(
    line: list[str], tmp_path: Path, begun: list[list[int]], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    drawn = []
    for rank in range(6):
        with monkeypatch.context() as patched:
            as_rank(rank, 6, patched)
            state = train_state.make(config.load([*line, f"seed={seed}"]), tmp_path)
        drawn.append((random.random(), np.random.random(), torch.rand(()).item(), state.rng.random()))
        state.collector.close()
    seeds = [each for lanes in begun for each in lanes]
    assert len(set(seeds)) == len(seeds) == 12
    assert set(seeds) <= set(TRAINING_SEEDS)
    assert len({draw for draws in drawn for draw in draws}) == 24, "each generator of each process has its own stream"


def test_the_same_seed_gives_the_same_weights_in_every_process_and_seeds_all_generators(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, draws = [], []
    for rank in (0, 3, 3):
        random.seed()
        np.random.seed()
        with monkeypatch.context() as patched:
            as_rank(rank, 4, patched)
            state = train_state.make(config.load(line), tmp_path)
        weights.append(torch.cat([value.ravel() for value in state.algorithm.critic.parameters()]))
        draws.append((random.random(), np.random.random(), torch.rand(()).item(), state.rng.random()))
        state.collector.close()
    assert torch.equal(weights[0], weights[1])
    assert draws[1] == draws[2]
    assert not set(draws[0]) & set(draws[1])


def test_lanes_of_a_resumed_run_begin_with_seeds_that_were_not_used_before(
    line: list[str], tmp_path: Path, begun: list[list[int]]
) -> None:
    folder = tmp_path / "run"
    last = train.train(config.load(line))
    train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=80"]))
    for _ in range(2):  # and again from the first checkpoint, as after a crash
        for path in (folder / "checkpoints").iterdir():
            if path.name not in (last.name, "last"):
                shutil.rmtree(path)
        train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=72", "train.num_envs=2"]))
    starts = [each for lanes in begun for each in lanes]
    assert len(begun) == 4
    assert len(set(starts)) == len(starts)


class Clock(SimpleNamespace):
    """A second passes whenever somebody looks."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def test_minutes_and_annealing_go_on_from_the_time_already_spent(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, done = tmp_path / "run", []
    anneal = PaRlAlgorithm.anneal

    def spy(algorithm: PaRlAlgorithm, share: float) -> None:
        done.append(share)
        anneal(algorithm, share)

    monkeypatch.setattr(PaRlAlgorithm, "anneal", spy)
    monkeypatch.setattr(train, "time", Clock())
    first = train.train(config.load([*line, "train.steps=10000", "train.minutes=0.3"]))
    assert len(done) in (18, 19)
    assert train.train(config.load([f"run_dir={folder}", "resume=true"])) == first, "its time is over"
    before = len(done)
    train.train(config.load([f"run_dir={folder}", "resume=true", "train.minutes=0.6"]))
    assert 16 <= len(done) - before <= 20
    assert 0.5 < done[before] < 0.6


def test_what_was_logged_after_the_checkpoint_is_not_told_twice(line: list[str], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    last = train.train(config.load([*line, "train.save_every=32", "tracker=tensorboard"]))
    shutil.rmtree(last)  # as if the run had been killed before its last checkpoint
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "q/me')
    kept = checkpoint.latest(folder).step
    before = [line for line in lines_but_torn(folder) if line["step"] <= kept]
    train.train(config.load([f"run_dir={folder}", "resume=true"]))
    after = lines(folder)
    steps = [line["step"] for line in after]
    assert steps == sorted(set(steps))
    assert after[: len(before)] == before
    assert not list(folder.glob(".metrics*"))
    told = EventAccumulator(str(folder / "tracker"))
    told.Reload()
    curve = [event.step for event in told.Scalars("train/episodes")]
    assert curve == steps


def lines_but_torn(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()[:-1]]


def test_what_became_due_with_the_checkpoint_is_done_by_the_resumed_run() -> None:
    due = Schedule(0)
    assert not due.now("eval", 99, 100)
    again = Schedule(101)  # the last decisions were taken in as the checkpoint was made
    again.load_state_dict(due.state_dict())
    assert again.now("eval", 101, 100)
    assert not again.now("eval", 110, 100)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (f"demos.seed={TRAINING_SEEDS.stop}", "demos.seed: .*less than 500000"),
        ("seed=4294967296", "seed: .*less than 4294967296"),
        (f"eval.seed={len(HELD_OUT_SEEDS) - 99}", "eval.seed: at most 999900 leaves room for 100"),
        ("train.eval_episodes=600000", "train.eval_episodes: .*500000"),
    ],
)
def test_a_seed_that_leaves_its_range_is_refused_by_name_before_the_run(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.load([override])


# How a run ends -----------------------------------------------------------------------------------------


def test_an_environment_that_breaks_leaves_one_checkpoint_and_its_own_error(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes.Breaks, "left", 41)
    with pytest.raises(RuntimeError, match="the line broke") as raised:
        train.train(config.load([*line, "train.restarts=0", "env.id=fake/Breaks-v0", "train.save_every=0"]))
    generation = checkpoint.latest(tmp_path / "run")
    assert generation is not None
    assert generation.step > 30
    assert any(f"a checkpoint of step {generation.step}" in note for note in raised.value.__notes__)

    monkeypatch.setattr(fakes.Breaks, "left", 10**9)
    last = train.train(config.load([f"run_dir={tmp_path}/run", "resume=true"]))
    assert int(last.name) >= 64
    state = train_state.make(config.load(line), tmp_path)
    resume.restore(tmp_path / "run", state)
    state.collector.close()
    lengths = [len(ids) for ids in state.replay.episodes()]
    assert max(lengths) <= 13, "an episode that broke off does not go on in the one that began after it"


def test_a_learner_that_diverges_leaves_one_checkpoint(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(algorithm: PaRlAlgorithm, batch: Any) -> Any:
        raise FloatingPointError("the gradient was not finite")

    monkeypatch.setattr(PaRlAlgorithm, "update", diverges)
    with pytest.raises(FloatingPointError):
        train.train(config.load([*line, "train.save_every=0"]))
    assert checkpoint.latest(tmp_path / "run") is not None


@pytest.mark.parametrize("bad", [3, 10**6])
def test_steps_without_a_finite_gradient_are_counted_and_too_many_in_a_row_stop_the_run_with_a_checkpoint(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    whole, left = losses.categorical_loss, bad

    def spoilt(*arguments: torch.Tensor) -> torch.Tensor:
        nonlocal left
        left -= 1
        return whole(*arguments) * (float("nan") if left >= 0 else 1.0)

    monkeypatch.setattr(losses, "categorical_loss", spoilt)
    run = config.load([*line, "train.save_every=0", "train.steps=96", "algorithm.warmup_updates=1000"])
    if bad == 3:
        train.train(run)
        assert lines(tmp_path / "run")[-1]["train/skipped_steps"] == 3
    else:
        with pytest.raises(FaultError, match="not finite 20 times in a row") as raised:
            train.train(run)
        assert any("a checkpoint of step" in note for note in raised.value.__notes__)
    generation = checkpoint.latest(tmp_path / "run")
    assert generation is not None
    critic = checkpoint.load_state(generation.folder / "training_state")["algorithm"]["critic"]
    assert all(torch.isfinite(value).all() for value in critic.values())


def test_a_checkpoint_that_fails_too_does_not_hide_the_first_error(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **further: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    monkeypatch.setattr(fakes.Breaks, "left", 41)
    with pytest.raises(RuntimeError, match="the line broke") as raised:
        train.train(config.load([*line, "train.restarts=0", "env.id=fake/Breaks-v0", "train.save_every=0"]))
    assert any(
        "nor could a checkpoint be written: " in note and "No space left" in note for note in raised.value.__notes__
    )


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml")))
def test_every_experiment_saves_while_it_runs(name: str) -> None:
    run = config.load([f"experiment={name}"]).train
    assert 0 < run.save_every <= run.steps / 2


def test_validation_seeds_are_dealt_out_to_the_processes_and_their_successes_gathered(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def evaluated(self: Evaluator, actor: Any, mine: Any, films: int, **further: Any) -> Any:
        seeds.append(list(mine))
        played = [replace(Outcome.lost(seed, ""), invalid=False, success=seed == mine[0]) for seed in mine]
        return {"line": EvalResult("line", tuple(played))}

    monkeypatch.setattr(Evaluator, "tasks", evaluated)
    for rank in range(3):
        with monkeypatch.context() as patched:
            as_rank(rank, 3, patched)
            state = train_state.make(config.load([*line, "train.eval_episodes=2"]), tmp_path)
        totals = []
        monkeypatch.setattr(
            state.learner, "total", lambda *mine, totals=totals: totals.append(mine) or [1.0, 2.0, 0.0, 0.0]
        )
        monkeypatch.setattr(state.learner, "agree", lambda well: well, raising=False)
        assert train_state.validate(state, Stop()) == {
            "eval/pc_success": 50.0,
            "eval/episodes": 2.0,
            "eval/invalid_episodes": 0.0,
        }
        assert totals == [(1, 1, 0, False) if rank < 2 else (0, 0, 0, False)]
        state.close()
    assert sorted(seed for share in seeds for seed in share) == list(VALIDATION_SEEDS[:2])


def test_it_trains_outside_the_main_thread(line: list[str]) -> None:
    made: list[Path] = []
    thread = threading.Thread(target=lambda: made.append(train.train(config.load(line))))
    thread.start()
    thread.join()
    assert made


def test_signals_are_heard_as_before_once_it_has_trained(line: list[str], tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train.train(config.load(line))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(ConfigError, match="not empty"):
        train.train(config.load(line))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_run_in_one_process_may_have_another_precision(line: list[str], tmp_path: Path) -> None:
    for name in ("bf16", "no", "bf16"):
        run = config.load(
            [*line, f"mixed_precision={name}", f"run_dir={tmp_path}/{name}_{len(list(tmp_path.iterdir()))}"]
        )
        assert train.train(run).is_dir()


def test_a_learner_keeps_its_precision_when_another_is_made() -> None:
    def computed(learner: Learner) -> torch.dtype:
        with learner.autocast():
            return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    half = Learner("cpu", "bf16")
    full = Learner("cpu", "no")
    assert (computed(half), computed(full), computed(half)) == (torch.bfloat16, torch.float32, torch.bfloat16)
