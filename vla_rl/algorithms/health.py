"""What a critic knows, from numbers that learning has at hand: pure functions.

Shapes: B rows of a batch, N decisions a row, E critics.
"""

from __future__ import annotations

import torch
from torch import Tensor


def concordance(values_B: Tensor, truth_B: Tensor) -> Tensor:
    """How well values order the rows, in [-1, 1]: of all pairs whose truth differs, the share that they order alike
    less the share that they order the other way round; NaN where no pair differs. Unknown truth (NaN) is left out."""
    order_BB = torch.nan_to_num(torch.sign(truth_B[:, None] - truth_B))
    return (torch.sign(values_B[:, None] - values_B) * order_BB).sum() / order_BB.abs().sum()


def agreement(q_EBN: Tensor) -> Tensor:
    """How alike the members order the decisions of a state: the mean correlation between two members over decisions,
    all states together; 0 where what decisions differ by is each member's own noise, near 1 where all say the same."""
    members = len(q_EBN)
    apart = q_EBN - q_EBN.mean(-1, keepdim=True)
    own, shared = apart.square().mean(), apart.mean(0).square().mean()
    return (members * shared / own - 1) / (members - 1)
