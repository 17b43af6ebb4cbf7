"""What is told of a step beside its reward goes the whole way: from the worker to the batch, checkpoint and dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from tests.fakes import LINE
from vla_rl import build, config, train
from vla_rl.actions.binned import Binned
from vla_rl.actions.chunk import Chunk
from vla_rl.data import lerobot
from vla_rl.envs import ObservationShape, TokenEnv, spent
from vla_rl.eval import evaluate_checkpoint
from vla_rl.registry import ConfigError
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout.actor import load_actor
from vla_rl.specs import SIGNALS, STATE, TASK, Signal

COSTLY = "fake/Costly-v0"
FUEL = "replay.signals=[{name: fuel, shape: [2]}]"


@pytest.fixture
def costly(line: list[str]) -> list[str]:
    return [*line, f"env.id={COSTLY}", "plugins=[tests.fakes]", FUEL, "train.steps=96", "train.workers=1"]


def test_signals_go_from_the_environment_and_the_algorithm_to_the_checkpoint_and_back(
    costly: list[str], tmp_path: Path
) -> None:
    last = train.train(config.load(costly))
    replay = ReplayBuffer.of_saved(last / "training_state" / "replay")
    assert {signal.name for signal in replay.signals} == {"cost", "verified", "task", "fuel", "log_prob"}
    ids = replay.sampleable_ids(finished_only=True)
    rows = replay.recorded(ids)
    space = build.env_spec(config.load(costly)).tokens
    actions = np.array([float(space.decode(tokens)[0]) for tokens in rows["tokens"].astype(np.int64)])
    np.testing.assert_allclose(rows["cost"], 1 + np.abs(actions), atol=1e-6)
    assert np.array_equal(rows["verified"], rows["terminated"])
    assert (rows["fuel"][:, 0] == 1).all()
    assert rows["fuel"][:, 1].max() == 12
    assert (rows["log_prob"] < 0).all()
    assert (rows["task"] == 0).all()
    batch = replay.transitions(ids)
    np.testing.assert_allclose(batch.extra["fuel"], rows["fuel"])
    assert (batch.extra_returns["cost"] >= batch.extra["cost"] - 1e-6).all()
    lines = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(each.get("train/cost") or 0 for each in lines) > 0


def test_the_log_probability_is_that_of_the_decision_under_the_policy_of_then(costly: list[str]) -> None:
    run = config.load([*costly, "train.learning_starts=1000", "algorithm.epsilon=0.3"])
    last = train.train(run)
    replay = ReplayBuffer.of_saved(last / "training_state" / "replay")
    batch = replay.transitions(replay.sampleable_ids())
    policy = load_actor(last, device="cpu", plugins=["tests.fakes"]).policy
    tokens = np.asarray(batch.tokens)[:, None]
    expected = policy.log_prob(policy.encode(batch.observation), torch.from_numpy(tokens)).squeeze(1)
    np.testing.assert_allclose(batch.extra["log_prob"], expected.detach(), atol=1e-4)


def test_a_chunk_costs_what_its_steps_cost() -> None:
    env = gymnasium.make(COSTLY)
    chunked = TokenEnv(env, Chunk(Binned(5), 3).bind(env.action_space))
    chunked.reset(seed=3)
    *_, info = chunked.step(np.array([3, 1, 3]))
    assert info["cost"] == pytest.approx(1.5 * info["steps"])
    assert "cost" not in TokenEnv(gymnasium.make(LINE), Binned(5).bind(env.action_space)).reset(seed=1)[1]


@pytest.mark.parametrize("wrong", ["a lot", [1.0, 2.0], float("nan")])
def test_a_cost_that_is_no_number_is_named(wrong: Any) -> None:
    with pytest.raises(ValueError, match="info\\['cost'\\]: expected one finite number"):
        spent({"cost": wrong})
    assert spent({}) == spent({"cost": None}) == spent({"cost": np.nan, "invalid": True}) == 0.0


def test_evaluation_and_report_tell_what_episodes_cost(costly: list[str], tmp_path: Path) -> None:
    train.train(config.load(costly))
    wanted = [f"eval.checkpoint={tmp_path}/run", "eval.episodes=4", "eval.videos=0", "eval.workers=0"]
    run = config.load([*wanted, f"run_dir={tmp_path}/eval", "plugins=[tests.fakes]"], command="eval")
    result = evaluate_checkpoint(run)
    info = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    costs = [row["cost"] for row in info["per_episode"]]
    assert min(costs) > 0
    assert info["overall"]["avg_cost"] == pytest.approx(np.mean(costs)) == pytest.approx(result.mean_cost)
    assert f"at a cost of {result.mean_cost:.2f} each" in (tmp_path / "eval" / "report.html").read_text()


def filled(signals: tuple[Signal, ...], rows: int = 12) -> ReplayBuffer:
    """A replay of two episodes; each row costs its number."""
    buffer = ReplayBuffer(40, {}, state_dim=1, slots=1, choices=5, gamma=0.5, n_step=2, signals=signals)
    for t in range(rows):
        over, final = np.array([t % 6 == 4]), np.array([t % 6 == 5])
        told = {"cost": np.array([float(t)])} if any(each.name == "cost" for each in signals) else {}
        seen = {STATE: np.full((1, 1), t, np.float32), TASK: ["go"]}
        buffer.add(seen, np.ones((1, 1), int), np.zeros(1), over, ~over & False, final, signals=told)
    return buffer


@pytest.mark.parametrize(("before", "after"), [((), SIGNALS), (SIGNALS, ()), (SIGNALS[:1], SIGNALS)])
def test_a_replay_saved_with_other_signals_is_loaded_and_saved_again(
    before: tuple[Signal, ...], after: tuple[Signal, ...], tmp_path: Path
) -> None:
    filled(before).save(tmp_path / "old")
    buffer = filled(after, rows=0)
    buffer.load(tmp_path / "old")
    ids = buffer.sampleable_ids()
    told = np.arange(12)[ids] if before and after else np.zeros(len(ids))
    if after:
        assert np.array_equal(buffer.recorded(ids)["cost"], told)
    buffer.save(tmp_path / "new", previous=[tmp_path / "old"])
    again = filled(after, rows=0)
    again.load(tmp_path / "new")
    one, two = buffer.transitions(ids), again.transitions(ids)
    assert one.extra.keys() == two.extra.keys() == {each.name for each in after}
    assert all(np.array_equal(one.extra[name], two.extra[name]) for name in one.extra)


def test_a_dataset_of_a_replay_holds_its_signals(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    buffer = filled(SIGNALS)
    lerobot.write_replay(buffer, tmp_path / "dataset")
    again = filled(SIGNALS, rows=0)
    assert lerobot.read_replay(tmp_path / "dataset", again, ObservationShape(images={}, state=1)) == 2
    one, two = (each.recorded(each.sampleable_ids()) for each in (buffer, again))
    assert all(np.array_equal(one[name], two[name]) for name in one if name != "demo")
    assert one["cost"].tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ("[{name: cost}]", "'cost' is one already"),
        ("[{name: fuel, dtype: flaot32}]", "no such dtype"),
        ("[{name: fuel, summed: true, shape: [2]}]", "one float"),
        ("[{name: my fuel}]", "letters, digits"),
        ("[{nam: fuel}]", "nam"),
    ],
)
def test_a_wrong_signal_is_named(costly: list[str], signals: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build.signals(config.load([*costly, f"replay.signals={signals}"]))
