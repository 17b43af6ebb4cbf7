"""A Box as evenly spaced values, one token a dimension."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from vla_rl.actions.tokens import as_numbers, bounds_of, check_tokens, each_of, evenly, nearest_index, unbound
from vla_rl.specs import Slot

MOST_BINS = 1 << 14


@dataclass(frozen=True)
class Binned:
    """Each dimension of a Box as evenly spaced values, both ends included; odd counts of [-x, x] hold 0 exactly.

    A dimension that the Box locks (its low is its high) takes no token, and always has that value.

    Args:
        bins: values a dimension (at least 2): one number for all, or one for each dimension.
        low: the lowest value, in the action's unit: one number for all, or one for each dimension.
            Default: the Box's. Needed where the Box is unbounded; else it must lie inside the Box.
        high: likewise, the highest value.
        shape: the action's shape; set by `bind`.
        dtype: the action's dtype; set by `bind`.
    """

    bins: int | tuple[int, ...] = 11
    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        counts = (self.bins,) if isinstance(self.bins, int) else self.bins
        if not counts or min(counts) < 2:
            raise ValueError(f"bins: at least 2 a dimension; got {self.bins}")
        if max(counts) > MOST_BINS:
            raise ValueError(f"bins: at most {MOST_BINS} a dimension; got {max(counts)}")

    def bind(self, space: Any) -> Self:
        """The same, fitted to a Box.

        Raises:
            ValueError: not a Box; the number of bins, lows or highs is not that of its dimensions; no
                finite bounds; bounds outside the Box; values too close for its dtype to tell apart; all is locked.
        """
        if not isinstance(space, spaces.Box):
            raise ValueError(f"binned needs a Box action space; got {space}")
        if self.shape is not None and self.shape != space.shape:
            raise ValueError(f"action dimension: expected shape {self.shape}; the space has {space.shape}")
        dims = int(np.prod(space.shape))
        if dims == 0:
            raise ValueError(f"action dimension: a Box of shape {space.shape} has nothing to choose")
        bins, low, high = (each_of(name, getattr(self, name), dims) for name in ("bins", "low", "high"))
        low = bounds_of("low", low, space.low.reshape(-1), space)
        high = bounds_of("high", high, space.high.reshape(-1), space)
        locked = (space.low == space.high).reshape(-1)
        for index, (lowest, highest) in enumerate(zip(low, high, strict=True)):
            if not (lowest < highest or locked[index]):
                raise ValueError(f"dimension {index}: low {lowest} must be below high {highest}")
        bound = replace(self, bins=bins, low=low, high=high, shape=tuple(space.shape), dtype=str(space.dtype))
        for index, row in enumerate(bound._values):
            if len(np.unique(row)) < len(row):
                raise ValueError(f"dimension {index}: {len(row)} bins are too close for {space.dtype} to tell apart")
        if not bound.slots:
            raise ValueError(f"every dimension of {space} is locked, so that there is nothing to choose")
        return bound

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """One `bin` slot a dimension that is not locked, in C order."""
        if self.shape is None:
            raise unbound(self)
        return tuple(Slot(len(row), "bin") for row in self._values if len(row) > 1)

    def mask(self, prefix: np.ndarray) -> None:
        """Every value may follow every other."""

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """The action, of the Box's shape and dtype."""
        chosen = iter(check_tokens(tokens, self.slots))
        values = [row[next(chosen) if len(row) > 1 else 0] for row in self._values]
        return np.asarray(values).astype(self.dtype).reshape(self.shape or ())

    def encode(self, action: Any) -> np.ndarray:
        """The nearest values' tokens; a tie goes to the lower value, and an action beyond an end to that end.

        Raises:
            ValueError: not of the Box's shape, or NaN.
        """
        found = as_numbers(action)
        if self.shape is None:
            raise unbound(self)
        if found.shape != self.shape:
            raise ValueError(f"action dimension: expected shape {self.shape}; got {found.shape}")
        pairs = zip(self._values, found.reshape(-1), strict=True)
        return np.asarray([nearest_index(row, np.asarray(value)) for row, value in pairs if len(row) > 1], np.int64)

    @cached_property
    def _values(self) -> tuple[np.ndarray, ...]:
        """The values of each dimension, float64 [bins]; of a locked one float64 [1]."""
        assert isinstance(self.bins, tuple), self
        assert isinstance(self.low, tuple), self
        assert isinstance(self.high, tuple), self
        rows = zip(self.low, self.high, self.bins, strict=True)
        fractions = ((low, high, np.arange(n if low < high else 1) / (n - 1)) for low, high, n in rows)
        return tuple(evenly(low, high, share, np.dtype(self.dtype)) for low, high, share in fractions)
