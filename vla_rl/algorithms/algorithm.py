"""What every algorithm shares with those who act and learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Decision:
    """What acting gives: tokens int64 [B, K], the frozen features for replay, and Q of each (float32 [B]) where the
    critic was asked."""

    tokens: np.ndarray
    features: dict[str, np.ndarray]
    q: np.ndarray | None = None
