"""The losses, targets and measures of off-policy actor-critic on token actions: pure functions.

Shapes: B rows of a batch, N candidates, E critics, Z value bins.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def hl_gauss(values_B: Tensor, edges: Tensor, sigma: float) -> Tensor:
    """Each value as a histogram: a Gaussian of width `sigma` cut at the bins' edges [Z + 1] -> [B, Z].

    Values are clipped to the range of the edges. Source: Farebrother et al. 2024 (arXiv 2403.03950), eq. 3.4.
    """
    values = values_B.clamp(edges[0], edges[-1]).unsqueeze(-1)
    cumulative = torch.special.ndtr((edges - values) / sigma)
    mass = cumulative[..., 1:] - cumulative[..., :-1]
    return mass / (cumulative[..., -1:] - cumulative[..., :1])


def categorical_loss(logits_EBZ: Tensor, target_BZ: Tensor, weight_B: Tensor) -> Tensor:
    """Cross-entropy of every critic to one target histogram; mean over critics and weighted rows."""
    cross_entropy = -(target_BZ * F.log_softmax(logits_EBZ, dim=-1)).sum(-1)
    return (cross_entropy * weight_B).mean()


def backup_value(q_BN: Tensor, backup: Literal["max", "mean"], value_range: tuple[float, float]) -> Tensor:
    """The value [B] of states from those of sampled decisions, within the range that a histogram can tell."""
    value_B = q_BN.amax(1) if backup == "max" else q_BN.mean(1)
    return value_B.clamp(*value_range)


def td_target(reward_B: Tensor, discount_B: Tensor, next_value_B: Tensor, return_B: Tensor, mc_weight: float) -> Tensor:
    """w G + (1 - w) (R_n + discount V'), where the observed return G is known; the backup alone elsewhere.

    `discount` is gamma^m and 0 after termination; G is NaN while its episode runs.
    """
    backup = reward_B + discount_B * next_value_B
    known = torch.isfinite(return_B)
    return torch.where(known, mc_weight * torch.nan_to_num(return_B) + (1.0 - mc_weight) * backup, backup)


def whole(return_B: Tensor, rest_B: Tensor) -> Tensor:
    """The returns where they are the whole, and NaN where something would have followed, by its discount `rest`."""
    return torch.where(rest_B > 0, torch.nan, return_B)


def raise_to_return(q_B: Tensor, least_B: Tensor) -> Tensor:
    """The replayed action is worth at least the least that can have followed from it (NaN: not known)."""
    return torch.where(torch.isfinite(least_B), torch.maximum(q_B, torch.nan_to_num(least_B)), q_B)


def credited(guess_B: Tensor, credit_B2: Tensor | None) -> Tensor:
    """By how much decisions are better than usual: what credit says, as far as it is to be believed, else the guess."""
    return guess_B if credit_B2 is None else torch.lerp(guess_B, credit_B2[:, 0], credit_B2[:, 1])


def candidate_weights(q_BN: Tensor, scale: Tensor) -> Tensor:
    """softmax(Q / scale) over the candidates; `scale` > 0, of all rows or [B, 1] of each, is in units of value."""
    return torch.softmax(q_BN / scale, dim=-1)


def advantage_weights(advantage_B: Tensor, scale: Tensor, most: float) -> Tensor:
    """exp(A / scale), at most `most` (arXiv 2006.09359, 2110.06169); `scale` > 0 is in units of value."""
    return torch.exp(advantage_B / scale).clamp_max(most)


def expectile_loss(error_B: Tensor, expectile: float, weight_B: Tensor) -> Tensor:
    """|tau - 1(u < 0)| u^2 of u = target - prediction; the mean over weighted rows (arXiv 2110.06169, eq. 5)."""
    side = torch.where(error_B < 0, 1.0 - expectile, expectile)
    return (side * error_B.square() * weight_B).mean()


def difference_loss(told_EB2: Tensor, found_B2: Tensor) -> Tensor:
    """How far the difference of two decisions of a state, as each critic tells it, is from what was found: squared."""
    told, found = told_EB2[..., 0] - told_EB2[..., 1], found_B2[:, 0] - found_B2[:, 1]
    return (told - found).square().mean()


def weighted_bc_loss(weights_BN: Tensor, log_prob_BN: Tensor) -> Tensor:
    """Imitate the candidates by their weights: -sum_i w_i log pi(c_i | s), mean over rows."""
    return -(weights_BN.detach() * log_prob_BN).sum(-1).mean()


def went_well(demo_B: Tensor, return_B: Tensor, rest_B: Tensor, least: float) -> Tensor:
    """Which rows are worth imitating, bool [B]: demonstrations, and what a return of at least `least` followed.

    What a return counts for that is not whole is not known, and so never enough.
    """
    return demo_B | (whole(return_B, rest_B) >= least)


def imitation_loss(log_prob_B: Tensor, selected_B: Tensor, share: Tensor) -> Tensor:
    """-log pi(label | s), the mean over the selected rows.

    `share` is the selected rows' share of the whole batch, over all processes: dividing by it, and not by
    the own rows' count, makes the mean of the processes' losses the loss of the joint batch.
    """
    selected = selected_B.to(log_prob_B.dtype)
    return -(log_prob_B * selected).mean() / share.clamp_min(1e-6)


def concordance(values_B: Tensor, truth_B: Tensor) -> Tensor:
    """How well values order the rows, in [-1, 1]: of all pairs whose truth differs, the share that they order alike
    less the share that they order the other way round; NaN where no pair differs. Unknown truth (NaN) is left out."""
    order_BB = torch.nan_to_num(torch.sign(truth_B[:, None] - truth_B))
    return (torch.sign(values_B[:, None] - values_B) * order_BB).sum() / order_BB.abs().sum()


def critic_measures(q_B: Tensor, target_B: Tensor, return_B: Tensor) -> dict[str, Tensor]:
    """What a critic makes of rows beside its targets and the returns that followed, NaN where those are not known."""
    known = torch.isfinite(return_B)
    return {
        "q/mean": q_B.mean(),
        "q/target": target_B.mean(),
        "q/return": masked_mean(return_B, known),
        "q/minus_return": masked_mean(q_B - return_B, known),
        "q/orders_states": concordance(q_B, return_B),
    }


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values that the mask selects; NaN where it selects none."""
    return torch.where(mask, values, 0.0).sum() / mask.sum()
