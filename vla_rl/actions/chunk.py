"""Several environment steps in one decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from vla_rl.actions.tokens import check_parts, check_tokens, has_parts
from vla_rl.specs import ActionSpace, Slot, shown

MOST_STEPS = 1 << 10


@dataclass(frozen=True)
class Chunk:
    """`horizon` actions, decided at once and taken one after another.

    It binds to the environment's own action space, and `decode` returns a tuple of `horizon` actions;
    whoever steps the environment takes them in turn and stops early where the episode ends.

    Args:
        inner: the action space of one step.
        horizon: the number of steps, at least 2.
    """

    inner: ActionSpace
    horizon: int

    def __post_init__(self) -> None:
        check_parts([self.inner], "a chunk")
        if self.horizon < 2:
            raise ValueError(f"horizon: at least 2 (one step needs no chunk); got {self.horizon}")
        if self.horizon > MOST_STEPS:
            raise ValueError(f"horizon: at most {MOST_STEPS}; got {self.horizon}")

    def bind(self, space: Any) -> Self:
        """The same, its inner action space fitted to the environment's."""
        return replace(self, inner=self.inner.bind(space))

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The inner slots, `horizon` times, step by step."""
        return self.inner.slots * self.horizon

    def mask(self, prefix: np.ndarray) -> np.ndarray | None:
        """The inner mask after the tokens of the same step."""
        k, size = prefix.shape[1], len(self.inner.slots)
        assert k < len(self.slots), f"a prefix of {k} tokens leaves no slot of {len(self.slots)}"
        return self.inner.mask(prefix[:, k - k % size :])

    def decode(self, tokens: np.ndarray) -> tuple[Any, ...]:
        """The actions of the `horizon` steps, in order."""
        steps = check_tokens(tokens, self.slots).reshape(self.horizon, -1)
        return tuple(self.inner.decode(step) for step in steps)

    def encode(self, action: Sequence[Any]) -> np.ndarray:
        """The tokens of `horizon` actions. Raises ValueError for another number of them."""
        if not has_parts(action):
            raise ValueError(f"a chunk is of {self.horizon} actions; got {shown(action)}")
        if len(action) != self.horizon:
            raise ValueError(f"a chunk of {self.horizon} actions cannot encode {len(action)}")
        return np.concatenate([self.inner.encode(step) for step in action])
