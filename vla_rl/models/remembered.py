"""Where the things that a text mentions mostly were, so far in an episode.

A pointer errs now and then: the gripper hides its thing, a twin stands beside it, a lamp has gone out. Of each pointer
a few places are kept that it was sure of, and how often it named each; the one that it named most is what is recalled.
It is right for things that stand still, and stays behind those that move, so that heads read it beside what the
pointer says now.

Shapes: B rows, C cameras, M things that a text may mention, K places kept.
"""

from __future__ import annotations

import torch

from vla_rl.models.pointers import MENTIONS, SLOTS

KEPT = 4
"""K: the right place, and those of a few twins."""
SURE = 0.5
"""Confidence from which on a place is kept."""
SAME = 0.1
"""Half images: so near, two places are one."""
RATE = 0.3
"""A place that is named again moves so far towards it, once it was named a few times; before, it is the mean."""


def shape(cameras: int) -> tuple[int, int, int, int]:
    """[C, M, K, 3] of a row: x and y in [-1, 1], and how often, in sums of confidence; 0 where nothing is kept."""
    return cameras, MENTIONS, KEPT, 3


@torch.no_grad()
def updated(before: torch.Tensor, places: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    """What is remembered after another observation.

    Args:
        before: float32 [B, C, M, K, 3], what was remembered.
        places, confidence: as `Features` has them; the newest view of each camera counts.
    """
    now_BCM2 = _newest(places.unflatten(1, (-1, SLOTS)), before)
    sure_BCM = _newest(confidence.unflatten(1, (-1, SLOTS)), before)
    at, count = before[..., :2], before[..., 2]
    gap = (at - now_BCM2.unsqueeze(-2)).norm(dim=-1).masked_fill(count == 0, torch.inf)
    nearest, where = gap.min(-1, keepdim=True)
    known = nearest <= SAME
    # What is new takes the place that was named least.
    row = torch.where(known, where, count.argmin(-1, keepdim=True))
    had = torch.where(known, count.gather(-1, row), 0.0)
    counted = had + sure_BCM.unsqueeze(-1)
    rate = torch.where(known, (sure_BCM.unsqueeze(-1) / counted.clamp_min(1e-6)).clamp_min(RATE), 1.0)
    index = row.unsqueeze(-1).expand(*row.shape, 2)
    old = at.gather(-2, index)
    moved = old + rate.unsqueeze(-1) * (now_BCM2.unsqueeze(-2) - old)
    after = before.clone()
    after[..., :2].scatter_(-2, index, moved)
    after[..., 2].scatter_(-1, row, counted)
    return torch.where((sure_BCM > SURE)[..., None, None], after, before)


def recall(remembered: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The place that each pointer named most, float32 [B, C, M, 2], and its share of what is remembered [B, C, M]: 0
    where nothing is."""
    count = remembered[..., 2]
    most, where = count.max(-1, keepdim=True)
    index = where.unsqueeze(-1).expand(*where.shape, 2)
    places = remembered[..., :2].gather(-2, index).squeeze(-2)
    return places, (most / count.sum(-1, keepdim=True).clamp_min(1e-6)).squeeze(-1)


def before_each(places: torch.Tensor, confidence: torch.Tensor, cameras: int) -> torch.Tensor:
    """What is remembered before each observation of an episode, float32 [T, C, M, K, 3], from the features of all of
    them in order."""
    known = [torch.zeros(1, *shape(cameras), device=places.device)]
    for time in range(len(places) - 1):
        known.append(updated(known[-1], places[time : time + 1], confidence[time : time + 1]))
    return torch.cat(known)


def _newest(by_view: torch.Tensor, remembered: torch.Tensor) -> torch.Tensor:
    """Of [B, V, S, ...], the newest view of each camera and the slots of what a text mentions: [B, C, M, ...]."""
    cameras = remembered.shape[1]
    stack = by_view.shape[1] // cameras
    return by_view[:, stack - 1 :: stack, :MENTIONS]
