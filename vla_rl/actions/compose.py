"""An action of several parts, each with an action space of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from vla_rl.actions.tokens import check_parts, check_tokens, has_parts, part_mask, starts
from vla_rl.specs import ActionSpace, Slot, shown


@dataclass(frozen=True)
class Compose:
    """An action of several parts: the parts' slots follow one another.

    Over a Dict space `parts` is a mapping with the same keys (its slots go in the keys' sorted order).
    Over a Tuple space it is a list. Over a Box of one dimension it is a list too, with `sizes`, and each
    part takes that many consecutive entries.

    Args:
        parts: the action spaces, by key or in order.
        sizes: how many entries of a Box each part takes; they add up to its length.
    """

    parts: Mapping[str, ActionSpace] | Sequence[ActionSpace]
    sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        keyed = isinstance(self.parts, Mapping)
        ordered = dict(sorted(self.parts.items())) if isinstance(self.parts, Mapping) else tuple(self.parts)
        object.__setattr__(self, "parts", ordered)
        check_parts(self._list, "a composition")
        if not self._list:
            raise ValueError("parts: at least one")
        if self.sizes is not None and (keyed or len(self.sizes) != len(self._list) or min(self.sizes) < 1):
            raise ValueError(f"sizes: one positive number for each part of a list; got {self.sizes}")

    def bind(self, space: Any) -> Self:
        """The same, every part fitted to its part of the space.

        Raises:
            ValueError: another kind of space than the parts say, other keys, or other sizes; or what a
                part refuses, its place in front.
        """
        pieces = self._pieces(space)
        bound = {}
        for (name, part), piece in zip(self._named, pieces, strict=True):
            try:
                bound[name] = part.bind(piece)
            except ValueError as error:
                raise ValueError(f"parts{name}: {error}") from error
        if isinstance(self.parts, Mapping):
            return replace(self, parts=dict(zip(self.parts, bound.values(), strict=True)))
        return replace(self, parts=tuple(bound.values()))

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The parts' slots, one part after another."""
        return tuple(slot for part in self._list for slot in part.slots)

    def mask(self, prefix: np.ndarray) -> np.ndarray | None:
        """The mask of the part that the next slot belongs to."""
        return part_mask(self._list, prefix)

    def decode(self, tokens: np.ndarray) -> Any:
        """A dict, a tuple or an array [sum(sizes)] of the parts' actions."""
        chosen, begins = check_tokens(tokens, self.slots), starts(self._list)
        actions = [part.decode(chosen[begins[i] : begins[i + 1]]) for i, part in enumerate(self._list)]
        if isinstance(self.parts, Mapping):
            return dict(zip(self.parts, actions, strict=True))
        return tuple(actions) if self.sizes is None else np.concatenate(actions)

    def encode(self, action: Any) -> np.ndarray:
        """The parts' tokens. Raises ValueError for an action without exactly these parts."""
        if isinstance(self.parts, Mapping):
            if not isinstance(action, Mapping) or set(action) != set(self.parts):
                raise ValueError(f"expected an action with the keys {sorted(self.parts)}; got {shown(action)}")
            pieces = [action[key] for key in self.parts]
        elif self.sizes is None:
            if not has_parts(action):
                raise ValueError(f"expected an action of {len(self._list)} parts; got {shown(action)}")
            pieces = list(action)
        else:
            found = np.asarray(action)
            if found.shape != (sum(self.sizes),):
                raise ValueError(f"action dimension: expected shape ({sum(self.sizes)},); got {found.shape}")
            pieces = np.split(found, np.cumsum(self.sizes)[:-1])
        if len(pieces) != len(self._list):
            raise ValueError(f"expected an action of {len(self._list)} parts; got {len(pieces)}")
        return np.concatenate([part.encode(piece) for part, piece in zip(self._list, pieces, strict=True)])

    @cached_property
    def _list(self) -> list[ActionSpace]:
        return list(self.parts.values() if isinstance(self.parts, Mapping) else self.parts)

    @cached_property
    def _named(self) -> list[tuple[str, ActionSpace]]:
        """The parts with their names as a message shows them: `.gripper` or `[1]`."""
        if isinstance(self.parts, Mapping):
            return [(f".{key}", part) for key, part in self.parts.items()]
        return [(f"[{index}]", part) for index, part in enumerate(self.parts)]

    def _pieces(self, space: Any) -> list[Any]:
        """The parts' spaces."""
        if isinstance(self.parts, Mapping):
            if not isinstance(space, spaces.Dict):
                raise ValueError(f"parts by key need a Dict action space; got {space}")
            if set(space.keys()) != set(self.parts):
                raise ValueError(f"parts {sorted(self.parts)} are not the space's keys {sorted(space.keys())}")
            return [space[key] for key in self.parts]
        if self.sizes is not None:
            return self._cut(space)
        if isinstance(space, spaces.Box):
            raise ValueError(f"give `sizes` to compose over a Box; got {space}")
        if not isinstance(space, spaces.Tuple):
            raise ValueError(f"parts in a list need a Tuple action space; got {space}")
        if len(space) != len(self._list):
            raise ValueError(f"expected a space of {len(self._list)} parts; got {len(space)}")
        return list(space)

    def _cut(self, space: Any) -> list[spaces.Box]:
        """A Box of one dimension, cut into pieces of `sizes`."""
        assert self.sizes is not None
        if not isinstance(space, spaces.Box) or space.shape != (sum(self.sizes),):
            raise ValueError(
                f"action dimension: sizes {self.sizes} need a Box of shape ({sum(self.sizes)},); got {space}"
            )
        ends = np.cumsum(self.sizes)
        cuts = [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]
        return [spaces.Box(space.low[cut], space.high[cut], dtype=space.dtype.type) for cut in cuts]
