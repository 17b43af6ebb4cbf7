"""Actions of several parts as rows of plain numbers, as they are kept, and back."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from vla_rl.registry import ConfigError


def pack(action: Any, space: gymnasium.Space) -> np.ndarray:
    """An action as an array: of a Dict, its parts' numbers one after another (sorted by key) as float64 [n].

    Raises:
        ConfigError: actions that are not plain numbers.
    """
    if isinstance(space, spaces.Dict):
        return np.concatenate([np.ravel(pack(action[key], part)).astype(np.float64) for key, part in space.items()])
    array = np.asarray(action, space.dtype if isinstance(space, spaces.Box) else None)
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"demos: actions of {space} are not plain numbers, so they cannot be recorded")
    return array


def unpack(row: np.ndarray, space: gymnasium.Space) -> Any:
    """The action that `pack` made a row of."""
    if not isinstance(space, spaces.Dict):
        return row
    action, start = {}, 0
    for key, part in space.items():
        size = spaces.flatdim(part) if isinstance(part, spaces.Box | spaces.Dict) else int(np.prod(part.shape or ()))
        numbers, start = row[start : start + size], start + size
        if isinstance(part, spaces.Dict):
            action[key] = unpack(numbers, part)
        else:
            action[key] = numbers.reshape(part.shape or ()).astype(part.dtype)
    return action
