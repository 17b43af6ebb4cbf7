"""Whether numbers have begun to fall: a sequential test whose rate of false alarms is bounded."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

SHORTEST = 8
"""Values before a fall, and after it, that are looked at, at least."""
GROWTH = 1.25
"""Each part whose mean may have fallen is so many times as long as the one that is looked at before."""


@dataclass(frozen=True)
class Fall:
    """The mean of the values `before`, and `after`, which the latest `ago` of them have."""

    before: float
    after: float
    ago: int


class FallTest:
    """Looks, at each new value in [0, 1], whether the mean of the latest ones has fallen below that of those before.

    A generalised likelihood ratio over windows (Willsky and Jones 1976; Besson and Kaufmann, arXiv 1902.01575). The n_1
    older of the latest `window` values have the mean m_1, the n_2 newer ones m_2 < m_1, all together m. The evidence of
    this split is n_1 kl(m_1, m) + n_2 kl(m_2, m), where kl is the divergence of coins that come up so often; that of
    the moment is the largest over a few lengths n_2.

    While the expectation of each value, given those before, never falls, n_1 kl and n_2 kl towards any level that lies
    between them exceed x with a probability of at most exp(-x) each (Hoeffding 1963, theorem 1), so the evidence of a
    split does with at most (1 + x) exp(-x). Over all `lengths` that is `rate` at the threshold. It holds for any
    success rate, known or not, for values other than 0 and 1, and where the rate rises, as it does in learning.

    rate: false alarms for each value, at most. least: a smaller fall of the mean gives no alarm, however sure it is.
    """

    def __init__(self, rate: float, window: int = 600, least: float = 0.0) -> None:
        if not 0 < rate < 1 or window < 2 * SHORTEST or not 0 <= least < 1:
            raise ValueError(
                f"a rate of false alarms in (0, 1), a window of {2 * SHORTEST} or more and a least fall in [0, 1) are "
                f"needed; got {rate}, {window} and {least}"
            )
        count = 1 + int(math.log(window / 2 / SHORTEST) / math.log(GROWTH))
        self._lengths = np.unique((SHORTEST * GROWTH ** np.arange(count)).astype(np.int64))
        self.threshold, self._least = threshold(rate, len(self._lengths)), least
        self._values = deque[float](maxlen=window)
        self.evidence = 0.0

    def add(self, value: float) -> Fall | None:
        """Take note of a value; the fall, where there is one. The test begins anew then."""
        self._values.append(value)
        count = len(self._values)
        after = self._lengths[self._lengths <= count - SHORTEST]
        if not len(after):
            return None
        evidence, drop = evidence_of(np.array(self._values), after)
        self.evidence = float(evidence.max())
        if not (drop[evidence >= self.threshold] >= max(self._least, 1e-9)).any():
            return None
        return self._found()

    def _found(self) -> Fall:
        """The likeliest of all splits."""
        values = np.array(self._values)
        lengths = np.arange(1, len(values) - SHORTEST + 1)
        ago = int(lengths[evidence_of(values, lengths)[0].argmax()])
        self.restart()
        return Fall(float(values[:-ago].mean()), float(values[-ago:].mean()), ago)

    def restart(self) -> None:
        """Forget all values."""
        self._values.clear()
        self.evidence = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The values, and what they were found to tell."""
        return {"values": list(self._values), "evidence": self.evidence}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._values = deque(state["values"], self._values.maxlen)
        self.evidence = state["evidence"]


def evidence_of(values: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each length int [L] of the part after a fall: the evidence, 0 where the mean has not fallen, and by how much
    it has, float64 [L]. values: float [n] in [0, 1]."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    before, count, total = len(values) - after, len(values), sums[-1]
    older, newer, whole = sums[before] / before, (total - sums[before]) / after, total / count
    evidence = before * divergence(older, whole) + after * divergence(newer, whole)
    return np.where(newer < older, evidence, 0.0), older - newer


def divergence(p: np.ndarray, q: float) -> np.ndarray:
    """kl(p, q) in nats of coins that come up with p [L] and with q; q is neither 0 nor 1 unless all p are that."""
    q = min(max(q, 1e-12), 1 - 1e-12)
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def threshold(rate: float, splits: int) -> float:
    """The x at which splits * (1 + x) exp(-x) = rate."""
    x = 1.0
    for _ in range(100):
        x = math.log(splits / rate) + math.log1p(x)
    return x
