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
from vla_rl.rollout.resets import ResetCredit
from vla_rl.runtime.begun import STATE
from vla_rl.runtime.checkpoint import latest


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
        found = credit.advantage(snapshot, batched(observation), np.array([action]), (0, action))
        assert found == pytest.approx(expected, abs=0.1), act
    again = [credit.advantage(snapshot, batched(observation), np.array([right]), (7,)) for _ in range(2)]
    assert again[0] == again[1]
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
