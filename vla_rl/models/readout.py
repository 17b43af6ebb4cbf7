"""What heads and critics read of features, in one flat row.

Shapes: B rows, V views, S slots of the pointers, R readout, P state, M marks, F flags of a mark.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from vla_rl.models.features import Features
from vla_rl.models.pointers import SLOTS
from vla_rl.models.turns import TOLD, summary
from vla_rl.specs import Mark

DIFFERENCE_GAIN = 4.0
"""Differences of places are small where it matters most: near contact. Extents are small altogether."""
POINTER_FLOOR, STATE_FLOOR = 0.05, 1e-3
"""What spreads less in the demonstrations is not stretched further: half images; the state's own units."""
LIMIT = 10.0
MARGIN = 0.08
"""How far beyond a thing's box, in half images, a mark still counts as on it."""


class Readout(nn.Module):
    """Confidence-gated places, extents and differences, confidences, and the state, normalised: what all heads read.

    Differences: of every pair of slots within a view, and of each slot between successive frames of a camera.
    Of places that the state tells of (`marks`): how near each is to what each slot points at in its camera's newest
    view, and what has been done there. Of a policy that remembers turns, how far it is. No weights, so that policy and
    critic share one.

    Args:
        cameras: their names, in the order of the views. stack: views of each, the newest last. state_dim: P.
        marks: those of other cameras are passed over. told: whether features tell of turns.
    """

    mean: torch.Tensor
    std: torch.Tensor
    pairs: torch.Tensor

    def __init__(
        self, cameras: Sequence[str], stack: int, state_dim: int, marks: Sequence[Mark] = (), told: bool = False
    ) -> None:
        super().__init__()
        views = len(cameras) * stack
        pairs = [(v * SLOTS + i, v * SLOTS + j) for v in range(views) for i in range(SLOTS) for j in range(i)]
        for view in range(views):
            if view % stack:
                pairs += [(view * SLOTS + s, (view - 1) * SLOTS + s) for s in range(SLOTS)]
        self.register_buffer("pairs", torch.tensor(pairs, dtype=torch.long).T.contiguous(), persistent=False)
        shown = [[mark for mark in marks if mark.camera == camera] for camera in cameras]
        parts = [Marks(each, (camera + 1) * stack - 1) for camera, each in enumerate(shown) if each]
        self.marks = nn.ModuleList(parts)
        self.told = told
        more = sum(part.size for part in parts) + (TOLD * len(cameras) if told else 0)
        self.size = views * SLOTS * 5 + 2 * len(pairs) + more + state_dim
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("std", torch.ones(self.size))

    def forward(self, features: Features) -> torch.Tensor:
        """float32 [B, R], each entry in units of its spread in the demonstrations, at most LIMIT."""
        return ((self.raw(features) - self.mean) / self.std).clamp(-LIMIT, LIMIT)

    def raw(self, features: Features) -> torch.Tensor:
        """float32 [B, R] in the units of image and state."""
        confidence = features.confidence
        gated = features.places * confidence.unsqueeze(-1)
        extents = features.extents * (confidence * DIFFERENCE_GAIN).unsqueeze(-1)
        i, j = self.pairs
        both = (confidence[:, i] * confidence[:, j] * DIFFERENCE_GAIN).unsqueeze(-1)
        differences = (features.places[:, i] - features.places[:, j]) * both
        near = [marks(features) for marks in self.marks]
        pointed = [gated.flatten(1), extents.flatten(1), confidence, differences.flatten(1)]
        if self.told:
            assert features.remembered is not None, "features that tell of no turns"
            near.append(summary(features.remembered))
        return torch.cat([*pointed, *near, features.state], 1)

    def set_normalization(self, features: Features) -> None:
        """Take mean and spread from features of demonstrations; what hardly varies there is only shifted.

        Without it the places, which vary by tenths, weigh little beside the state (Reach from 8 demonstrations,
        true places with a pixel of noise: 17% success instead of 65%).
        """
        raw = self.raw(features)
        std = raw.std(0, unbiased=False)
        pointing = self.size - features.state.shape[1]
        floor = torch.where(torch.arange(self.size, device=std.device) < pointing, POINTER_FLOOR, STATE_FLOOR)
        self.mean.copy_(raw.mean(0))
        self.std.copy_(torch.where(std < floor, torch.ones_like(std), std))


class Marks(nn.Module):
    """How near the marks on one view are to what the slots point at.

    A policy that only had both places would have to learn from few demonstrations when they are the same.
    """

    at: torch.Tensor
    flags: torch.Tensor

    def __init__(self, marks: Sequence[Mark], view: int) -> None:
        super().__init__()
        counts = {len(mark.flags) for mark in marks}
        if len(counts) > 1:
            raise ValueError(f"the marks on camera {marks[0].camera!r} have {sorted(counts)} flags; all need as many")
        self.rows = slice(view * SLOTS, (view + 1) * SLOTS)
        self.register_buffer("at", torch.tensor([[mark.at, mark.at + 1] for mark in marks]), persistent=False)
        self.register_buffer("flags", torch.tensor([mark.flags for mark in marks]), persistent=False)
        self.size = SLOTS * (len(marks) + counts.pop())

    def forward(self, features: Features) -> torch.Tensor:
        """float32 [B, S * (M + F)] in [0, 1]: each mark's nearness to each slot, and the nearest mark of each flag."""
        flags_BMF = features.state[:, self.flags]
        near_BMS = features.near(features.state[:, self.at], self.rows, MARGIN) * flags_BMF.amax(-1, keepdim=True)
        done_BFS = (near_BMS.unsqueeze(2) * flags_BMF.unsqueeze(-1)).amax(1)
        return torch.cat([near_BMS.flatten(1), done_BFS.flatten(1)], 1)
