"""What can be called on a screen beside what a hand does, and what a call costs. Fields are the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sims.gui.screen import Screen
from sims.screen.interaction import Gesture

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLE = "table"
"""Where `Lookup` finds its table in a screen's `memory`: a mapping of words to words."""
NOTHING = "nothing"
"""What `Read` says of a place where nothing is written."""


class Tool(Protocol):
    """A frozen dataclass. It is called by a gesture `name` with the arguments `takes`: any of `at` and `words`."""

    @property
    def name(self) -> str:
        """Of the gesture."""

    @property
    def takes(self) -> tuple[str, ...]:
        """The gesture's arguments."""

    @property
    def cost(self) -> float:
        """Of one call, added to `info["cost"]`."""

    def call(self, screen: Screen, gesture: Gesture) -> str:
        """Carry out a call; returns what is answered in words, which the sensor `answer` shows until the next call."""


@dataclass(frozen=True)
class Zoom:
    """Shows the half of the screen (along each side) around a place, enlarged, until the next gesture.

    The screenshot shows it in place of the screen, and pointing at something in it points at that thing: whoever can
    click on what is named can do so in what was enlarged. Names that are too fine for the screen are readable in it.
    """

    cost: float = 0.04
    name: str = "zoom"
    takes: tuple[str, ...] = ("at",)

    def __post_init__(self) -> None:
        _check(self.cost)

    def call(self, screen: Screen, gesture: Gesture) -> str:
        """See `Tool`."""
        assert gesture.at is not None, gesture
        screen.enlarge(screen.view_around(*gesture.at))
        return ""


@dataclass(frozen=True)
class Read:
    """Says what is written at a place, however fine it is."""

    cost: float = 0.03
    name: str = "read"
    takes: tuple[str, ...] = ("at",)

    def __post_init__(self) -> None:
        _check(self.cost)

    def call(self, screen: Screen, gesture: Gesture) -> str:
        """See `Tool`."""
        assert gesture.at is not None, gesture
        found = next((each.widget for each in reversed(screen.placed()) if each.holds(*gesture.at)), None)
        return str(getattr(found, "text", "")) or NOTHING


@dataclass(frozen=True)
class Lookup:
    """Says what the task's table has for a word of the text."""

    cost: float = 0.05
    name: str = "lookup"
    takes: tuple[str, ...] = ("words",)

    def __post_init__(self) -> None:
        _check(self.cost)

    def call(self, screen: Screen, gesture: Gesture) -> str:
        """See `Tool`."""
        table: Mapping[str, str] = screen.memory.get(TABLE, {})
        word = gesture.text.lower()
        return f"{word} is {table[word]}" if word in table else "not in the table"


@dataclass(frozen=True)
class Call:
    """Calls one of the tools that the task's text lists, by its name, at a place; the task answers and charges."""

    name: str = "call"
    takes: tuple[str, ...] = ("at", "words")
    cost: float = 0.0

    def call(self, screen: Screen, gesture: Gesture) -> str:
        """See `Tool`; what is answered comes from the task."""
        return ""


def _check(cost: float) -> None:
    if cost < 0:
        raise ValueError(f"cost must be at least 0, got {cost}")
