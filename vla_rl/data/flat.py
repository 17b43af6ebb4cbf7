"""Actions of several parts as rows of plain numbers, as they are kept, and back."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from vla_rl.registry import ConfigError


def pack(action: Any, space: gymnasium.Space) -> np.ndarray:
    """An action as an array of its own: of a Dict, its parts' numbers one after another (sorted by key) as float64 [n].

    Raises:
        ConfigError: actions that are not plain numbers.
    """
    if isinstance(space, spaces.Dict):
        return np.concatenate([np.ravel(pack(action[key], part)).astype(np.float64) for key, part in space.items()])
    array = np.array(action, space.dtype if isinstance(space, spaces.Box) else None)
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"demos: actions of {space} are not plain numbers, so they cannot be recorded")
    return array


def unpack(row: np.ndarray, space: gymnasium.Space) -> Any:
    """The action that `pack` made a row of."""
    if not isinstance(space, spaces.Dict):
        return row
    action, start = {}, 0
    for key, part in space.items():
        numbers, start = row[start : start + _size(part)], start + _size(part)
        if isinstance(part, spaces.Dict):
            action[key] = unpack(numbers, part)
        else:
            action[key] = numbers.reshape(part.shape or ()).astype(part.dtype)
    return action


def _size(space: gymnasium.Space) -> int:
    """How many numbers `pack` makes of an action."""
    if isinstance(space, spaces.Dict):
        return sum(_size(part) for part in space.values())
    return int(np.prod(space.shape or ()))
