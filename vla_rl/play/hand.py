"""Commands, such as a hand gives them to a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from vla_rl.actions.command import KIND, Command, Commands
from vla_rl.play.controls import RefusedError, UnknownError, number, steps
from vla_rl.play.spoken import Spoken, spoken
from vla_rl.registry import ConfigError, nearest

Place = Sequence[float]
"""x and y, in the unit in which the space counts places."""


class Hand:
    """The commands of an environment; see `Controls`. A line is a kind, its places, and what else it takes.

    Args:
        space: it says which kinds there are, what they take, and how places are counted.

    Raises:
        ConfigError: a kind that takes what cannot be said.
    """

    def __init__(self, space: Commands) -> None:
        self.space = space
        self._boxes: dict[str, spaces.Box] = {}
        self._spoken: dict[str, Spoken] = {}
        for name, part in space.items():
            if isinstance(part, spaces.Box) and part.shape == (2,) and part.is_bounded():
                self._boxes[name] = part
            elif name != KIND:
                said = spoken(space, name)
                if said is None:
                    raise ConfigError(f"commands take {name!r}, which a person cannot say: {part}")
                self._spoken[name] = said
        for kind in space.kinds:
            if len(self._said(kind)) > 1:
                raise ConfigError(f"a person can say places and one thing more; {kind!r} takes {space.takes[kind]}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Their names."""
        return self.space.kinds

    def places(self, kind: str) -> int:
        """How many places a kind takes."""
        return len(self._pointed(kind))

    def speaks(self, kind: str) -> bool:
        """Whether a kind takes words, characters or a choice."""
        return bool(self._said(kind))

    def choices(self, kind: str) -> tuple[str, ...]:
        """What the choices of a kind are called, such as keys; none where there is no such kind, or no choice."""
        return next((self._spoken[name].choices for name in self._said(kind)), ()) if kind in self.kinds else ()

    def place(self, kind: str, index: int, share: Place) -> Place:
        """The place, as the space counts, that lies at a share of the picture's width and height.

        Raises:
            RefusedError: no such kind.
        """
        self._check(kind)
        box = self._boxes[self._pointed(kind)[index]]
        return tuple(float(low + part * (high - low)) for part, low, high in zip(share, box.low, box.high, strict=True))

    def command(self, kind: str, places: Sequence[Place], said: str, text: str) -> dict[str, Any]:
        """The action of a kind with its places, in their order, and what it is told.

        Args:
            said: words of `text`, characters, or the name of a choice; "" where the kind takes none.
            text: the present text of the task.

        Raises:
            RefusedError: no such kind, a place beyond the picture, or what cannot be said.
        """
        self._check(kind)
        arguments: dict[str, Any] = {
            name: self._within(name, place) for name, place in zip(self._pointed(kind), places, strict=True)
        }
        arguments |= {name: self._spoken[name].heard(said, text) for name in self._said(kind)}
        return self.space.command(kind, **arguments)

    @property
    def help(self) -> tuple[str, ...]:
        """See `Controls`."""
        frames = [self._frame(name) for name in list(self._boxes)[:1]]
        said = [f"{name.upper()}: {each.help}" for name, each in self._spoken.items()]
        first, *rest = (f"  {self._usage(kind)}" for kind in self.kinds)
        empty = "" if self.space.takes[self.kinds[0]] else "  (an empty line does it too)"
        return (first + empty, *rest, *(f"    {line}" for line in (*frames, *said)))

    def read(self, words: Sequence[str], text: str) -> tuple[dict[str, Any], int]:
        """See `Controls`: `click 0.5 0.5`, `type two words`, `key Enter`; steps may follow where no text does."""
        kind, *rest = words or self.kinds[:1]
        if kind not in self.kinds:
            raise UnknownError(kind, self.kinds)
        count = 2 * self.places(kind)
        numbers = [self._number(kind, word) for word in rest[:count]]
        rest = rest[count:]
        if len(numbers) < count or (self.speaks(kind) and not rest):
            raise RefusedError(f"{kind}: say `{self._usage(kind)}`; got {' '.join(words)!r}")
        said = rest if self._takes_text(kind) else rest[: self.speaks(kind)]
        places = list(zip(numbers[::2], numbers[1::2], strict=True))
        return self.command(kind, places, " ".join(said), text), steps(rest[len(said) :])

    def told(self, action: Mapping[str, Any], text: str) -> str:
        """The line that asks for an action; places are rounded to three digits."""
        kind = self.kinds[int(action[KIND])]
        numbers = [f"{round(float(entry), 3):g}" for name in self._pointed(kind) for entry in action[name]]
        return " ".join(
            [kind, *numbers, *(self._spoken[name].written(action[name], text) for name in self._said(kind))]
        )

    def begin(self) -> None:
        """Nothing stays from an episode before."""

    def follow(self, action: Any) -> None:
        """Nothing stays."""

    def cameras(self, names: Sequence[str]) -> Sequence[str]:
        """The one that is pointed into: that of `Command`, or else the first."""
        return [Command.camera] if Command.camera in names else names[:1]

    def _pointed(self, kind: str) -> list[str]:
        """The arguments of a kind that are places."""
        return [name for name in self.space.takes[kind] if name in self._boxes]

    def _said(self, kind: str) -> list[str]:
        """The argument of a kind that is none, if it takes one."""
        return [name for name in self.space.takes[kind] if name in self._spoken]

    def _takes_text(self, kind: str) -> bool:
        """Whether the rest of a line belongs to what is said."""
        return self.speaks(kind) and not self.choices(kind)

    def _check(self, kind: str) -> None:
        if kind not in self.kinds:
            raise RefusedError(f"there is no {kind!r} here; {nearest(kind, self.kinds)}")

    def _usage(self, kind: str) -> str:
        more = [] if self._takes_text(kind) else ["[STEPS]"]
        return " ".join([kind, *["X Y"] * self.places(kind), *(name.upper() for name in self._said(kind)), *more])

    def _frame(self, name: str) -> str:
        box = self._boxes[name]
        x, y = (f"from {low:g} to {high:g}" for low, high in zip(box.low, box.high, strict=True))
        return f"X: {x}, Y: {y}, from the picture's top left"

    def _number(self, kind: str, word: str) -> float:
        value = number(word)
        if value is None:
            raise RefusedError(f"{kind}: {word!r} is no number; say `{self._usage(kind)}`")
        return value

    def _within(self, name: str, place: Place) -> np.ndarray:
        box = self._boxes[name]
        for value, low, high in zip(place, box.low, box.high, strict=True):
            if not low <= value <= high:
                raise RefusedError(f"{value:g} is not in [{low:g}, {high:g}]; {self._frame(name)}")
        return np.asarray(place, box.dtype)
