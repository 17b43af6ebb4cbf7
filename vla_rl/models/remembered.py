"""Where the things that a text mentions are, by all that was seen of them in an episode.

A pointer errs now and then: the gripper hides its thing, a twin stands beside it, a lamp has gone out. So a few tracks
are kept of each pointer. A track follows the places that the pointer thinks possible, and weighs what it thought of
them; the heaviest one is recalled. A twin that was taken for the thing for a moment is a track of little weight, and
where nothing is seen all tracks stay where they were.

Shapes: B rows, C cameras, M things that a text may mention, P places that a pointer thinks possible, K tracks.
"""

from __future__ import annotations

import torch

from vla_rl.models.pointers import MENTIONS

TRACKS = 4
"""K: the thing's, and those of a few twins."""
PEAKS = 2
"""P."""
SURE = 0.7
"""Confidence from which on a pointer is believed: it has less where its thing is hidden or dark."""
LEAST = 0.03
"""Weight from which on a place is thought possible."""
GATE = 0.25
"""Half images that a thing may have moved since it was seen last."""


def shape(cameras: int) -> tuple[int, int, int, int]:
    """[C, M, K, 3] of a row: each track's x and y in [-1, 1], and its weight; 0 where there is none."""
    return cameras, MENTIONS, TRACKS, 3


@torch.no_grad()
def updated(before: torch.Tensor, peaks: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    """What is remembered after another observation, float32 [B, C, M, K, 3].

    Args:
        before: float32 [B, C, M, K, 3].
        peaks: float32 [B, C, M, P, 3], the places that the pointers think possible now, and how much, in [0, 1].
        confidence: float32 [B, C, M].
    """
    at, weight = before[..., :2].clone(), before[..., 2].clone()
    taken = torch.zeros_like(weight, dtype=torch.bool)
    share = peaks[..., 2] * confidence.unsqueeze(-1)
    possible = (share >= LEAST) & (confidence > SURE).unsqueeze(-1)
    for number in range(peaks.shape[-2]):
        place, adds = peaks[..., number, :2].unsqueeze(-2), share[..., number].unsqueeze(-1)
        gap = (at - place).norm(dim=-1).masked_fill(taken | (weight == 0), torch.inf)
        nearest, track = gap.min(-1, keepdim=True)
        followed = nearest <= GATE
        # What no track leads to begins one, in the place of the lightest, if that is lighter.
        least, lightest = weight.masked_fill(taken, torch.inf).min(-1, keepdim=True)
        track = torch.where(followed, track, lightest)
        taking = possible[..., number].unsqueeze(-1) & (followed | (least <= adds))
        chosen = torch.zeros_like(taken).scatter(-1, track, taking)
        weight = torch.where(chosen, torch.where(followed, weight, 0.0) + adds, weight)
        at = torch.where(chosen.unsqueeze(-1), place, at)
        taken |= chosen
    return torch.cat([at, weight.unsqueeze(-1)], -1)


def recall(remembered: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the heaviest track of each thing is, float32 [B, C, M, 2], and its share of all weight [B, C, M]; 0 where
    nothing was seen."""
    weight = remembered[..., 2]
    most, track = weight.max(-1, keepdim=True)
    index = track.unsqueeze(-1).expand(*track.shape, 2)
    places = remembered[..., :2].gather(-2, index).squeeze(-2)
    return places, (most / weight.sum(-1, keepdim=True).clamp_min(LEAST)).squeeze(-1)


def through(before: torch.Tensor, peaks: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    """What is remembered after each of T observations that follow one another, float32 [T, C, M, K, 3].

    before: float32 [1, C, M, K, 3]. peaks, confidence: of the observations, in order, as `updated` takes them.
    """
    after = []
    for now in zip(peaks.split(1), confidence.split(1), strict=True):
        before = updated(before, *now)
        after.append(before)
    return torch.cat(after)
