"""Commands, such as a hand gives them to a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from vla_rl.actions.command import KIND, Command, Commands
from vla_rl.actions.text import span_of, spanned, spelled, spelling
from vla_rl.play.controls import RefusedError, UnknownError, number, steps
from vla_rl.registry import ConfigError, nearest
from vla_rl.specs import words_of

Place = Sequence[float]
"""x and y, in the unit in which the space counts places."""


class Hand:
    """The commands of an environment; see `Controls`. A line is a kind, its places, and what else it takes.

    Args:
        space: it says which kinds there are, what they take, and how places are counted.

    Raises:
        ConfigError: an argument that cannot be said.
    """

    def __init__(self, space: Commands) -> None:
        self.space = space
        self._places = {kind: self._of(kind, place=True) for kind in space.kinds}
        self._spoken = {kind: "".join(self._of(kind, place=False)) for kind in space.kinds}
        for kind in space.kinds:
            if len(self._of(kind, place=False)) > 1:
                raise ConfigError(f"a person can say places and one thing more; {kind!r} takes {space.takes[kind]}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Their names."""
        return self.space.kinds

    def places(self, kind: str) -> int:
        """How many places a kind takes."""
        return len(self._places[kind])

    def speaks(self, kind: str) -> bool:
        """Whether a kind takes words, characters or a choice."""
        return bool(self._spoken[kind])

    def choices(self, kind: str) -> tuple[str, ...]:
        """What the choices of a kind are called, such as keys; none where there is no such kind, or no choice."""
        spoken = self._spoken.get(kind)
        return self._names(spoken) if spoken and isinstance(self.space[spoken], spaces.Discrete) else ()

    def place(self, kind: str, index: int, share: Place) -> Place:
        """The place, as the space counts, that lies at a share of the picture's width and height.

        Raises:
            RefusedError: no such kind.
        """
        self._check(kind)
        box = self.space[self._places[kind][index]]
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
        arguments = {name: self._within(name, place) for name, place in zip(self._places[kind], places, strict=True)}
        if self._spoken[kind]:
            arguments[self._spoken[kind]] = self._heard(self._spoken[kind], said, text)
        return self.space.command(kind, **arguments)

    @property
    def help(self) -> tuple[str, ...]:
        """See `Controls`."""
        more = {"words": "WORDS: as they stand in the text of the task"}
        for name, called in self.space.names.items():
            length = (self.space[name].shape or (0,))[0]
            more[name] = f"{name.upper()}: " + (f"at most {length} characters" if length else ", ".join(called))
        used = {name for names in self.space.takes.values() for name in names}
        frame = next(([self._frame(names[0])] for names in self._places.values() if names), [])
        return (
            *(f"  {self._usage(kind)}" for kind in self.kinds),
            *(f"  ({line})" for line in (*frame, *(line for name, line in more.items() if name in used))),
        )

    def read(self, words: Sequence[str], text: str) -> tuple[dict[str, Any], int]:
        """See `Controls`: `click 0.5 0.5`, `type two words`, `key Enter`; steps may follow where no text does."""
        kind, *rest = words or self.kinds[:1]
        if kind not in self.kinds:
            raise UnknownError(kind, self.kinds)
        count, spoken = 2 * self.places(kind), self._spoken[kind]
        numbers = [self._number(kind, word) for word in rest[:count]]
        rest = rest[count:]
        if len(numbers) < count or (spoken and not rest):
            raise RefusedError(f"{kind}: say `{self._usage(kind)}`; got {' '.join(words)!r}")
        whole = bool(spoken) and not isinstance(self.space[spoken], spaces.Discrete)
        said, rest = (" ".join(rest), []) if whole else (rest[0], rest[1:]) if spoken else ("", rest)
        return self.command(kind, list(zip(numbers[::2], numbers[1::2], strict=True)), said, text), steps(rest)

    def told(self, action: Mapping[str, Any], text: str) -> str:
        """The line that asks for an action; places are rounded to three digits."""
        kind = self.kinds[int(action[KIND])]
        numbers = [f"{round(float(entry), 3):g}" for name in self._places[kind] for entry in action[name]]
        spoken = self._spoken[kind]
        return " ".join([kind, *numbers, *([self._written(spoken, action[spoken], text)] if spoken else [])])

    def begin(self) -> None:
        """Nothing stays from an episode before."""

    def follow(self, action: Any) -> None:
        """Nothing stays."""

    def cameras(self, names: Sequence[str]) -> Sequence[str]:
        """The one that is pointed into: that of `Command`, or else the first."""
        return [Command.camera] if Command.camera in names else names[:1]

    def _check(self, kind: str) -> None:
        if kind not in self.kinds:
            raise RefusedError(f"there is no {kind!r} here; {nearest(kind, self.kinds)}")

    def _of(self, kind: str, place: bool) -> list[str]:
        """The arguments of a kind that are places, or those that are not."""
        found = []
        for name in self.space.takes[kind]:
            space = self.space[name]
            if not isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.Discrete) or (
                isinstance(space, spaces.Box) and (space.shape != (2,) or not space.is_bounded())
            ):
                raise ConfigError(f"{kind!r} takes {name!r}, which a person cannot say: {space}")
            if isinstance(space, spaces.Box) == place:
                found.append(name)
        return found

    def _usage(self, kind: str) -> str:
        spoken = self._spoken[kind]
        steps = [] if spoken and isinstance(self.space[spoken], spaces.MultiDiscrete) else ["[STEPS]"]
        return " ".join([kind, *["X Y"] * self.places(kind), *([spoken.upper()] if spoken else []), *steps])

    def _frame(self, name: str) -> str:
        box = self.space[name]
        x, y = (f"from {low:g} to {high:g}" for low, high in zip(box.low, box.high, strict=True))
        return f"X: {x}, Y: {y}, from the picture's top left"

    def _number(self, kind: str, word: str) -> float:
        value = number(word)
        if value is None:
            raise RefusedError(f"{kind}: {word!r} is no number; say `{self._usage(kind)}`")
        return value

    def _within(self, name: str, place: Place) -> np.ndarray:
        box = self.space[name]
        for value, low, high in zip(place, box.low, box.high, strict=True):
            if not low <= value <= high:
                raise RefusedError(f"{value:g} is not in [{low:g}, {high:g}]; {self._frame(name)}")
        return np.asarray(place, box.dtype)

    def _heard(self, name: str, said: str, text: str) -> Any:
        """The value of an argument that is said. Raises RefusedError where it cannot be."""
        space = self.space[name]
        if self._is_span(name):
            return self._span(said.strip(), text, int(space.nvec[0]))
        if isinstance(space, spaces.MultiDiscrete):
            return self._spelled(said, self._names(name), len(space.nvec))
        if said not in self._names(name):
            raise RefusedError(f"no {name} {said!r}; {nearest(said, self._names(name))}")
        return self._names(name).index(said) + int(space.start)

    def _written(self, name: str, value: Any, text: str) -> str:
        """The other way round."""
        space = self.space[name]
        if self._is_span(name):
            return spanned(value, text, int(space.nvec[0]))
        if isinstance(space, spaces.MultiDiscrete):
            return spelled(value, self._names(name))
        return self._names(name)[int(value) - int(space.start)]

    def _span(self, said: str, text: str, limit: int) -> tuple[int, int]:
        try:
            return span_of(said, text, limit)
        except ValueError:
            known = [text[start:end] for start, end in words_of(text)[:limit]]
        for word in said.split():
            if word not in known:
                raise RefusedError(f"only words of the text can be said here, not {word!r}; {nearest(word, known)}")
        raise RefusedError(f"{said!r} does not stand like this in the text: {text!r}")

    def _spelled(self, said: str, characters: Sequence[str], length: int) -> np.ndarray:
        for letter in said:
            if letter not in characters:
                raise RefusedError(f"{letter!r} cannot be written here")
        if len(said) > length:
            raise RefusedError(f"{said!r}: at most {length} characters can be written at once, not {len(said)}")
        return spelling(said, characters, length)

    def _is_span(self, name: str) -> bool:
        """As `Command` has it: two equal numbers of choices; those with names are characters."""
        space = self.space[name]
        counts = space.nvec if isinstance(space, spaces.MultiDiscrete) else np.zeros(0)
        return name not in self.space.names and counts.shape == (2,) and bool(counts[0] == counts[1])

    def _names(self, name: str) -> tuple[str, ...]:
        """What the choices of an argument are called, or else their numbers."""
        space = self.space[name]
        if name in self.space.names:
            return self.space.names[name]
        if isinstance(space, spaces.Discrete):
            return tuple(str(int(space.start) + i) for i in range(int(space.n)))
        return tuple(str(i) for i in range(1, int(np.max(space.nvec))))
