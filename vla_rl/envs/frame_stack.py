"""Frame stacks while acting: replay stores each frame once and stacks on sampling; whoever acts remembers here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_rl.specs import IMAGES


class FrameHistory:
    """The last `stack` frames of every camera and lane, older ones first; an episode's first frame fills its start."""

    def __init__(self, stack: int) -> None:
        assert stack >= 1, stack
        self._stack = stack
        self._frames: dict[str, np.ndarray] = {}

    def push(self, observation: Mapping[str, Any], fresh: np.ndarray) -> dict[str, Any]:
        """The batched observation with images [B, stack, H, W, 3]; as it is where `stack` is 1.

        fresh: bool [B], lanes whose episode begins with this observation.
        """
        if self._stack == 1:
            return dict(observation)
        stacked = dict(observation)
        for key, newest in observation.items():
            if not key.startswith(IMAGES):
                continue
            if key not in self._frames:
                self._frames[key] = np.repeat(newest[:, None], self._stack, axis=1)
            frames = self._frames[key]
            frames[:, :-1] = frames[:, 1:]
            frames[:, -1] = newest
            frames[fresh] = newest[fresh][:, None]
            stacked[key] = frames.copy()  # whoever acts may change what it is given
        return stacked


def stacked_times(times: np.ndarray, stack: int) -> np.ndarray:
    """The times int64 [B, stack] of the frames that an observation at each of `times` [B] shows, oldest first."""
    return np.maximum(times[:, None] - np.arange(stack - 1, -1, -1), 0)
