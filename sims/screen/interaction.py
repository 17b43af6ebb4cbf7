"""What a hand on mouse and keyboard can do: gestures, and the actions that stand for them."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from vla_rl.actions.command import KIND, Commands
from vla_rl.actions.text import span_of, spanned, spelled, spelling
from vla_rl.registry import nearest

TAKES: dict[str, tuple[str, ...]] = {
    "wait": (),
    "click": ("at",),
    "double_click": ("at",),
    "drag": ("at", "to"),
    "scroll_up": ("at",),
    "scroll_down": ("at",),
    "type": ("words",),
    "write": ("text",),
    "key": ("key",),
    "done": (),
}
"""The kinds of gestures and their arguments: places, a span of the words of the task's text, characters, a key."""
KEYS = ("Enter", "Tab", "Backspace", "Delete", "Escape", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "SelectAll")
"""Keys by the names that browsers give them; `SelectAll` marks what is in the focused field."""
CHARACTERS = string.ascii_lowercase + string.digits + string.ascii_uppercase + " " + string.punctuation
"""What may be written character by character."""
ENDS = {"unit": 1.0, "thousand": 1000.0}
"""The far end of both axes in the frames that do not depend on the screen's size."""


@dataclass(frozen=True)
class Gesture:
    """One thing that the hand does. Places are in pixels of the screen, x to the right, y down, from the top left.

    `kind`: a key of TAKES, or the name of a tool. `text`: what is typed or written, or the words that a tool is given.
    """

    kind: str
    at: tuple[float, float] | None = None
    to: tuple[float, float] | None = None
    text: str = ""
    key: str = ""


@dataclass(frozen=True)
class Tool:
    """A tool that is called by a gesture of its own name: what it takes, and what a call costs.

    takes: any of `at` and `words`.
    """

    name: str
    takes: tuple[str, ...] = ()
    cost: float = 0.0


@dataclass(frozen=True)
class Interaction:
    """Which gestures an environment takes, and how they are written as actions.

    `wait`, which does nothing, is always among them, and comes first.

    Args:
        gestures: keys of TAKES.
        frame: where places are counted: in `pixels` of the screen, from 0 to 1 (`unit`) or to 1000 (`thousand`).
        keys: those that may be pressed, of KEYS.
        words: the first so many words of the task's text can be typed.
        characters: what may be written; `length`: how many of them at once.

    Raises:
        ValueError: an unknown gesture, frame or key; nothing to choose from.
    """

    gestures: tuple[str, ...] = ("click", "type", "key")
    frame: Literal["pixels", "unit", "thousand"] = "unit"
    keys: tuple[str, ...] = ("Enter", "Tab")
    words: int = 24
    characters: str = CHARACTERS
    length: int = 12

    def __post_init__(self) -> None:
        for name, values, known in (("gestures", self.gestures, TAKES), ("keys", self.keys, KEYS)):
            for value in values:
                if value not in known:
                    raise ValueError(f"{name}: no {value!r}; {nearest(value, known)}")
        if self.frame not in ("pixels", *ENDS):
            raise ValueError(f"frame: one of pixels, {', '.join(ENDS)}; got {self.frame!r}")
        if not self.keys or not self.characters or min(self.words, self.length) < 1:
            raise ValueError(f"keys, characters, words, length: at least one each; got {self}")
        object.__setattr__(self, "gestures", ("wait", *(name for name in TAKES if name in {*self.gestures} - {"wait"})))

    def space(self, size: tuple[int, int], tools: Sequence[Tool] = ()) -> Commands:
        """The action space on a screen of `size` (width, height) pixels: the gestures, then the tools."""
        takes = {name: TAKES[name] for name in self.gestures} | {tool.name: tool.takes for tool in tools}
        place = spaces.Box(np.zeros(2, np.float32), np.asarray(self._ends(size), np.float32))
        known = {
            "at": place,
            "to": place,
            "words": spaces.MultiDiscrete([self.words] * 2),
            "text": spaces.MultiDiscrete([len(self.characters) + 1] * self.length),
            "key": spaces.Discrete(len(self.keys)),
        }
        used = {name for names in takes.values() for name in names}
        names = {"text": self.characters, "key": self.keys}
        return Commands(
            takes,
            {name: space for name, space in known.items() if name in used},
            names={name: called for name, called in names.items() if name in used},
        )

    def read(self, action: Mapping[str, Any], space: Commands, size: tuple[int, int], text: str) -> Gesture:
        """The gesture that an action of `space` stands for, where the task's text is `text`.

        A span that goes beyond the text's words ends with the last of them, and one behind them is empty.

        Raises:
            ValueError: not an action of the space.
        """
        if not isinstance(action, Mapping) or not space.contains(dict(action)):
            raise ValueError(f"an action is a command of {dict(space.items())}; got {action!r}")
        kind = space.kinds[int(action[KIND])]
        takes = space.takes[kind]
        return Gesture(
            kind,
            at=self._pixels(action["at"], size) if "at" in takes else None,
            to=self._pixels(action["to"], size) if "to" in takes else None,
            text=self._text(action, takes, text),
            key=self.keys[int(action["key"])] if "key" in takes else "",
        )

    def write(self, gesture: Gesture, space: Commands, size: tuple[int, int], text: str) -> dict[str, Any]:
        """The action of `space` that stands for a gesture: `read` gives it back.

        Raises:
            ValueError: a gesture, key or character that the space lacks, or words that are not in `text`.
        """
        if gesture.kind not in space.takes:
            raise ValueError(f"no gesture {gesture.kind!r}; {nearest(gesture.kind, space.takes)}")
        arguments: dict[str, Any] = {}
        for name in space.takes[gesture.kind]:
            if name in ("at", "to"):
                place = gesture.at if name == "at" else gesture.to
                assert place is not None, gesture
                arguments[name] = np.asarray(place) / size * self._ends(size)
            elif name == "words":
                arguments[name] = self.span(gesture.text, text)
            elif name == "text":
                arguments[name] = spelling(gesture.text, self.characters, self.length)
            else:
                if gesture.key not in self.keys:
                    raise ValueError(f"no key {gesture.key!r}; {nearest(gesture.key, self.keys)}")
                arguments[name] = self.keys.index(gesture.key)
        return space.command(gesture.kind, **arguments)

    def span(self, wanted: str, text: str) -> tuple[int, int]:
        """The first and the last of the words of `text` that are `wanted`. Raises ValueError where there are none."""
        return span_of(wanted, text, self.words)

    def _text(self, action: Mapping[str, Any], takes: Sequence[str], text: str) -> str:
        if "words" in takes:
            return spanned(action["words"], text, self.words)
        return spelled(action["text"], self.characters) if "text" in takes else ""

    def _ends(self, size: tuple[int, int]) -> np.ndarray:
        """The far end of each axis, in the frame's unit."""
        return np.asarray(size, np.float64) if self.frame == "pixels" else np.full(2, ENDS[self.frame])

    def _pixels(self, place: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
        x, y = np.asarray(place, np.float64) / self._ends(size) * size
        return float(x), float(y)
