"""Intervals of means over a few runs, by the percentile bootstrap.

A few lines of numpy, so that scipy need not be installed; the tests hold them to scipy's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DRAWS = 9_999
"""How often the runs are drawn anew, with replacement; scipy's default too."""
LEVEL = 95.0
"""The share of the drawn means that an interval holds, in percent."""


class Interval(NamedTuple):
    """A mean, or a difference of two, and the ends of its interval: floats, or float64 arrays [T]."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean_interval(runs: np.ndarray, seed: int = 0) -> Interval:
    """Of the mean over the first axis of float [R] or [R, T], R >= 1. The same numbers give the same interval.

    Of one run it has no width: nothing is known of how runs differ.
    """
    runs = np.asarray(runs, np.float64)
    return Interval(runs.mean(0), *_ends(_drawn_means(runs, np.random.default_rng(seed))))


def difference_interval(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Interval:
    """Of `second`'s mean less `first`'s, float [R] or [R, T] each; both are drawn anew, apart from one another."""
    rng = np.random.default_rng(seed)
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    drawn = _drawn_means(second, rng) - _drawn_means(first, rng)
    return Interval(second.mean(0) - first.mean(0), *_ends(drawn))


def ratio_interval(totals: np.ndarray, counts: np.ndarray, seed: int = 0) -> Interval:
    """Of the mean over all rows, where R clusters of rows, such as episodes, are drawn anew as they are.

    totals: float [R], the sum over each cluster's rows. counts: [R], how many rows it has, at least 1.
    """
    drawn = _draws(len(totals), np.random.default_rng(seed))
    return Interval(totals.sum() / counts.sum(), *_ends((drawn @ totals) / (drawn @ counts)))


def _drawn_means(runs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The means of runs drawn with replacement: [DRAWS] or [DRAWS, T]."""
    return _draws(len(runs), rng) @ runs / len(runs)


def _draws(count: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `count` things is drawn, with replacement, as many of them as there are: int [DRAWS, count]."""
    return rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)


def _ends(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rest = (100 - LEVEL) / 2
    low, high = np.percentile(drawn, [rest, 100 - rest], axis=0)
    return low, high
