"""What tells cheaply what a critic knows, on numbers whose answer is known."""

import math

import pytest
import torch

from vla_rl.algorithms.health import agreement, concordance


def test_concordance_counts_pairs_in_the_right_order() -> None:
    truth = torch.tensor([0.0, 0.0, 1.0, 2.0])
    assert concordance(truth * 3 - 1, truth) == 1
    assert concordance(-truth, truth) == -1
    assert concordance(torch.tensor([0.2, 0.9, 0.5, 1.0]), truth) == pytest.approx(3 / 5)  # of 5 pairs one is wrong
    assert concordance(torch.zeros(4), truth) == 0


def test_concordance_leaves_out_what_is_not_known() -> None:
    values = torch.tensor([0.0, 5.0, 1.0, 9.0])
    assert concordance(values, torch.tensor([0.0, math.nan, 1.0, math.nan])) == 1
    assert concordance(values, torch.full((4,), math.nan)).isnan()
    assert concordance(values, torch.ones(4)).isnan()


@pytest.mark.parametrize("members", [2, 5])
def test_members_agree_as_far_as_what_they_share_outweighs_their_own_noise(members: int) -> None:
    torch.manual_seed(0)
    shared, own = torch.randn(500, 16), torch.randn(members, 500, 16)
    states = 10 * torch.randn(members, 500, 1)  # what a member thinks of a whole state tells nothing of its decisions
    assert agreement(shared.expand(members, -1, -1) + states) == pytest.approx(1.0, abs=1e-4)
    assert agreement(own + states) == pytest.approx(0.0, abs=0.03)
    assert agreement(shared + own + states) == pytest.approx(0.5, abs=0.03)


def test_members_may_contradict_each_other() -> None:
    shared = torch.randn(20, 16)
    assert agreement(torch.stack([shared, -shared])) == pytest.approx(-1.0)
