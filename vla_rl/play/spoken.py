"""What a command takes beside places, as a person says it: words of the text, characters, or a choice by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from vla_rl.actions.command import Commands
from vla_rl.actions.text import span_of, spanned, spelled, spelling
from vla_rl.play.controls import RefusedError
from vla_rl.registry import nearest
from vla_rl.specs import words_of


class Spoken(Protocol):
    """An argument of commands. `choices`: the names that there are, where it is one of them; else any text is said."""

    @property
    def choices(self) -> tuple[str, ...]:
        """See above."""

    @property
    def help(self) -> str:
        """What can be said."""

    def heard(self, said: str, text: str) -> Any:
        """Its value, where `text` is the task's present text. Raises RefusedError where that cannot be said."""

    def written(self, value: Any, text: str) -> str:
        """The other way round."""


def spoken(space: Commands, name: str) -> Spoken | None:
    """How an argument of commands is said; None for one that cannot be.

    Choices and characters without a name are called by their number.
    """
    part, names = space[name], space.names.get(name)
    if isinstance(part, spaces.Discrete):
        start = int(part.start)
        return Choice(name, names or tuple(str(start + i) for i in range(int(part.n))), start)
    if not isinstance(part, spaces.MultiDiscrete) or part.nvec.ndim != 1:
        return None
    if space.is_span(name):
        return Words(int(part.nvec[0]))
    return Characters(names or tuple(map(str, range(1, int(part.nvec.max())))), len(part.nvec))


@dataclass(frozen=True)
class Words:
    """A span of the first `limit` words of the task's text."""

    limit: int
    choices: tuple[str, ...] = ()
    help: str = "as they stand in the text of the task"

    def heard(self, said: str, text: str) -> tuple[int, int]:
        """See `Spoken`: the first and the last word."""
        try:
            return span_of(said.strip(), text, self.limit)
        except ValueError:
            known = [text[start:end] for start, end in words_of(text)[: self.limit]]
        for word in said.split():
            if word not in known:
                raise RefusedError(f"only words of the text can be said here, not {word!r}; {nearest(word, known)}")
        raise RefusedError(f"{said!r} does not stand like this in the text: {text!r}")

    def written(self, value: Any, text: str) -> str:
        """See `Spoken`."""
        return spanned(value, text, self.limit)


@dataclass(frozen=True)
class Characters:
    """At most `length` of some characters."""

    characters: tuple[str, ...]
    length: int
    choices: tuple[str, ...] = ()

    @property
    def help(self) -> str:
        """See `Spoken`."""
        return f"at most {self.length} characters"

    def heard(self, said: str, text: str) -> np.ndarray:
        """See `Spoken`: the characters' numbers."""
        for letter in said:
            if letter not in self.characters:
                raise RefusedError(f"{letter!r} cannot be written here")
        if len(said) > self.length:
            raise RefusedError(f"{said!r}: at most {self.length} characters can be written at once, not {len(said)}")
        return spelling(said, self.characters, self.length)

    def written(self, value: Any, text: str) -> str:
        """See `Spoken`."""
        return spelled(value, self.characters)


@dataclass(frozen=True)
class Choice:
    """One of several things that have names; the first has the number `start`."""

    name: str
    choices: tuple[str, ...]
    start: int

    @property
    def help(self) -> str:
        """See `Spoken`."""
        return ", ".join(self.choices)

    def heard(self, said: str, text: str) -> int:
        """See `Spoken`: its number."""
        if said not in self.choices:
            raise RefusedError(f"no {self.name} {said!r}; {nearest(said, self.choices)}")
        return self.start + self.choices.index(said)

    def written(self, value: Any, text: str) -> str:
        """See `Spoken`."""
        return self.choices[int(value) - self.start]
