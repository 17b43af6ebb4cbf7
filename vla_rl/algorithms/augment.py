"""Augmentation where a batch's pictures lie: shifts, along with the tokens that point into them, and colours.

Shapes: B rows, k stacked frames (left out where there is one), K slots, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_rl.specs import IMAGES, ActionSpace


@dataclass(frozen=True)
class Augment:
    """Random shifts and colours; a row's stacked frames all change alike.

    shift: pixels at most, to each side; the picture's edge is repeated beyond it. Where tokens point into a camera,
    its pictures move by whole cells, so that the tokens can move along exactly, and never so far that one would leave.
    brightness, contrast: so much more or less at most, as a share.
    """

    shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        if self.shift < 0 or not 0 <= self.brightness < 1 or not 0 <= self.contrast < 1:
            raise ValueError(f"expected shift >= 0, brightness and contrast in [0, 1); got {self}")

    def __bool__(self) -> bool:
        return bool(self.shift or self.brightness or self.contrast)

    def __call__(
        self, observation: Mapping[str, Any], decisions: Sequence[np.ndarray] = (), space: ActionSpace | None = None
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """A changed copy of pictures uint8 [B, (k,) H, W, 3], on any device, and of decisions int64 [B, K].

        space: the action space of the decisions. Draws from torch's global generator of the CPU.
        """
        changed, moved = dict(observation), [tokens.copy() for tokens in decisions]
        for key, pictures in observation.items():
            if not key.startswith(IMAGES):
                continue
            if self.shift:
                pictures = shifted(pictures, self._move(key.removeprefix(IMAGES), pictures.shape, moved, space))
            if self.brightness or self.contrast:
                pictures = recoloured(pictures, *self._colours(len(pictures), pictures.device))
            changed[key] = pictures
        return changed, moved

    def _move(
        self, camera: str, shape: Sequence[int], decisions: list[np.ndarray], space: ActionSpace | None
    ) -> np.ndarray:
        """Draw pixels int64 [B, 2] (down, right) for the pictures of a camera, and move what points into them."""
        pointing = [k for k, slot in enumerate(space.slots if space else ()) if slot.camera == camera]
        size = np.array(shape[-3:-1])
        grids = {space.slots[k].grid for k in pointing} if space else set()
        if len(grids) > 1:
            raise ValueError(f"shift: tokens point into {camera} on several grids, {grids}; no shift fits them all")
        cells = np.array(grids.pop()) if grids else size
        most = self.shift * cells // size
        low, high = np.broadcast_to(-most, (shape[0], 2)), np.broadcast_to(most, (shape[0], 2))
        for tokens in decisions:
            for k in pointing:
                place = np.stack(np.divmod(tokens[:, k], cells[1]), 1)
                used = _used(space, tokens, k)[:, None]
                low = np.where(used, np.maximum(low, -place), low)
                high = np.where(used, np.minimum(high, cells - 1 - place), high)
        steps = low + np.floor(torch.rand(shape[0], 2, dtype=torch.float64).numpy() * (high - low + 1)).astype(np.int64)
        for tokens in decisions:
            # Which slots are used depends on tokens that do not move.
            for k, rows in [(k, _used(space, tokens, k)) for k in pointing]:
                tokens[rows, k] += (steps @ [cells[1], 1])[rows]
        return np.rint(steps * size / cells).astype(np.int64)

    def _colours(self, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Factors float32 [B] of brightness and of contrast."""
        spread = torch.tensor([self.brightness, self.contrast])
        factors = (1 + spread * (2 * torch.rand(rows, 2) - 1)).to(device, non_blocking=True)
        return factors[:, 0], factors[:, 1]


def shifted(pictures: Tensor, pixels: np.ndarray) -> Tensor:
    """Pictures [B, (k,) H, W, 3] moved by int [B, 2] pixels down and to the right; the edge is repeated."""
    height, width = pictures.shape[-3:-1]
    by = torch.from_numpy(pixels).to(pictures.device)
    y = (torch.arange(height, device=by.device) - by[:, :1]).clamp(0, height - 1)
    x = (torch.arange(width, device=by.device) - by[:, 1:]).clamp(0, width - 1)
    row = torch.arange(len(pictures), device=by.device)[:, None, None]
    if pictures.ndim == 4:
        return pictures[row, y[:, :, None], x[:, None, :]]
    # Indexed dimensions that are apart come first.
    return pictures[row, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2, 4)


def recoloured(pictures: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Pictures uint8 [B, ...] with each row's contrast about its mean grey, then its brightness, multiplied by [B]."""
    rows = pictures.float()
    inner = tuple(range(1, rows.ndim))
    grey = rows.mean(inner, keepdim=True)
    share = [each.view(-1, *[1] * len(inner)) for each in (brightness, contrast)]
    return ((rows - grey) * share[1] + grey).mul(share[0]).round_().clamp_(0, 255).to(torch.uint8)


def _used(space: ActionSpace | None, tokens: np.ndarray, k: int) -> np.ndarray:
    """In which rows slot k has a choice, bool [B]: it has none where the decision is of a kind that does not point."""
    mask = space.mask(tokens[:, :k]) if space else None
    return np.ones(len(tokens), bool) if mask is None else mask.sum(axis=1) > 1
