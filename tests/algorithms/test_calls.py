"""What calls of tools are worth: what the critic learns of it, what the actor prefers, and that it is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.algorithms.test_pa_rl import BINS, SETTINGS, bandit
from tests.algorithms.test_pa_rl import make as made
from vla_rl import registry
from vla_rl.actions import Binned
from vla_rl.algorithms.calls import Pair, difference
from vla_rl.algorithms.configs import PaRl, Recap
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.models.policy import Policy
from vla_rl.models.settings import Pretrained
from vla_rl.rewards.calls import CallValue
from vla_rl.rewards.costs import Price
from vla_rl.runtime.learner import Learner
from vla_rl.runtime.serialization import load_state, save_state
from vla_rl.specs import COST, STATE

CALLS = np.eye(BINS, dtype=bool)[0]
"""The first of the kinds is a call."""


def make(folder: Path, asked: CallValue | None, **settings: Any) -> Any:
    chosen = replace(SETTINGS, calls=asked, actor_lr=1e-2, **settings)
    space = Binned(BINS).bind(spaces.Box(-1, 1, (2,)))
    policy = Policy.build(PolicySettings(Pretrained(str(folder)), HeadSettings(width=32)), space, ["front"], 4, seed=0)
    calls = None if asked is None else CALLS
    return chosen.build(policy=policy, learner=Learner(device="cpu", seed=1), calls=calls)


def pairs(algorithm: Any, paid: Any, spent: Any = lambda state: 0.0) -> None:
    """Of each state in 0 to 3, a call that pays and costs so much, beside another decision that does neither."""
    for seed in range(8):
        batch = bandit(algorithm, 4, seed=seed)
        rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
        for row, state in enumerate(batch.observation[STATE].argmax(1).tolist()):
            rng = np.random.default_rng([seed, row])
            tokens = np.array([[0, rng.integers(BINS)], [rng.integers(1, BINS), rng.integers(BINS)]])
            told = np.array([[paid(state), 0.0], [spent(state), 0.0]], np.float32)
            algorithm.calls.add(Pair(rows.grounded.rows(slice(row, row + 1)), tokens, *told))


def silent(batch: Any) -> Any:
    """Nothing pays or costs in these rows."""
    batch.reward[:], batch.returns[:] = 0, 0
    nothing = np.zeros(len(batch), np.float32)
    batch.extra, batch.extra_returns = {COST: nothing}, {COST: nothing}
    return batch


def share_of_calls(algorithm: Any, state: int) -> float:
    batch = bandit(algorithm, 64, seed=99)
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    first = torch.softmax(algorithm.policy.logits(rows.grounded)[0], -1)[:, 0].detach().numpy()
    return float(first[batch.observation[STATE].argmax(1) == state].mean())


def trained(algorithm: Any, updates: int) -> dict[str, float]:
    for seed in range(updates):
        metrics = algorithm.update(silent(bandit(algorithm, 32, seed=seed)))
    return {name: float(value) for name, value in metrics.items()}


def test_the_actor_calls_where_that_was_worth_it(random_backbone: Path) -> None:
    algorithm = make(random_backbone, CallValue(weight=1.0))
    pairs(algorithm, paid=lambda state: 0.8 if state < 2 else -0.05)
    metrics = trained(algorithm, 60)
    assert metrics["calls/agree"] > 0.6  # though the rows say that nothing ever pays
    assert share_of_calls(algorithm, 0) > 2 * share_of_calls(algorithm, 3)


def test_what_calls_cost_counts_by_the_rule_of_costs(random_backbone: Path) -> None:
    algorithm = make(random_backbone, CallValue(weight=1.0), cost=Price(1.0))
    pairs(algorithm, paid=lambda state: 0.5, spent=lambda state: 0.9 if state < 2 else 0.1)
    metrics = trained(algorithm, 60)
    assert metrics["calls/paid"] == pytest.approx(0.5)
    assert share_of_calls(algorithm, 3) > 2 * share_of_calls(algorithm, 0)


def test_the_critic_learns_the_difference(random_backbone: Path) -> None:
    algorithm = make(random_backbone, CallValue(batch=64))
    pairs(algorithm, paid=lambda state: 0.6)
    first, last = trained(algorithm, 1), trained(algorithm, 60)
    assert last["calls/loss"] < first["calls/loss"] / 3


def test_where_nothing_was_followed_up_the_critic_tells(random_backbone: Path) -> None:
    """The bandit pays a call in state 0 alone, and its rows are all that is known."""
    algorithm = make(random_backbone, CallValue(share=0.0, weight=1.0), warmup_updates=40)
    for seed in range(120):
        metrics = algorithm.update(bandit(algorithm, 64, seed=seed))
    assert "calls/value" not in metrics
    assert share_of_calls(algorithm, 0) > 2 * share_of_calls(algorithm, 3)


def test_proposed_are_calls_or_others(random_backbone: Path) -> None:
    algorithm = make(random_backbone, CallValue())
    rows = LearnerBatch.of(bandit(algorithm, 16, seed=0), algorithm.policy, algorithm.learner.device)
    logits = algorithm.policy.logits(rows.grounded)
    assert (algorithm.calls.proposed(logits, True, 5)[..., 0] == 0).all()
    assert (algorithm.calls.proposed(logits, False, 5)[..., 0] != 0).all()


def test_a_run_that_goes_on_learns_from_the_same(random_backbone: Path, tmp_path: Path) -> None:
    one, other = make(random_backbone, CallValue()), make(random_backbone, CallValue())
    pairs(one, paid=lambda state: 0.3)
    trained(one, 3)
    one.calls.owed, one.calls.followed = 1.5, 16
    save_state(tmp_path, {"algorithm": one.state_dict()})
    other.load_state_dict(load_state(tmp_path)["algorithm"])
    other.policy.load_state_dict(one.policy.state_dict())
    assert (other.calls.owed, other.calls.followed) == (1.5, 16)
    batches = [silent(bandit(one, 32, seed=7)), silent(bandit(one, 32, seed=7))]
    first, second = one.update(batches[0]), other.update(batches[1])
    assert {name: float(value) for name, value in first.items()} == {
        name: float(value) for name, value in second.items()
    }


def test_nothing_of_it_is_there_when_it_is_off(random_backbone: Path) -> None:
    plain, off = made(random_backbone), make(random_backbone, None)
    assert off.calls is None
    assert off.state_dict().keys() == plain.state_dict().keys()
    assert not any(name.startswith("calls/") for name in trained(off, 2))


def test_the_settings_come_back_from_a_checkpoint() -> None:
    settings = PaRl(calls=CallValue(kinds=("call", "zoom"), share=0.5))
    told = registry.describe(settings, "algorithms")
    assert registry.build("algorithms", json.loads(json.dumps(told))) == settings
    assert registry.build("algorithms", registry.describe(PaRl(), "algorithms")) == PaRl()


def test_the_difference_is_the_calls() -> None:
    assert difference(torch.tensor([[0.7, 0.2]])).tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("wrong", [{"kinds": ()}, {"share": 1.5}, {"rollouts": 0}, {"temperature": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CallValue(**wrong)
    with pytest.raises(ValueError, match="calls"):
        Recap(calls=CallValue())
    assert PaRl().calls is None
