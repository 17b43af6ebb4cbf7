"""Whether a critic knows what decisions are worth: how acting by it does beside acting without it, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from vla_rl.algorithms.algorithm import ActsByScorer
from vla_rl.evaluation.outcome import percent
from vla_rl.specs import BY_CRITIC, GREEDY, SAMPLED, Z

Verdict = Literal["worse", "better", "alike"]


@dataclass(frozen=True)
class CriticHealth:
    """Episodes of one policy that acted by the best of `best_of` by the critic, and that acted `other`wise.

    by_critic, without: int [T, 2], successes and episodes of each task. Tasks are compared each for itself: the lanes
    of one may act by the critic more often than those of another.
    """

    by_critic: np.ndarray
    without: np.ndarray
    other: str = "greedy acting"
    best_of: int = 16

    @classmethod
    def of(cls, counts: np.ndarray, best_of: int) -> Self:
        """Of the counts of `ActingStatistics`: beside greedy acting, or where none is, beside the policy's samples."""
        greedy = bool(counts[:, GREEDY, 1].any())
        other = (GREEDY, "greedy acting") if greedy else (SAMPLED, "the policy's own samples")
        return cls(counts[:, BY_CRITIC], counts[:, other[0]], other[1], best_of)

    @classmethod
    def between(cls, by_critic: tuple[int, int], greedy: tuple[int, int], best_of: int) -> Self:
        """Of two evaluations on one task: successes and episodes of each."""
        return cls(np.array([by_critic]), np.array([greedy]), best_of=best_of)

    @property
    def gain(self) -> float:
        """What acting by the critic gains, in points of success; 0 where nothing is known."""
        won, without = (counts[:, 0] / np.maximum(counts[:, 1], 1) for counts in (self.by_critic, self.without))
        return 100.0 * float((won - without) @ self._weights)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the gain, that of Agresti and Caffo (2000): it adds two episodes to each way, one of them
        a success, so that it holds for few episodes and for extreme shares."""
        if not self.known:
            return -100.0, 100.0
        (share, error), (share_without, error_without) = _smoothed(self.by_critic), _smoothed(self.without)
        middle = (share - share_without) @ self._weights
        half = Z * math.sqrt((error + error_without) @ self._weights**2)
        return 100.0 * float(middle - half), 100.0 * float(middle + half)

    @property
    def verdict(self) -> Verdict:
        """Whether acting by the critic is known to be worse, or better."""
        low, high = self.interval
        return "worse" if high < 0 else "better" if low > 0 else "alike"

    @property
    def _weights(self) -> np.ndarray:
        """Of each task's difference, by its episodes, as Mantel and Haenszel have it."""
        weights = self.by_critic[:, 1] * self.without[:, 1] / np.maximum(self.by_critic[:, 1] + self.without[:, 1], 1)
        return weights / max(weights.sum(), 1e-9)

    @property
    def known(self) -> bool:
        """Whether there are episodes of both ways in one task."""
        return bool((self.by_critic[:, 1] * self.without[:, 1]).any())

    @property
    def trusted(self) -> bool | None:
        """Whether to follow the critic: not once acting by it is known to be worse, and again once it gains or loses
        nothing (that it is *better* would never be known of a policy that is near its best); None to go on as before.
        """
        if not self.known or (self.verdict != "worse" and self.gain < 0):
            return None
        return self.verdict != "worse"

    def tell(self, algorithm: ActsByScorer) -> str:
        """Have an algorithm take note, and say all in words, with what it does about it; "" where nothing is known."""
        if self.trusted is not None:
            algorithm.trust(self.trusted)
        cloning = "; meanwhile the actor clones what succeeded" if algorithm.falls_back else ""
        return self.said and self.said + cloning

    @property
    def metrics(self) -> dict[str, float]:
        """For the log: both ways' success in percent, the episodes that acted by the critic, the gain in points and the
        ends of its interval; nothing where there is nothing to compare."""
        if not self.known:
            return {}
        low, high = self.interval
        return {
            "critic/pc_success": percent(*self.by_critic.sum(0).tolist()),
            "critic/pc_success_without": percent(*self.without.sum(0).tolist()),
            "critic/episodes": float(self.by_critic[:, 1].sum()),
            "critic/gain": self.gain,
            "critic/gain_low": low,
            "critic/gain_high": high,
        }

    @property
    def said(self) -> str:
        """The verdict in a sentence; "" where there is nothing to compare."""
        if not self.known:
            return ""
        low, high = self.interval
        how = {"worse": "is worse than", "better": "is better than", "alike": "is not known to differ from"}
        advice = {"worse": "; eval.best_of=0", "better": f"; eval.best_of={self.best_of}", "alike": ""}
        return (
            f"acting by the critic {how[self.verdict]} {self.other}: {_told(self.by_critic)} against "
            f"{_told(self.without)} episodes ({self.gain:+.0f} points, 95% interval {low:+.0f} to {high:+.0f})"
            f"{advice[self.verdict]}"
        )


def _told(counts: np.ndarray) -> str:
    won, episodes = counts.sum(0).tolist()
    return f"{percent(won, episodes):.0f}% of {episodes}"


def _smoothed(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each task's share of successes, and its squared error, with two episodes added."""
    episodes = counts[:, 1] + 2
    share = (counts[:, 0] + 1) / episodes
    return share, share * (1 - share) / episodes
