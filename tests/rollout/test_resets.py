"""Credit by counterfactual resets: against the exact contribution of a chain, and in a run that goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import sims  # noqa: F401  (registers the environments)
from sims.gui import chains
from tests.fakes import in_five_bins
from vla_rl import config, train
from vla_rl.actions.choice import Choice
from vla_rl.envs import batched, token_factory
from vla_rl.envs.snapshots import snapshot_of
from vla_rl.models.features import Features
from vla_rl.registry import ConfigError
from vla_rl.replay import ReplayBuffer
from vla_rl.resume import REPLAY
from vla_rl.rewards.credit import Resets
from vla_rl.rollout.branches import Met
from vla_rl.rollout.resets import ResetCredit
from vla_rl.runtime.begun import STATE
from vla_rl.runtime.checkpoint import latest
from vla_rl.specs import REMEMBERED


class Uniform:
    """A policy that does anything, each as likely; all that resets ask of one."""

    device = "cpu"

    def __init__(self, choices: int) -> None:
        self.slots, self._choices = [None], choices

    def encode(self, seen: dict[str, Any]) -> Features:
        rows = len(seen["task"])
        none = torch.zeros(rows, 0)
        return Features(none, none, none, none)

    def sample(self, features: Features, count: int, noise: torch.Tensor) -> torch.Tensor:
        return (noise * self._choices).long()


def test_the_mean_over_rollouts_is_the_exact_contribution_of_a_chain() -> None:
    """A chain of two steps with two buttons, which who does anything gets right by known chances."""
    settings = {"steps": 2, "choices": 2, "codes": 0, "asides": 0, "named": 2, "horizon": 4, "reference": "uniform"}
    make = partial(gymnasium.make, "vla_rl/GuiNamedChain-v0", **settings)
    tokens = Choice().bind(make().action_space)
    make = token_factory(make, tokens)
    env = make()
    observation, _ = env.reset(seed=1)
    credit = ResetCredit(Resets(rollouts=200), make, Uniform(3), gamma=1.0, seed=0)  # type: ignore[arg-type]
    snapshot = snapshot_of(env)
    assert snapshot is not None
    # Buttons are right, wrong, or nothing is done: as in `chains.Chain` with one thing aside.
    chain = chains.Chain(2, 1, 1)
    start = chains.State(0, clean=True, left=4)
    right = int(env.unwrapped.goal.words.index(env.unwrapped.goal.facts["steps"][0][0])) + 1  # type: ignore[attr-defined]
    for action, act in ((right, "right"), (3 - right, "wrong"), (0, "aside")):
        expected = chains.contribution(chain, start, start.after(chain, act))
        found = credit.advantage(Met(snapshot, batched(observation), None), np.array([action]), (0, action))
        assert found == pytest.approx(expected, abs=0.1), act
    met = Met(snapshot, batched(observation), None)
    again = [credit.advantage(met, np.array([right]), (7,)) for _ in range(2)]
    assert again[0] == again[1]
    credit.close()


class Remembers(Uniform):
    """One that remembers how often it has looked; `known` is what it knew at each look."""

    def __init__(self, choices: int) -> None:
        super().__init__(choices)
        self.known: list[list[float]] = []

    def encode(self, seen: dict[str, Any]) -> Features:
        features = super().encode(seen)
        known = seen[REMEMBERED]
        self.known.append(known[:, 0].tolist())
        features.remembered = torch.from_numpy(known + 1)
        return features


def test_rollouts_go_on_with_what_was_remembered_where_they_begin() -> None:
    make = partial(gymnasium.make, "vla_rl/GuiNamedChain-v0", steps=2, choices=2, codes=0, asides=0, named=2, horizon=4)
    make = token_factory(make, Choice().bind(make().action_space))
    env = make()
    observation, _ = env.reset(seed=1)
    policy = Remembers(3)
    credit = ResetCredit(Resets(rollouts=2), make, policy, gamma=1.0, seed=0)  # type: ignore[arg-type]
    snapshot = snapshot_of(env)
    assert snapshot is not None
    before = np.full((1, 1), 5, np.float32)
    met = Met(snapshot, batched(observation) | {REMEMBERED: before}, before + 1)
    assert credit.advantage(met, np.array([0]), (0,)) is not None
    own, *later = policy.known
    assert own == [5, 5]
    assert later[0] == [6] * len(later[0])
    assert max(later[-1]) > 6
    credit.close()


@pytest.fixture
def chain_run(quick: list[str], tmp_path: Path) -> list[str]:
    return [
        *quick,
        "env=gui_named_chain",
        "env.kwargs={codes: 0, named: 8, steps: 2, horizon: 4}",
        "action_space={type: choice}",
        "demos.episodes=0",
        "algorithm.demo_share=0",
        "algorithm.credit={type: resets, share: 0.5, rollouts: 2}",
        f"run_dir={tmp_path / 'run'}",
    ]


def test_a_run_keeps_the_credit_of_a_share_of_its_decisions(chain_run: list[str], tmp_path: Path) -> None:
    train(config.load(chain_run))
    generation = latest(tmp_path / "run")
    assert generation is not None
    replay = ReplayBuffer.of_saved(generation.folder / STATE / REPLAY)
    credit = replay.transitions(replay.sampleable_ids()).extra["credit"]
    assert 0.3 < credit[:, 1].mean() < 0.7
    assert (credit[credit[:, 1] == 0] == 0).all()
    assert (np.abs(credit[:, 0]) <= 1).all()


@pytest.mark.parametrize("wrong", ["train.groups=2", "replay.stack=2"])
def test_settings_under_which_nothing_goes_back_are_named(chain_run: list[str], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
        train(config.load([*chain_run, wrong]))


def test_an_environment_that_cannot_go_back_is_refused() -> None:
    with pytest.raises(ConfigError, match="snapshot"):
        ResetCredit(Resets(rollouts=1), in_five_bins, Uniform(5), gamma=1.0, seed=0)  # type: ignore[arg-type]
