"""One of several kinds of action: a grammar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from vla_rl.actions.tokens import check_parts, check_tokens, has_parts, starts, whole
from vla_rl.specs import ActionSpace, Slot, shown


@dataclass(frozen=True)
class Variant:
    """One of several kinds of action, over a OneOf space: the first token says which, and fills its slots.

    The slots of the kinds that were not chosen may only hold token 0, so every action has one spelling.

    Args:
        parts: the action space of each kind, in the order of the OneOf space.
    """

    parts: Sequence[ActionSpace]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        check_parts(self.parts, "a variant")
        if not self.parts:
            raise ValueError("parts: at least one")

    def bind(self, space: Any) -> Self:
        """The same, every part fitted to its alternative.

        Raises:
            ValueError: not OneOf, or another number of alternatives; or what a part refuses.
        """
        if not isinstance(space, spaces.OneOf):
            raise ValueError(f"variant needs a OneOf action space; got {space}")
        if len(space) != len(self.parts):
            raise ValueError(f"expected a space of {len(self.parts)} alternatives; got {len(space)}")
        bound = []
        for index, part in enumerate(self.parts):
            try:
                bound.append(part.bind(space[index]))
            except ValueError as error:
                raise ValueError(f"parts[{index}]: {error}") from error
        return replace(self, parts=bound)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Which kind, then the slots of every kind."""
        return (Slot(len(self.parts), "choice"), *(slot for part in self.parts for slot in part.slots))

    def mask(self, prefix: np.ndarray) -> np.ndarray | None:
        """All kinds at first; then the chosen kind's mask in its slots, and token 0 alone in the others'."""
        batch, k = prefix.shape
        assert k < len(self.slots), f"a prefix of {k} tokens leaves no slot of {len(self.slots)}"
        if k == 0:
            return None
        begins = starts(self.parts)
        owner = int(np.searchsorted(begins, k - 1, side="right")) - 1
        chosen = prefix[:, 0] == owner
        mask = np.zeros((batch, self.slots[k].choices), bool)
        mask[:, 0] = True
        inner = self.parts[owner].mask(prefix[chosen, 1 + begins[owner] :])
        mask[chosen] = True if inner is None else inner
        return mask

    def decode(self, tokens: np.ndarray) -> tuple[int, Any]:
        """The index of the kind and its action. Raises ValueError for a token other than 0 in an unused slot."""
        chosen, begins = check_tokens(tokens, self.slots), starts(self.parts)
        kind, rest = int(chosen[0]), chosen[1:]
        own = slice(begins[kind], begins[kind + 1])
        for index in np.flatnonzero(rest):
            if not own.start <= index < own.stop:
                raise ValueError(f"slot {index + 1} belongs to another kind than {kind}; expected 0, got {rest[index]}")
        return kind, self.parts[kind].decode(rest[own])

    def encode(self, action: Any) -> np.ndarray:
        """The tokens of (index of the kind, its action), 0 in unused slots. Raises ValueError for anything else."""
        if not has_parts(action) or len(action) != 2:
            raise ValueError(f"expected a kind and its action; got {shown(action)}")
        kind, inner = whole(action[0], "a kind"), action[1]
        if not 0 <= kind < len(self.parts):
            raise ValueError(f"expected a kind from 0 to {len(self.parts) - 1}; got {kind}")
        tokens = np.zeros(len(self.slots), np.int64)
        begin = 1 + starts(self.parts)[kind]
        tokens[0] = kind
        tokens[begin : begin + len(self.parts[kind].slots)] = self.parts[kind].encode(inner)
        return tokens
