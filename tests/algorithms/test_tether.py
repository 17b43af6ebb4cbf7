"""A policy that stays near its start: the weight that a budget asks for, and that the budget is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.algorithms.test_pa_rl import SETTINGS, bandit, make
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.pa_rl import PaRlAlgorithm
from vla_rl.algorithms.tether import FIRST_WEIGHT, LEAST, MOST, RATE, HeldFrames, Weight
from vla_rl.replay import ReplayBuffer
from vla_rl.specs import STATE, TASK


def tethered(folder: Path, held: HeldFrames | None = None, **settings: Any) -> PaRlAlgorithm:
    """An algorithm that is to stay near its policy of now."""
    plain = make(folder)
    wanted = replace(SETTINGS, actor_lr=3e-3, warmup_updates=50, **settings)
    return wanted.build(
        policy=plain.policy,
        learner=plain.learner,
        reference=plain.policy.frozen_copy(),
        **({"held": held} if held else {}),
    )


def away(algorithm: PaRlAlgorithm) -> float:
    """KL(policy || start) on the states of the bandit, each as often."""
    rows = LearnerBatch.of(bandit(algorithm, 64, seed=99), algorithm.policy, algorithm.learner.device)
    assert algorithm.tether is not None
    with torch.no_grad():
        return float(algorithm.tether.divergence(algorithm.policy.logits(rows.grounded), rows))


def test_a_weight_follows_the_divergence_in_bounded_steps_and_a_fixed_one_does_not() -> None:
    weight, fixed = Weight(0.0, budget=0.1), Weight(0.2, budget=None)
    expected = FIRST_WEIGHT
    for divergence in (0.0, 0.05, 0.1, 0.15, 5.0):
        weight.follow(divergence)
        fixed.follow(divergence)
        expected *= math.exp(RATE * min(divergence / 0.1 - 1, 1.0))
        assert weight.value == pytest.approx(expected)
    assert fixed.value == 0.2
    for _ in range(1000):
        weight.follow(0.0)
    assert weight.value == pytest.approx(LEAST * FIRST_WEIGHT)
    for _ in range(1000):
        weight.follow(9.0)
    assert weight.value == pytest.approx(MOST * FIRST_WEIGHT)


def test_the_policy_stays_within_its_budget_and_without_one_it_does_not(random_backbone: Path) -> None:
    kept, free = tethered(random_backbone, kl_budget=0.1), tethered(random_backbone, kl_weight=1e-9)
    told = []
    for step in range(250):
        told.append(kept.update(bandit(kept, 64, seed=step)).get("policy/kl"))
        free.update(bandit(free, 64, seed=step))
    assert np.mean([float(each) for each in told[-50:] if each is not None]) == pytest.approx(0.1, rel=0.25)
    assert away(kept) < 0.2
    assert away(free) > 0.5


def held_state(algorithm: PaRlAlgorithm) -> HeldFrames:
    """Frames of one state that no batch of the bandit shows."""
    policy = algorithm.policy
    replay = ReplayBuffer(
        capacity=16,
        images={"front": (64, 64, 3)},
        state_dim=policy.state_dim,
        slots=2,
        choices=5,
        features=policy.cached_features(),
        digest=policy.digest(),
        lanes=1,
    )
    seen = {
        "observation.images.front": np.zeros((1, 64, 64, 3), np.uint8),
        STATE: np.full((1, policy.state_dim), 0.5, np.float32),
        TASK: ["x"],
    }
    no, yes = np.zeros(1, bool), np.ones(1, bool)
    features = policy.ground(seen).pack()
    nothing = np.zeros((1, 2), np.int64), np.zeros(1, np.float32)
    replay.add(seen, *nothing, yes, no, no, features=features)
    replay.add(seen, *nothing, no, no, yes, features=features)
    return HeldFrames(replay, policy)


def test_what_is_held_stays_as_it_was_while_the_rest_is_learnt(random_backbone: Path) -> None:
    plain = make(random_backbone)
    held = held_state(plain)
    rows = held.draw(4, plain.learner)
    assert len(rows) == 4
    apart = {}
    for name, settings in {"held": {"held_budget": 0.01}, "free": {"kl_weight": 1e-9}}.items():
        algorithm = tethered(random_backbone, held, **settings)
        for step in range(200):
            metrics = algorithm.update(bandit(algorithm, 64, seed=step))
        assert algorithm.tether is not None
        with torch.no_grad():
            apart[name] = float(algorithm.tether.divergence(algorithm.policy.logits(rows.grounded), rows))
        assert ("policy/held_kl" in metrics) == (name == "held")
        assert away(algorithm) > 0.3, "which nothing holds"
    assert apart["held"] < 0.02 < 0.1 < apart["free"]


def test_the_weight_goes_on_where_it_was(random_backbone: Path) -> None:
    first, second = (tethered(random_backbone, kl_budget=0.001) for _ in range(2))
    for step in range(60):
        first.update(bandit(first, 64, seed=step))
    second.load_state_dict(first.state_dict())
    assert first.tether is not None
    assert second.tether is not None
    assert second.tether.weights["kl"].value == first.tether.weights["kl"].value != FIRST_WEIGHT


def test_without_a_tether_there_is_no_reference_and_wrong_budgets_are_named() -> None:
    assert not SETTINGS.needs.reference
    assert replace(SETTINGS, kl_budget=0.1).needs.reference
    assert replace(SETTINGS, held_budget=0.1).needs.held
    for name in ("kl_budget", "held_budget"):
        with pytest.raises(ValueError, match=f"{name}: above 0, or null for none, got 0"):
            replace(SETTINGS, **{name: 0.0})


def test_a_draw_is_repeated_by_the_learners_noise(random_backbone: Path) -> None:
    algorithm = make(random_backbone)
    held, state = held_state(algorithm), algorithm.learner.state_dict()
    held.draw(3, algorithm.learner)
    after = algorithm.learner.uniform(2)
    algorithm.learner.load_state_dict(state)
    held.draw(3, algorithm.learner)
    assert torch.equal(after, algorithm.learner.uniform(2))
