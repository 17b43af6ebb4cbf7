"""Where the things that a text mentions are, by all that was seen of them in an episode.

A pointer errs now and then: the gripper hides its thing, a twin stands beside it, a lamp has gone out. So a few tracks
are kept of each pointer. A track follows the places that the pointer thinks possible, and weighs what it thought of
them. Where the heaviest one goes on, that is where the thing is: a twin that was taken for it for a moment is a track
of little weight. Where it does not, the pointer's own place counts, but one that is elsewhere is doubted: most likely
the thing is not to be seen. So a button that has gone dark is not taken to be lit because another one of a similar
colour is. And a pointer that is elsewhere and not sure itself has only guessed: the thing is taken to be where it was
last, as a mark is that the block on it hides.

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
KNOWN, AWAY = 1.0, 0.12
"""Weight of a track, and half images from it, from which on what points elsewhere is doubted."""
DOUBT = 0.3
"""What it counts for, and such a pointer's confidence: as much as one at a lamp that is out has."""


def shape(cameras: int) -> tuple[int, int, int, int]:
    """[C, M, K, 4] of a row: each track's x and y in [-1, 1], its weight, and whether it went on in the last
    observation; 0 where there is none."""
    return cameras, MENTIONS, TRACKS, 4


@torch.no_grad()
def updated(before: torch.Tensor, peaks: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    """What is remembered after another observation, float32 [B, C, M, K, 4].

    Args:
        before: float32 [B, C, M, K, 4].
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
        heaviest, main = weight.max(-1, keepdim=True)
        # What no track leads to begins one, in the place of the lightest, if that is lighter.
        least, lightest = weight.masked_fill(taken, torch.inf).min(-1, keepdim=True)
        track = torch.where(followed, track, lightest)
        adds = torch.where((track != main) & (heaviest >= KNOWN), DOUBT * adds, adds)
        taking = possible[..., number].unsqueeze(-1) & (followed | (least <= adds))
        chosen = torch.zeros_like(taken).scatter(-1, track, taking)
        weight = torch.where(chosen, torch.where(followed, weight, 0.0) + adds, weight)
        at = torch.where(chosen.unsqueeze(-1), place, at)
        taken |= chosen
    return torch.cat([at, weight.unsqueeze(-1), taken.unsqueeze(-1)], -1)


def followed(
    remembered: torch.Tensor, places: torch.Tensor, confidence: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where things are, float32 [B, C, M, 2], and how surely, float32 [B, C, M].

    Args:
        remembered: float32 [B, C, M, K, 4], this observation included.
        places, confidence: of the pointers, float32 [B, C, M, 2] and [B, C, M].
    """
    weight = remembered[..., 2]
    heaviest = weight.argmax(-1)[..., None, None].expand(*weight.shape[:-1], 1, remembered.shape[-1])
    best = remembered.gather(-2, heaviest).squeeze(-2)
    goes_on = best[..., 3] > 0
    left = ~goes_on & (best[..., 2] >= KNOWN) & ((places - best[..., :2]).norm(dim=-1) > AWAY)
    known = goes_on | (left & (confidence <= SURE))
    return torch.where(known.unsqueeze(-1), best[..., :2], places), torch.where(left, DOUBT, confidence)


def through(before: torch.Tensor, peaks: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    """What is remembered after each of T observations that follow one another, float32 [T, C, M, K, 4].

    before: float32 [1, C, M, K, 4]. peaks, confidence: of the observations, in order, as `updated` takes them.
    """
    after = []
    for now in zip(peaks.split(1), confidence.split(1), strict=True):
        before = updated(before, *now)
        after.append(before)
    return torch.cat(after)
