"""How much more is paid than is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_rl.specs import Z


def share_paid(rewards: np.ndarray, full: float = 1.0) -> float:
    """What was paid for an episode as a share of what a success is paid, in [0, 1]. rewards: float [T]."""
    return float(np.clip(rewards.sum(dtype=np.float64) / full, 0.0, 1.0))


@dataclass(frozen=True)
class HackGap:
    """E[paid] - E[done] over n episodes, each of which was paid a share in [0, 1] and is done or not.

    above, below: the sums of what was paid too much and too little.
    """

    above: float
    below: float
    episodes: int

    @classmethod
    def of(cls, paid: Sequence[float], done: Sequence[bool]) -> HackGap:
        """Of episodes, in any order."""
        difference = np.asarray(paid, np.float64) - np.asarray(done, np.float64)
        return cls(float(difference.clip(0).sum()), float((-difference).clip(0).sum()), len(difference))

    @property
    def points(self) -> float:
        """The gap in points of success; 0 of no episodes."""
        return 100.0 * (self.above - self.below) / max(self.episodes, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% interval in points, that of Bonett and Price (2012) for pairs: one episode more was paid too much,
        and one too little, so that it holds for few episodes, and where none differ."""
        above, below, episodes = self.above + 1, self.below + 1, self.episodes + 2
        gap = (above - below) / episodes
        half = Z * math.sqrt(max(above + below - (above - below) ** 2 / episodes, 0.0)) / episodes
        return 100.0 * max(gap - half, -1.0), 100.0 * min(gap + half, 1.0)
