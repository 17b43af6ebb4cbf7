"""What the critic is told to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_parl import SETTINGS, bandit, make

from vla_rl.algorithms.rows import Rows
from vla_rl.algorithms.settings import Parl
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
    algorithm = make(random_backbone, Parl(**{**vars(SETTINGS), "mc_weight": mc_weight}))
    algorithm.next_value = lambda grounded, observation: torch.full((len(grounded),), 0.8)  # type: ignore[method-assign]
    rows = Rows.of(cut_short(bandit(algorithm, ROWS, 0, images), followed), algorithm.policy, algorithm.learner.device)
    assert rows.next_grounded is not None
    assert len(rows.next_grounded) == (ROWS // 2 if followed else ROWS)
    target = algorithm.target_value(rows)
    assert target[::2].tolist() == pytest.approx([0.1 + 0.5 * 0.8] * 4)
    known = mc_weight * rows.returns + (1 - mc_weight) * rows.reward
    assert target[1::2].tolist() == pytest.approx(known[1::2].tolist())


@pytest.mark.parametrize("mc_weight", [0.5, 1.0])
def test_an_update_learns_from_what_was_cut_short(random_backbone: Path, mc_weight: float) -> None:
    algorithm = make(random_backbone, Parl(**{**vars(SETTINGS), "mc_weight": mc_weight}))
    metrics = algorithm.update(cut_short(bandit(algorithm, ROWS, 0), followed=mc_weight == 1.0))
    assert all(torch.isfinite(value).all() for value in metrics.values())
    assert metrics["q/return"].item() == pytest.approx(1.0)  # of whole returns alone


@pytest.mark.parametrize(("worst", "least"), [(-0.1, 0.1 - 0.5 * 0.1), (-20.0, 0.1 - 0.5 * 20), (0.0, 0.1)])
def test_an_observed_return_that_was_cut_short_is_a_bound_only_under_the_worst_that_may_follow(
    random_backbone: Path, worst: float, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = make(random_backbone, Parl(**{**vars(SETTINGS), "value_range": (worst, 30.0)}))
    rows = Rows.of(cut_short(bandit(algorithm, ROWS, 0), False), algorithm.policy, algorithm.learner.device)
    bounds = []
    monkeypatch.setattr("vla_rl.algorithms.losses.raise_to_return", lambda q, bound: (bounds.append(bound), q)[1])
    algorithm.weigh_candidates(algorithm.policy.logits(rows.grounded), rows)
    assert bounds[0][::2].tolist() == pytest.approx([least] * 4)
    assert bounds[0][1::2].tolist() == [1.0] * 4
