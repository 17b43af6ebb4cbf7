"""What was done in an episode, told by the words of its text: where what each of them names is, and was the hand there.

One picture does not tell how far one is. What a text asks for is done word by word, and the hand was at the things that
its words name. So of each word there is kept where its thing is seen, and how surely the hand has been there: in the
last turn, lately, and ever. The hand is what `<self>` points at: a gripper's tip, or the cursor. No weights.

A pointer is asked for each word by itself, which has no end of mentions; `Pointers` has `MENTIONS` for a whole text.

Shapes: B rows, C cameras, W words, S slots of the pointers.
"""

from __future__ import annotations

import torch

NAMED = 6
"""What is told of a word now: its thing's x, y, half width, half height, confidence, and match."""
FIELDS = NAMED + 4
"""What is kept of a word beside that: how surely the hand went to it in the last turn, lately, and ever; and how surely
its thing was ever seen."""
ASKED = "press {}"
"""How a pointer is asked for a word. Of the shipped backbone's it finds 92% of the buttons of GuiFlow."""
TOLD = 3
"""What `summary` tells of a camera."""
FADES = 0.6
"""What is left after a turn of what was done lately: of what was done in turn, the latest counts most."""
MARGIN = 0.06
"""How far beyond a thing's box, in half images, the hand still counts as at it."""
MATCH = 10.0
"""By how much a pointer's largest logit is divided, which tells better than its confidence whether a word is there."""


def shape(cameras: int, words: int) -> tuple[int, int, int]:
    """[C, W, FIELDS] of a row; 0 where there is no such word, and at an episode's beginning."""
    return cameras, words, FIELDS


@torch.no_grad()
def updated(before: torch.Tensor, named: torch.Tensor, hand: torch.Tensor) -> torch.Tensor:
    """What is kept after another observation, float32 [B, C, W, FIELDS].

    Args:
        before: float32 [B, C, W, FIELDS], what was kept after the observation before.
        named: float32 [B, C, W, NAMED], what is told of each word now; 0 where there is none.
        hand: float32 [B, C, 3], x, y and confidence of the hand now: where it has gone since.
    """
    place, extent, seen = before[..., 0:2], before[..., 2:4], before[..., 4]
    gap = (hand[:, :, None, :2] - place) / (extent + MARGIN)
    done = torch.exp(-0.5 * gap.square().sum(-1)) * seen * hand[..., 2:]
    _, lately, ever, shown = before[..., NAMED:].unbind(-1)
    kept = [done, torch.maximum(FADES * lately, done), torch.maximum(ever, done), torch.maximum(shown, named[..., 5])]
    return torch.cat([named, torch.stack(kept, -1)], -1)


def through(before: torch.Tensor, named: torch.Tensor, hand: torch.Tensor) -> torch.Tensor:
    """What is kept after each of T observations that follow one another, float32 [T, C, W, FIELDS].

    before: float32 [1, C, W, FIELDS]. named, hand: of the observations, in order, as `updated` takes them.
    """
    after = []
    for now in zip(named.split(1), hand.split(1), strict=True):
        before = updated(before, *now)
        after.append(before)
    return torch.cat(after)


def summary(kept: torch.Tensor) -> torch.Tensor:
    """How far one is, float32 [B, C * TOLD]: in how many words; where in the text the latest one is; and how surely."""
    done, lately, ever = kept[..., NAMED], kept[..., NAMED + 1], kept[..., NAMED + 2]
    at = torch.linspace(0, 1, kept.shape[2], device=kept.device)
    latest = (lately.square() * at).sum(-1) / lately.square().sum(-1).clamp_min(1e-3)
    return torch.stack([ever.sum(-1) / 4, latest, done.amax(-1)], -1).flatten(1)
