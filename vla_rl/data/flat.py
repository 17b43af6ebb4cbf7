"""Actions of several parts as rows of plain numbers, as they are kept, and back."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from vla_rl.registry import ConfigError


def pack(action: Any, space: gymnasium.Space) -> np.ndarray:
    """An action as an array of its own: of several parts, their numbers one after another as float64 [n].

    The parts of a Dict follow one another sorted by key. Of OneOf it is the kind, then the numbers of every kind, 0
    for those that it is not.

    Raises:
        ConfigError: actions that are not plain numbers.
    """
    if isinstance(space, spaces.Dict):
        return _joined([(action[key], part) for key, part in space.items()])
    if isinstance(space, spaces.Tuple):
        return _joined(list(zip(action, space, strict=True)))
    if isinstance(space, spaces.OneOf):
        kind = int(action[0])
        numbers = [
            _joined([(action[1], part)]) if i == kind else np.zeros(_size(part)) for i, part in enumerate(space.spaces)
        ]
        return np.concatenate([[float(kind)], *numbers])
    array = np.array(action, space.dtype if isinstance(space, spaces.Box) else None)
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"demos: actions of {space} are not plain numbers, so they cannot be recorded")
    return array


def unpack(row: np.ndarray, space: gymnasium.Space) -> Any:
    """The action that `pack` made a row of."""
    if not isinstance(space, spaces.Dict | spaces.Tuple | spaces.OneOf):
        return row
    if isinstance(space, spaces.OneOf):
        kind = int(row[0])
        begin = 1 + sum(_size(part) for part in space.spaces[:kind])
        return kind, _restored(row[begin : begin + _size(space.spaces[kind])], space.spaces[kind])
    parts = space.values() if isinstance(space, spaces.Dict) else space.spaces
    ends = np.cumsum([_size(part) for part in parts])
    pieces = [_restored(piece, part) for piece, part in zip(np.split(row, ends[:-1]), parts, strict=True)]
    return dict(zip(space.keys(), pieces, strict=True)) if isinstance(space, spaces.Dict) else tuple(pieces)


def _joined(parts: list[tuple[Any, gymnasium.Space]]) -> np.ndarray:
    return np.concatenate([np.ravel(pack(action, part)).astype(np.float64) for action, part in parts])


def _restored(numbers: np.ndarray, part: gymnasium.Space) -> Any:
    """The action of a part, in its shape and dtype."""
    if isinstance(part, spaces.Dict | spaces.Tuple | spaces.OneOf):
        return unpack(numbers, part)
    return numbers.reshape(part.shape or ()).astype(part.dtype)


def _size(space: gymnasium.Space) -> int:
    """How many numbers `pack` makes of an action."""
    if isinstance(space, spaces.OneOf):
        return 1 + sum(map(_size, space.spaces))
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return sum(map(_size, space.values() if isinstance(space, spaces.Dict) else space.spaces))
    return int(np.prod(space.shape or ()))
