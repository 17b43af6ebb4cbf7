"""A Discrete space as one token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from vla_rl.actions.tokens import check_tokens, unbound
from vla_rl.specs import Slot


@dataclass(frozen=True)
class Choice:
    """One of a Discrete space's alternatives, in one token.

    Args:
        n: the number of alternatives; set by `bind`.
        start: the first alternative; set by `bind`.
    """

    n: int | None = None
    start: int | None = None

    def bind(self, space: Any) -> Self:
        """The same, fitted to a Discrete space.

        Raises:
            ValueError: not Discrete, or other alternatives than those it was bound to before.
        """
        if not isinstance(space, spaces.Discrete):
            raise ValueError(f"choice needs a Discrete action space; got {space}")
        n, start = int(space.n), int(space.start)
        if self.n not in (None, n) or self.start not in (None, start):
            raise ValueError(f"expected {self.n} alternatives from {self.start}; the space has {n} from {start}")
        return replace(self, n=n, start=start)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """One `choice` slot."""
        if self.n is None:
            raise unbound(self)
        return (Slot(self.n, "choice"),)

    def mask(self, prefix: np.ndarray) -> None:
        """Every alternative is open."""

    def decode(self, tokens: np.ndarray) -> int:
        """The alternative, start <= action < start + n."""
        return int(check_tokens(tokens, self.slots)[0]) + int(self.start or 0)

    def encode(self, action: Any) -> np.ndarray:
        """The alternative's token. Raises ValueError for an action that is none of them."""
        n, start, found = self.slots[0].choices, int(self.start or 0), np.asarray(action)
        whole = found.size == 1 and np.issubdtype(found.dtype, np.integer)
        if not whole or not start <= int(found.item()) < start + n:
            raise ValueError(f"expected a whole number from {start} to {start + n - 1}; got {action!r}")
        return np.asarray([int(found.item()) - start], np.int64)
