"""Drawing places in proportion to their weights, in logarithmic time, many at once."""

from __future__ import annotations

import numpy as np


class SumTree:
    """Weights float64 of the places [0, size), all 0 at first; each level above holds the sums of pairs."""

    def __init__(self, size: int) -> None:
        # From the leaves to the root, which is alone.
        self._levels = [np.zeros(1 << depth) for depth in range((size - 1).bit_length(), -1, -1)]

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._levels[-1][0])

    @property
    def weights(self) -> np.ndarray:
        """By place; only to be read."""
        return self._levels[0]

    def set(self, at: np.ndarray, weights: np.ndarray | float) -> None:
        """Give the places `at` int [B] their weights, at least 0; of a place that comes twice, the last one counts."""
        self._levels[0][at] = weights
        for below, level in zip(self._levels, self._levels[1:], strict=False):
            at = np.unique(at >> 1)
            # Summed afresh, not corrected by a difference: rounding never piles up.
            level[at] = below[2 * at] + below[2 * at + 1]

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Places int64 [count], independently, each as probable as its share of the total, which must not be 0."""
        assert self.total > 0, "nothing to draw"
        point = rng.random(count) * self.total
        at = np.zeros(count, np.int64)
        for level in self._levels[-2::-1]:
            left = level[2 * at]
            # Rounding may carry a point beyond the last weight; a place without weight is never drawn.
            right = (point >= left) & (level[2 * at + 1] > 0)
            point -= left * right
            at = 2 * at + right
        return at
