"""Alternatives as tokens: one of a Discrete space, one an entry of a MultiDiscrete or MultiBinary one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from vla_rl.actions.tokens import check_tokens, unbound
from vla_rl.specs import Slot, shown


@dataclass(frozen=True)
class Choice:
    """One of a Discrete space's alternatives, in one token; of MultiDiscrete and MultiBinary, one for each entry.

    An entry that has one alternative only takes no token.

    Args:
        ordered: whether the alternatives are ordered values, so that neighbours mean similar things, such as speeds.
        n: the number of alternatives, or that of each entry in C order; set by `bind`.
        start: the first alternative, or that of each entry; set by `bind`.
        shape: the action's shape; None for Discrete; set by `bind`.
        dtype: the action's dtype; None for Discrete; set by `bind`.
    """

    ordered: bool = False
    n: int | tuple[int, ...] | None = None
    start: int | tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None

    def bind(self, space: Any) -> Self:
        """The same, fitted to a Discrete, MultiDiscrete or MultiBinary space.

        Raises:
            ValueError: another kind of space; nothing to choose; or other alternatives than those it was bound to
                before.
        """
        found = _alternatives(space)
        if any(getattr(self, name) not in (None, value) for name, value in found.items()):
            expected = f"expected {self.n} alternatives from {self.start or 0}"
            raise ValueError(f"{expected}; the space has {found['n']} from {found['start']}")
        bound = replace(self, **found)
        if not bound.slots:
            raise ValueError(f"{space} has nothing to choose")
        return bound

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """One slot an entry that has a choice: `choice`, or `bin` where they are ordered."""
        return tuple(Slot(int(count), "bin" if self.ordered else "choice") for count in self._counts[self._free])

    def mask(self, prefix: np.ndarray) -> None:
        """Every alternative is open."""

    def decode(self, tokens: np.ndarray) -> Any:
        """The alternative, an int with start <= action < start + n; of several entries an array of their shape."""
        chosen = self._starts.copy()
        chosen[self._free] += check_tokens(tokens, self.slots)
        return int(chosen[0]) if self.shape is None else chosen.astype(self.dtype).reshape(self.shape)

    def encode(self, action: Any) -> np.ndarray:
        """The alternatives' tokens. Raises ValueError for an action that is none of them."""
        found = np.asarray(action)
        fits = found.size == 1 if self.shape is None else found.shape == self.shape
        if not fits or found.dtype.kind not in ("iu" if self.shape is None else "iub"):
            raise ValueError(f"expected {self._wanted}; got {shown(action)}")
        if found.dtype == np.uint64:  # beyond int64 it would come out as a negative number
            found = np.minimum(found, np.uint64(np.iinfo(np.int64).max))
        tokens = found.reshape(-1).astype(np.int64) - self._starts
        if (tokens < 0).any() or (tokens >= self._counts).any():
            raise ValueError(f"expected {self._wanted}; got {shown(action)}")
        return tokens[self._free]

    @cached_property
    def _counts(self) -> np.ndarray:
        """int64 [entries]."""
        if self.n is None:
            raise unbound(self)
        return np.atleast_1d(np.asarray(self.n, np.int64))

    @cached_property
    def _starts(self) -> np.ndarray:
        """int64 [entries]: the first alternative of each."""
        return np.broadcast_to(np.asarray(self.start or 0, np.int64), self._counts.shape)

    @cached_property
    def _free(self) -> np.ndarray:
        """bool [entries]: which have a choice."""
        return (self._counts > 1) | (self.shape is None)

    @property
    def _wanted(self) -> str:
        last = self._starts + self._counts - 1
        if self.shape is None:
            return f"a whole number from {self._starts[0]} to {last[0]}"
        return f"whole numbers {self.shape} from {self._starts.tolist()} to {last.tolist()}"


def _alternatives(space: Any) -> dict[str, Any]:
    """The fields of `Choice` that tell of a space."""
    if isinstance(space, spaces.Discrete):
        return {"n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        counts, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
    elif isinstance(space, spaces.MultiBinary):
        counts = [2] * int(np.prod(space.shape))
        starts = [0] * len(counts)
    else:
        raise ValueError(f"choice needs a Discrete, MultiDiscrete or MultiBinary action space; got {space}")
    shape = tuple(int(size) for size in space.shape)
    return {"n": tuple(counts), "start": tuple(starts), "shape": shape, "dtype": str(space.dtype)}
