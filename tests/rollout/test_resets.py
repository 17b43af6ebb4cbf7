"""Credit by counterfactual resets: against the exact contribution of a chain, and in a run that goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.gui import chains
from vla_rl import config, train
from vla_rl.envs import batched, token_factory
from vla_rl.envs.snapshots import snapshot_of
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
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

    def encode(self, seen: dict) -> "Uniform":
        self.noted = None
        return self

    def sample(self, features: object, count: int, noise):  # noqa: ANN001, ANN201
        return (noise * self._choices).long()


def test_the_mean_over_rollouts_is_the_exact_contribution_of_a_chain() -> None:
    """A chain of two steps with two buttons, which who does anything gets right by known chances."""
    from vla_rl.actions.choice import Choice  # noqa: PLC0415

    settings = {"steps": 2, "choices": 2, "codes": 0, "asides": 0, "named": 2, "horizon": 4, "reference": "uniform"}
    make = partial(gymnasium.make, "vla_rl/GuiNamedChain-v0", **settings)
    tokens = Choice().bind(make().action_space)
    make = token_factory(make, tokens)
    env = make()
    observation, _ = env.reset(seed=1)
    credit = ResetCredit(Resets(rollouts=400), make, Uniform(3), gamma=1.0, seed=0)  # type: ignore[arg-type]
    snapshot = snapshot_of(env)
    assert snapshot is not None
    # Buttons are right, wrong, or nothing is done: as in `chains.Chain` with one thing aside.
    chain = chains.Chain(2, 1, 1)
    start = chains.State(0, clean=True, left=4)
    right = int(env.unwrapped.goal.words.index(env.unwrapped.goal.facts["steps"][0][0])) + 1  # type: ignore[attr-defined]
    for action, act in ((right, "right"), (3 - right, "wrong"), (0, "aside")):
        expected = chains.contribution(chain, start, start.after(chain, act))
        found = credit.advantage(snapshot, batched(observation), np.array([action]), (0, action))
        assert found == pytest.approx(expected, abs=0.08), act
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
    from vla_rl.replay import ReplayBuffer  # noqa: PLC0415

    train(config.load(chain_run))
    generation = latest(tmp_path / "run")
    assert generation is not None
    replay = ReplayBuffer.of_saved(generation.folder / STATE / REPLAY)
    credit = replay.transitions(replay.sampleable_ids()).extra["credit"]
    assert 0.3 < credit[:, 1].mean() < 0.7
    assert (credit[credit[:, 1] == 0] == 0).all()
    assert (np.abs(credit[:, 0]) <= 1).all()


@pytest.mark.parametrize("wrong", ["train.groups=2", "replay.stack=2", "env=reach"])
def test_where_nothing_goes_back_it_says_so(chain_run: list[str], wrong: str) -> None:
    kept = chain_run if "env" not in wrong else [each for each in chain_run if not each.startswith(("env", "action_"))]
    if wrong == "env=reach":
        pytest.skip("reach has snapshots")
    with pytest.raises(ConfigError, match=wrong.split("=")[0]):
        train(config.load([*kept, wrong]))


def test_a_policy_is_all_it_needs() -> None:
    assert all(hasattr(Policy, name) for name in ("encode", "sample", "slots", "device"))
