"""From what a person says or presses to an action."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from vla_rl.envs import still
from vla_rl.registry import ConfigError, nearest

MOVES: dict[str, tuple[str, int]] = {
    "left": ("x", -1),
    "right": ("x", 1),
    "back": ("y", -1),
    "forward": ("y", 1),
    "down": ("z", -1),
    "up": ("z", 1),
    "clockwise": ("yaw", -1),
    "anticlockwise": ("yaw", 1),
    "close": ("fingers", -1),
    "open": ("fingers", 1),
}
"""What a movement is called: an entry of the action, and its lower or upper end."""
FINGERS = "fingers"


class RefusedError(ValueError):
    """What was asked for cannot be done now, and nothing was; the message says why."""


class Controls:
    """The actions of an environment, entry by entry.

    Entries go back to rest (the middle of their range) after a step; those that say where something should be, and
    the fingers, stay what they were.

    Args:
        env: its `action_names`, where it has them, name the entries of a Box; others are called a0, a1, ...

    Raises:
        ConfigError: actions that are neither a Box nor Discrete.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        space = env.action_space
        if not isinstance(space, gymnasium.spaces.Box | gymnasium.spaces.Discrete):
            raise ConfigError(f"a person can play where an action is a Box or Discrete; this environment has {space}")
        self.space = space
        if isinstance(space, gymnasium.spaces.Discrete):
            self.names: tuple[str, ...] = ()
            return
        size = int(np.prod(space.shape))
        names = getattr(env.unwrapped, "action_names", ())
        self.names = tuple(names) if len(names) == size else tuple(f"a{i}" for i in range(size))
        self._low, self._high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
        self._rest = still(space).ravel().astype(np.float64)
        named = _names_places(getattr(env.unwrapped, "control", None))
        self._stays = np.array([named or name == FINGERS for name in self.names])
        self.begin()

    @property
    def choices(self) -> int:
        """How many actions a Discrete space has; 0 for a Box."""
        return int(self.space.n) if isinstance(self.space, gymnasium.spaces.Discrete) else 0

    def begin(self) -> None:
        """An episode begins: everything at rest, the fingers open."""
        if self.names:
            self._values = self._rest.copy()
            if FINGERS in self.names:
                self._values[self.names.index(FINGERS)] = self.end(FINGERS, 1)

    def value(self, name: str) -> float:
        """What an entry stays at, or rests at."""
        index = self._index(name)
        return float(self._values[index])

    def end(self, name: str, sign: int) -> float:
        """The upper or lower end of an entry's range; 1 from rest where it has none."""
        index = self._index(name)
        limit = float((self._high if sign > 0 else self._low)[index])
        return limit if math.isfinite(limit) else float(self._rest[index]) + sign

    def choose(self, number: int) -> Any:
        """The action of a Discrete space with this number, counted as the space counts. Raises RefusedError."""
        space = self.space
        if not isinstance(space, gymnasium.spaces.Discrete):
            raise RefusedError(f"actions have entries here: {', '.join(self.names)}; such as `{self.names[0]} 0.5`")
        if not space.start <= number < space.start + space.n:
            raise RefusedError(f"{number}: choices go from {space.start} to {space.start + space.n - 1}")
        return space.dtype.type(number)

    def set(self, changes: Mapping[str, float]) -> Any:
        """The action of a Box with these entries set. Raises RefusedError: no such entry, or out of its range."""
        if not self.names:
            raise RefusedError("an action is one number here, a choice")
        values = self._values.copy()
        for name, value in changes.items():
            index = self._index(name)
            if not self._low[index] <= value <= self._high[index]:
                raise RefusedError(f"{name}: {value:g} is not in [{self._low[index]:g}, {self._high[index]:g}]")
            values[index] = value
        self._values = np.where(self._stays, values, self._rest)
        return self._action(values)

    def follow(self, action: Any) -> None:
        """Somebody else acted so: let what stays stay there."""
        if self.names:
            self._values = np.where(self._stays, np.asarray(action, np.float64).ravel(), self._rest)

    def _action(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(self.space.shape).astype(self.space.dtype)

    def _index(self, name: str) -> int:
        if not self.names:
            raise RefusedError(f"no entry {name!r} here: an action is one number, a choice")
        if name not in self.names:
            raise RefusedError(f"no entry {name!r} in an action here; {nearest(name, self.names)}")
        return self.names.index(name)


def _names_places(control: Any) -> bool:
    """Whether the entries of a table-top action say where to be, and not how far to go."""
    return getattr(control, "relative", None) is False or getattr(control, "target", None) == "position"
