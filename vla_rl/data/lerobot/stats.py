"""How the numbers of a feature spread: per episode, and merged over all of them."""

from __future__ import annotations

from functools import reduce

import numpy as np

from vla_rl.data.lerobot.layout import Feature

Stats = dict[str, np.ndarray]
"""min, max, mean, std, quantiles: float64 [D], or [3, 1, 1] of a picture's channels in [0, 1]; count: int64 [1]."""

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
PICTURES = 32
"""At most so many pictures of an episode are looked at."""


def stats_of(values: np.ndarray, feature: Feature) -> Stats:
    """Of the values [N, ...] of an episode."""
    if not feature.is_picture:
        return _spread(values.reshape(len(values), -1).astype(np.float64), len(values))
    seen = values[np.unique(np.linspace(0, len(values) - 1, PICTURES).astype(int))]
    counts = np.stack([np.bincount(seen[..., channel].ravel(), minlength=256) for channel in range(seen.shape[-1])])
    spread = _spread_of_counts(counts, np.arange(256) / 255)
    return {name: part.reshape(-1, 1, 1) for name, part in spread.items()} | {"count": np.array([len(seen)])}


def merged(parts: list[Stats]) -> Stats:
    """Of all that the parts are of; quantiles are the parts' mean, weighted by their counts."""
    return reduce(_merged, parts)


def _spread(rows: np.ndarray, count: int) -> Stats:
    quantiles = dict(zip(QUANTILES, np.quantile(rows, list(QUANTILES.values()), axis=0), strict=True))
    ends = {"min": rows.min(axis=0), "max": rows.max(axis=0), "mean": rows.mean(axis=0), "std": rows.std(axis=0)}
    return {**ends, "count": np.array([count]), **quantiles}


def _spread_of_counts(counts: np.ndarray, levels: np.ndarray) -> Stats:
    """Of numbers that take the `levels` [L], ascending, so many times each: counts int [D, L]."""
    total, upto = counts.sum(axis=1), counts.cumsum(axis=1)
    mean = counts @ levels / total
    variance = np.maximum(counts @ levels**2 / total - mean**2, 0)
    ends = {"min": levels[(counts > 0).argmax(axis=1)], "max": levels[(upto == total[:, None]).argmax(axis=1)]}
    quantiles = {name: levels[(upto >= share * total[:, None]).argmax(axis=1)] for name, share in QUANTILES.items()}
    return {**ends, "mean": mean, "std": np.sqrt(variance), **quantiles}


def _merged(one: Stats, other: Stats) -> Stats:
    count = one["count"] + other["count"]
    share = float(other["count"][0] / count[0])
    apart = other["mean"] - one["mean"]
    mixed = {name: (1 - share) * one[name] + share * other[name] for name in ("mean", *QUANTILES)}
    variance = (1 - share) * one["std"] ** 2 + share * other["std"] ** 2 + share * (1 - share) * apart**2
    ends = {"min": np.minimum(one["min"], other["min"]), "max": np.maximum(one["max"], other["max"])}
    return {**ends, **mixed, "std": np.sqrt(variance), "count": count}
