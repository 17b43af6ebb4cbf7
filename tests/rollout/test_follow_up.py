"""What a call of a tool is worth, by going back: against doing it by hand, and in a run."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics

from vla_rl import build, config
from vla_rl.algorithms.calls import CallLearning, call_kinds
from vla_rl.data.record import record
from vla_rl.registry import ConfigError
from vla_rl.rewards.calls import CallValue
from vla_rl.rollout.branches import every, meet, roll_out
from vla_rl.rollout.calls import FollowUp, follow_up
from vla_rl.runtime.learner import Learner
from vla_rl.sft import sft
from vla_rl.train import train


@pytest.fixture
def desk(quick: list[str]) -> list[str]:
    return [
        *quick,
        "env=gui_desk",
        "env.kwargs={horizon: 1, budgeted: 0}",
        "action_space.type=command",
        "policy.head.reads=[pointers,words,clauses]",
        "demos.episodes=0",
        "algorithm.demo_share=0",
        "algorithm.calls={share: 0.5, rollouts: 2}",
        "algorithm.cost={type: price, c: 1.0}",
        "train.workers=0",
        "train.steps=40",
        "train.updates_per_step=0.1",
        "train.log_every=20",
        "train.eval_every=0",
    ]


@pytest.fixture
def learning(desk: list[str]) -> tuple[CallLearning, list[gymnasium.Env]]:
    run = config.load(desk)
    spec = build.env_spec(run)
    calls, policy = call_kinds(run, spec), build.fresh_policy(run, spec)
    assert calls is not None
    (make,) = build.env_factories(run, spec).values()
    envs = [make() for _ in range(3)]
    for env in envs:
        env.reset(seed=0)
    return CallLearning(CallValue(rollouts=2), calls, policy, Learner(device="cpu", seed=1)), envs


def test_what_followed_is_what_follows_by_hand(learning: tuple[CallLearning, list[gymnasium.Env]]) -> None:
    found, envs = learning
    seeds = list(range(6))
    pairs, steps = follow_up(envs, found, seeds, gamma=0.9)
    assert steps == 6 * 2 * 2
    kinds = envs[0].unwrapped.action_space.kinds  # type: ignore[attr-defined]
    for seed, pair in zip(seeds, pairs, strict=True):
        assert [kinds[kind] == "call" for kind in pair.tokens[:, 0]] == [True, False]
        for tokens, paid, cost in zip(pair.tokens, pair.paid, pair.spent, strict=True):
            assert (paid, cost) == pytest.approx(by_hand(envs[0], seed, tokens))


def test_what_calls_cost_is_told_of_each_state(learning: tuple[CallLearning, list[gymnasium.Env]]) -> None:
    found, envs = learning
    seeds = list(range(8))
    met = [meet(envs[0], found.policy, seed) for seed in seeds]
    chosen = [best(envs[0], found, seed)[None] for seed in seeds]
    told = {each.job[0]: each for each in roll_out(envs, found.policy, met, chosen, every(chosen, 1), 0.9)}
    costs = [by_hand(envs[0], seed, tokens[0])[1] for seed, tokens in zip(seeds, chosen, strict=True)]
    assert [told[number].spent for number in range(8)] == pytest.approx(costs)
    assert any(costs)


def by_hand(env: gymnasium.Env, seed: int, tokens: np.ndarray) -> tuple[float, float]:
    """What a decision at the beginning of an episode of one step pays and costs."""
    env.reset(seed=seed)
    _, reward, _, _, info = env.step(tokens)
    return float(reward), float(info["cost"])


def best(env: gymnasium.Env, learning: CallLearning, seed: int) -> np.ndarray:
    """What the expert does at the beginning of an episode, int64 [K]."""
    env.reset(seed=seed)
    return learning.policy.action_space.encode(env.unwrapped.expert_action())  # type: ignore[attr-defined]


def test_all_rollouts_of_a_state_begin_where_it_was_met(learning: tuple[CallLearning, list[gymnasium.Env]]) -> None:
    found, envs = learning
    one, other = (meet(env, found.policy, 5) for env in envs[:2])
    assert one.snapshot["state"]["goal"] == other.snapshot["state"]["goal"]


def test_environments_that_cannot_go_back_are_left_alone(learning: tuple[CallLearning, list[gymnasium.Env]]) -> None:
    found, envs = learning
    remembers = FollowUp(found, [lambda: RecordEpisodeStatistics(envs[0])], 0.9, (1, 0))
    assert not remembers.able
    assert remembers(1000) == {}


def test_a_run_finds_out_what_calls_are_worth(desk: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(config.load([*desk, f"run_dir={folder}"]))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if "calls/states" in line]
    assert told
    assert all(line["calls/steps"] == 32 for line in told)  # the mean of 8 states, 2 decisions, 2 rollouts of one step
    assert any(np.isfinite(line.get("calls/loss", np.nan)) for line in lines)
    train(config.load([*desk, f"run_dir={folder}", "resume=true", "train.steps=60"]))


def test_calls_of_what_is_no_kind_of_command_are_a_users_error(quick: list[str], tmp_path: Path) -> None:
    run = config.load([*quick, "demos.episodes=2"], command="demos")
    record(run)
    sft(config.load([*quick, "demos.episodes=2", "sft.steps=1", f"run_dir={tmp_path}/start"], command="sft"))
    with pytest.raises(ConfigError, match=r"algorithm\.calls\.kinds"):
        train(config.load([*quick, "demos.episodes=2", "algorithm.calls={share: 0}", f"run_dir={tmp_path}/run"]))
