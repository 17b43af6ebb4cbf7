"""Actions of numbered entries, or choices: what moves an arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from vla_rl.envs import still
from vla_rl.play.controls import RefusedError, UnknownError, number, steps
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


class Entries:
    """The actions of an environment, entry by entry; see `Controls`.

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
            raise ConfigError(
                f"a person can play where an action is a Box, Discrete or Commands; this environment has {space}"
            )
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

    @property
    def help(self) -> tuple[str, ...]:
        """See `Controls`."""
        if self.choices:
            first, last = self._choices
            return (f"  {first} [STEPS]        choose an action, from {first} to {last}",)
        first_two = " ".join(f"{name} {self.value(name):g}" for name in self.names[:2])
        moves = " ".join(word for word, (name, _) in MOVES.items() if name in self.names)
        return (
            f"  {first_two} [STEPS]   set entries of the action (there are: {', '.join(self.names)})",
            *([f"  left [STEPS]    move: {moves}"] if moves else []),
            "  wait [STEPS]    set nothing (an empty line does it too)",
        )

    def read(self, words: Sequence[str], text: str) -> tuple[Any, int]:
        """See `Controls`: `x 0.5 z -1`, `left`, `wait` or a choice, and perhaps for how many steps."""
        if self.choices:
            return self._read_choice(words)
        if not words or words[0] == "wait":
            return self.set({}), steps(words[1:])
        if words[0] in MOVES:
            name, sign = MOVES[words[0]]
            return self.set({name: self.end(name, sign)}), steps(words[1:])
        return self._read_entries(words)

    def told(self, action: Any, text: str) -> str:
        """Nothing: the picture says it."""
        return ""

    def cameras(self, names: Sequence[str]) -> Sequence[str]:
        """All of them."""
        return names

    def value(self, name: str) -> float:
        """What an entry stays at, or rests at."""
        index = self._index(name)
        return float(self._values[index])

    def end(self, name: str, sign: int) -> float:
        """The upper or lower end of an entry's range; 1 from rest where it has none."""
        index = self._index(name)
        limit = float((self._high if sign > 0 else self._low)[index])
        return limit if math.isfinite(limit) else float(self._rest[index]) + sign

    def choose(self, chosen: int) -> Any:
        """The action of a Discrete space with this number, counted as the space counts. Raises RefusedError."""
        space = self.space
        if not isinstance(space, gymnasium.spaces.Discrete):
            raise RefusedError(f"actions have entries here: {', '.join(self.names)}; such as `{self.names[0]} 0.5`")
        first, last = self._choices
        if not first <= chosen <= last:
            raise RefusedError(f"{chosen}: choices go from {first} to {last}")
        return space.dtype.type(chosen)

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
        return values.reshape(self.space.shape).astype(self.space.dtype)

    def follow(self, action: Any) -> None:
        """Somebody acted so: let what stays stay there."""
        if self.names:
            self._values = np.where(self._stays, np.asarray(action, np.float64).ravel(), self._rest)

    @property
    def _choices(self) -> tuple[int, int]:
        """The first and the last choice of a Discrete space."""
        start = int(getattr(self.space, "start", 0))
        return start, start + self.choices - 1

    def _read_choice(self, words: Sequence[str]) -> tuple[Any, int]:
        if not words:
            raise RefusedError("an action is one number here, a choice")
        chosen = number(words[0])
        if chosen is None:
            raise UnknownError(words[0], map(str, self._choices))
        if chosen != int(chosen):
            raise RefusedError(f"{words[0]}: a choice is a whole number")
        return self.choose(int(chosen)), steps(words[1:])

    def _read_entries(self, words: Sequence[str]) -> tuple[Any, int]:
        """`x 0.5 z -1`, and perhaps for how many steps."""
        even = len(words) // 2 * 2
        changes: dict[str, float] = {}
        for name, said in zip(words[:even:2], words[1:even:2], strict=True):
            self._check_word(name)
            value = number(said)
            if value is None:
                raise RefusedError(f"{name}: {said!r} is no number")
            if name in changes:
                raise RefusedError(f"{name}: given twice")
            changes[name] = value
        if even < len(words) and (not changes or number(words[-1]) is None):
            self._check_word(words[-1])
            raise RefusedError(f"{words[-1]}: give a value, such as `{words[-1]} {self.value(words[-1]):g}`")
        return self.set(changes), steps(words[even:])

    def _check_word(self, word: str) -> None:
        if word not in self.names:
            raise UnknownError(word, (*self.names, *MOVES, "wait"))

    def _index(self, name: str) -> int:
        if not self.names:
            raise RefusedError(f"no entry {name!r} here: an action is one number, a choice")
        if name not in self.names:
            raise RefusedError(f"no entry {name!r} in an action here; {nearest(name, self.names)}")
        return self.names.index(name)


def _names_places(control: Any) -> bool:
    """Whether the entries of a table-top action say where to be, and not how far to go."""
    return getattr(control, "relative", None) is False or getattr(control, "target", None) == "position"
