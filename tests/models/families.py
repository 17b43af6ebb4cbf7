"""Tiny random vision-language models of real families, made offline, and what they are shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from vla_rl.models.samples import SAMPLES as FAMILIES
from vla_rl.models.samples import Sample as Random
from vla_rl.models.samples import sample as parts

__all__ = ["FAMILIES", "Random", "observation", "parts"]


def observation(
    rows: int, cameras: tuple[str, ...] = ("front",), stack: int | None = None, state: int = 3, seed: int = 0
) -> dict[str, Any]:
    """A random batched observation."""
    rng = np.random.default_rng(seed)
    lead = (rows,) if stack is None else (rows, stack)
    images = {
        f"observation.images.{name}": rng.integers(0, 256, (*lead, 32 + 8 * i, 32, 3), dtype=np.uint8)
        for i, name in enumerate(cameras)
    }
    texts = ["reach the red cube", "push it", "go to the blue mark"]
    values = rng.normal(size=(rows, state)).astype(np.float32)
    return {**images, "observation.state": values, "task": [texts[i % 3] for i in range(rows)]}
