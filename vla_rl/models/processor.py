"""Pixels become floats here and nowhere else: pretraining, acting and learning share this function.

Shapes: B batch, V views, H height, W width; `...` any leading dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from vla_rl.models.transfer import constant


def pixels_to_floats(images: torch.Tensor, size: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Resize to `size` x `size`, scale to [0, 1], subtract `mean` and divide by `std` of each channel.

    Args:
        images: uint8 [..., H, W, 3], on any device. An image that is not square is squeezed: places are
            fractions of the width and of the height, so they stay where they were.

    Returns:
        float32 [..., 3, size, size] on the same device.

    Raises:
        ValueError: another dtype or shape.
    """
    if images.dtype != torch.uint8 or images.ndim < 3 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 [..., H, W, 3]; got {images.dtype} {list(images.shape)}")
    height, width = images.shape[-3:-1]
    lead = images.shape[:-3]
    gain = constant([1 / (255 * s) for s in std], images.device).view(3, 1, 1)
    shift = constant([m / s for m, s in zip(mean, std, strict=True)], images.device).view(3, 1, 1)
    pixels = images.reshape(-1, height, width, 3).permute(0, 3, 1, 2).float().contiguous()
    if (height, width) != (size, size):
        pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return (pixels * gain - shift).reshape(*lead, 3, size, size)
