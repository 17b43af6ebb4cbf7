"""The losses against what they must satisfy, and against naive references."""

import math

import pytest
import torch

from vla_rl.algorithms import losses

EDGES = torch.linspace(-0.1, 1.1, 52)
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2


def test_a_histogram_is_a_distribution_whose_mean_is_the_value() -> None:
    values = torch.linspace(0.0, 1.0, 21)
    histogram = losses.hl_gauss(values, EDGES, sigma=0.02)
    assert torch.allclose(histogram.sum(-1), torch.ones(21), atol=1e-5)
    assert torch.allclose((histogram * CENTRES).sum(-1), values, atol=2e-3)


def test_values_outside_the_range_are_clipped_to_it() -> None:
    histogram = losses.hl_gauss(torch.tensor([-5.0, 5.0]), EDGES, sigma=0.02)
    assert histogram[0].argmax() == 0
    assert histogram[1].argmax() == 50


def test_the_categorical_loss_is_least_at_the_target() -> None:
    target = losses.hl_gauss(torch.tensor([0.3]), EDGES, sigma=0.035)
    weight = torch.ones(1)
    best = losses.categorical_loss(target.clamp_min(1e-12).log()[None], target, weight)
    other = losses.categorical_loss(torch.zeros(1, 1, 51), target, weight)
    entropy = -(target * target.clamp_min(1e-12).log()).sum()
    assert best == pytest.approx(float(entropy), abs=1e-4)
    assert other == pytest.approx(math.log(51), abs=1e-4)


def test_the_target_mixes_return_and_backup_and_keeps_the_ends_apart() -> None:
    nan = float("nan")
    target = losses.td_target(
        reward_B=torch.tensor([0.0, 1.0, 0.0, 0.0]),
        discount_B=torch.tensor([0.729, 0.0, 0.9, 0.9]),  # running, terminated, truncated, unfinished
        next_value_B=torch.tensor([0.5, 0.7, 0.5, 0.5]),
        return_B=torch.tensor([0.4, 1.0, 0.0, nan]),
        mc_weight=0.5,
    )
    expected = [0.5 * 0.4 + 0.5 * 0.729 * 0.5, 1.0, 0.5 * 0.9 * 0.5, 0.9 * 0.5]
    assert target.tolist() == pytest.approx(expected)


def test_the_replayed_action_is_worth_what_was_seen() -> None:
    raised = losses.raise_to_return(torch.tensor([0.2, 0.9, 0.3]), torch.tensor([0.5, 0.5, float("nan")]))
    assert raised.tolist() == pytest.approx([0.5, 0.9, 0.3])


def test_weights_prefer_higher_values_and_sharpen_with_a_smaller_scale() -> None:
    q = torch.tensor([[0.0, 0.5, 1.0]])
    flat, sharp = (losses.candidate_weights(q, torch.tensor(scale)) for scale in (10.0, 0.01))
    assert torch.allclose(flat, torch.full((1, 3), 1 / 3), atol=0.05)
    assert sharp[0, 2] == pytest.approx(1.0)


def test_imitating_by_weights_moves_probability_to_the_heavy_candidate() -> None:
    logits = torch.zeros(1, 4, requires_grad=True)
    log_prob = torch.log_softmax(logits, -1)[:, torch.tensor([0, 1, 2])]
    losses.weighted_bc_loss(torch.tensor([[0.1, 0.8, 0.1]]), log_prob).backward()
    assert logits.grad is not None
    assert logits.grad[0].argmin() == 1  # descent raises the second most


def test_imitation_is_the_mean_over_the_selected_rows() -> None:
    log_prob = torch.tensor([-1.0, -2.0, -3.0, -4.0])
    selected = torch.tensor([True, False, True, False])
    loss = losses.imitation_loss(log_prob, selected, selected.float().mean())
    assert loss == pytest.approx(2.0)
    nothing = losses.imitation_loss(log_prob, torch.zeros(4, dtype=torch.bool), torch.zeros(()))
    assert nothing == 0.0


def test_concordance_counts_pairs_in_the_right_order() -> None:
    truth = torch.tensor([0.0, 0.0, 1.0, 2.0])
    assert losses.concordance(truth * 3 - 1, truth) == 1
    assert losses.concordance(-truth, truth) == -1
    assert losses.concordance(torch.tensor([0.2, 0.9, 0.5, 1.0]), truth) == pytest.approx(
        3 / 5
    )  # of 5 pairs one is wrong
    assert losses.concordance(torch.zeros(4), truth) == 0


def test_concordance_leaves_out_what_is_not_known() -> None:
    values = torch.tensor([0.0, 5.0, 1.0, 9.0])
    assert losses.concordance(values, torch.tensor([0.0, math.nan, 1.0, math.nan])) == 1
    assert losses.concordance(values, torch.full((4,), math.nan)).isnan()
    assert losses.concordance(values, torch.ones(4)).isnan()
