"""What the critic is told to learn."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pa_rl import SETTINGS, bandit, make

from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.replay import Batch

ROWS = 8


def cut_short(batch: Batch, followed: bool) -> Batch:
    """Every second row's episode was cut short, without a reward yet; what follows is known of those rows alone."""
    cut = np.arange(len(batch)) % 2 == 0
    batch.reward, batch.returns = np.where(cut, np.float32(0.1), batch.reward), np.where(cut, np.float32(0.1), 1)
    batch.returns = batch.returns.astype(np.float32)
    batch.discount = np.where(cut, np.float32(0.5), np.float32(0))
    batch.rest = batch.discount.copy()
    if followed:
        some = batch.rows(cut)
        batch.next_observation, batch.next_features, batch.followed = some.next_observation, some.next_features, cut
    return batch


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("followed", [False, True])
@pytest.mark.parametrize("mc_weight", [0.5, 1.0])
def test_a_time_limit_is_not_worth_nothing(
    random_backbone: Path, mc_weight: float, followed: bool, images: bool
) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "mc_weight": mc_weight}))
    algorithm.next_value = lambda rows: torch.full((len(rows.next_grounded),), 0.8)  # type: ignore[method-assign]
    rows = LearnerBatch.of(
        cut_short(bandit(algorithm, ROWS, 0, images), followed), algorithm.policy, algorithm.learner.device
    )
    assert rows.next_grounded is not None
    assert len(rows.next_grounded) == (ROWS // 2 if followed else ROWS)
    target = algorithm.target_value(rows)
    assert target[::2].tolist() == pytest.approx([0.1 + 0.5 * 0.8] * 4)
    known = mc_weight * rows.returns + (1 - mc_weight) * rows.reward
    assert target[1::2].tolist() == pytest.approx(known[1::2].tolist())


@pytest.mark.parametrize("mc_weight", [0.5, 1.0])
def test_an_update_learns_from_what_was_cut_short(random_backbone: Path, mc_weight: float) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "mc_weight": mc_weight}))
    metrics = algorithm.update(cut_short(bandit(algorithm, ROWS, 0), followed=mc_weight == 1.0))
    assert metrics.pop("q/orders_states").isnan(), "whole returns, which here are all alike, have no order"
    assert all(torch.isfinite(value).all() for value in metrics.values())
    assert metrics["q/return"].item() == pytest.approx(1.0)  # of whole returns alone


@pytest.mark.parametrize(("worst", "least"), [(-0.1, 0.1 - 0.5 * 0.1), (-20.0, 0.1 - 0.5 * 20), (0.0, 0.1)])
def test_an_observed_return_that_was_cut_short_is_a_bound_only_under_the_worst_that_may_follow(
    random_backbone: Path, worst: float, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "value_range": (worst, 30.0)}))
    rows = LearnerBatch.of(cut_short(bandit(algorithm, ROWS, 0), False), algorithm.policy, algorithm.learner.device)
    bounds = []
    monkeypatch.setattr("vla_rl.algorithms.losses.raise_to_return", lambda q, bound: (bounds.append(bound), q)[1])
    algorithm.weigh_candidates(algorithm.policy.logits(rows.grounded), rows)
    assert bounds[0][::2].tolist() == pytest.approx([least] * 4)
    assert bounds[0][1::2].tolist() == [1.0] * 4


@pytest.mark.parametrize("backup", ["max", "mean"])
@pytest.mark.parametrize(("value_range", "seen", "held"), [((-20.0, 20.0), 19.6, 19.6), ((-20.0, 20.0), -3.0, -3.0)])
def test_the_backup_is_held_to_the_value_range(
    random_backbone: Path, value_range: tuple[float, float], seen: float, held: float, backup: str
) -> None:
    wide = {"mc_weight": 0.0, "value_range": value_range, "backup": backup}
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), **wide}))
    algorithm.target_q = lambda grounded, tokens: torch.full(tokens.shape[:2], seen)  # type: ignore[assignment]
    batch = bandit(algorithm, ROWS, 0)
    batch.discount[:] = 0.9
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    np.testing.assert_allclose(algorithm.target_value(rows), batch.reward + 0.9 * held, rtol=1e-6)


@pytest.mark.parametrize(("returns", "reward", "discount"), [(7.0, 0.0, 0.9), (np.nan, -3.0, 0.9), (np.nan, 2.0, 0.0)])
def test_what_the_critic_cannot_tell_is_warned_of_once(
    random_backbone: Path, returns: float, reward: float, discount: float
) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "mc_weight": 0.5}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        algorithm.update(bandit(algorithm, ROWS, 0))
    batch = bandit(algorithm, ROWS, 0)
    batch.returns, batch.reward, batch.discount = batch.returns.copy(), batch.reward.copy(), batch.discount.copy()
    batch.returns[3], batch.reward[3], batch.discount[3] = returns, reward, discount
    with pytest.warns(UserWarning, match=r"algorithm.value_range: the environment gave (a return|rewards) of"):
        algorithm.update(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        algorithm.update(batch)
