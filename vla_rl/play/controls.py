"""From what a person says to an action, whatever the actions of an environment are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from vla_rl.registry import nearest

MOST = 1000
"""Steps that one line may ask for."""


class RefusedError(ValueError):
    """What was asked for cannot be done now, and nothing was; the message says why."""


class UnknownError(RefusedError):
    """A line with a word that means nothing here. `known`: those that do."""

    def __init__(self, word: str, known: Iterable[str]) -> None:
        self.word, self.known = word, tuple(known)
        super().__init__(f"cannot read {word!r}; {nearest(word, self.known)} (`help` lists everything)")


class Controls(Protocol):
    """The actions of an environment as a person takes them."""

    @property
    def help(self) -> tuple[str, ...]:
        """What can be said, a line each."""

    def read(self, words: Sequence[str], text: str) -> tuple[Any, int]:
        """The action that a line asks for, and for how many steps; `text` is the present text of the task.

        No words ask for what does nothing. Nothing changes, whatever is asked for.

        Raises:
            RefusedError: there is no such action; UnknownError where a word means nothing.
        """

    def told(self, action: Any, text: str) -> str:
        """The line that asks for an action, as far as it says more than the picture will; "" for nothing."""

    def begin(self) -> None:
        """An episode begins."""

    def follow(self, action: Any) -> None:
        """Somebody acted so: let what stays stay there."""

    def cameras(self, names: Sequence[str]) -> Sequence[str]:
        """Which of the cameras that are observed a person needs to see; at least one."""


def number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def steps(words: Sequence[str]) -> int:
    """The number of steps that a line ends with; 1 where it says none. Raises RefusedError for anything else."""
    if not words:
        return 1
    count = number(words[0])
    if len(words) > 1 or count is None or count != int(count) or not 1 <= count <= MOST:
        raise RefusedError(f"{' '.join(words)!r}: expected the number of steps, from 1 to {MOST}")
    return int(count)
