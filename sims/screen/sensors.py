"""What a policy may observe of a screen, whoever draws it. Fields are the config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sims.observe import spelled
from sims.screen.interaction import Gesture
from sims.screen.world import LegibleScreen, ScreenWorld
from vla_rl.specs import Mark, SensorSpec

NAME_LENGTH, ANSWER_LENGTH = 80, 200
"""Characters that a thing's name, or a tool's answer, may have; what is longer is cut."""
READ_LENGTH = 240
"""Characters that may be read on a screen, or noted down, unless a sensor is told otherwise; the rest is left out."""
_LARGEST = 2048
_PLACES = 4
"""Numbers that say where a gesture began and ended."""


@dataclass(frozen=True)
class Screenshot:
    """What the screen shows, with the cursor: uint8 [height, width, 3].

    Args:
        width, height: 0 for the screen's own; otherwise the picture is made so large.
        crop: whether only the part of this size around the cursor is shown, black beyond the screen's edge.
    """

    name: str = "screen"
    width: int = 0
    height: int = 0
    crop: bool = False

    def __post_init__(self) -> None:
        for field in ("width", "height"):
            if not 0 <= getattr(self, field) <= _LARGEST:
                raise ValueError(f"{field} must lie in [0, {_LARGEST}], got {getattr(self, field)}")
        if bool(self.width) != bool(self.height) or (self.crop and not self.width):
            raise ValueError(
                f"width and height: both, or neither, and both for a crop; got {self.width}, {self.height}"
            )

    def spec(self, world: ScreenWorld) -> SensorSpec:
        """A picture."""
        width, height = self._size(world)
        return SensorSpec("image", (height, width, 3), "uint8", low=0, high=255)

    def read(self, world: ScreenWorld) -> np.ndarray:
        """The screen now."""
        shown, size = world.screenshot(), self._size(world)
        if self.crop:
            return _around(shown, world.cursor, size)
        if size == world.size:
            return shown
        return np.array(Image.fromarray(shown).resize(size, Image.Resampling.BOX))

    def _size(self, world: ScreenWorld) -> tuple[int, int]:
        return (self.width, self.height) if self.width else world.size


def _around(shown: np.ndarray, place: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """The part of `size` (width, height) in whose middle `place` (x, y) lies."""
    part = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (int(place[axis]) - size[axis] // 2 for axis in (0, 1))
    found = shown[max(0, top) : max(0, top + size[1]), max(0, left) : max(0, left + size[0])]
    row, column = max(0, -top), max(0, -left)
    part[row : row + found.shape[0], column : column + found.shape[1]] = found
    return part


@dataclass(frozen=True)
class Focused:
    """Which thing takes the keyboard's input, in words."""

    name: str = "focused"

    def spec(self, world: ScreenWorld) -> SensorSpec:
        """Text."""
        return SensorSpec("text", (NAME_LENGTH + 9,), "str")

    def read(self, world: ScreenWorld) -> str:
        """Such as "focused: city"; nothing where nothing has the focus."""
        return f"focused: {world.focused[:NAME_LENGTH]}" if world.focused else ""


@dataclass(frozen=True)
class Clipboard:
    """What was copied last."""

    name: str = "clipboard"

    def spec(self, world: ScreenWorld) -> SensorSpec:
        """Text."""
        return SensorSpec("text", (ANSWER_LENGTH,), "str")

    def read(self, world: ScreenWorld) -> str:
        """The text."""
        return world.clipboard[:ANSWER_LENGTH]


@dataclass(frozen=True)
class Answer:
    """What the tool that was called last said."""

    name: str = "answer"

    def spec(self, world: ScreenWorld) -> SensorSpec:
        """Text."""
        return SensorSpec("text", (ANSWER_LENGTH,), "str")

    def read(self, world: ScreenWorld) -> str:
        """The text; nothing where none was called yet."""
        return world.answer[:ANSWER_LENGTH]


@dataclass(frozen=True)
class Written:
    """What is written on the screen now, as a screen reader says it: "shown: plan, basic, large, next".

    It says no more than what the picture shows: texts that are hidden, cut off or too fine to be read are not among
    them, nor is what has been put into fields (`Entered`).

    Args:
        length: characters at most; what does not fit is left out.
        digits: whether numbers are said digit by digit, see `sims.observe.spelled`.
        places: whether it also says where each text stands, as character recognition does, in percent of the picture
            from its left and from its top: "plan <30,41>". A policy that remembers turns then need not look for it.
    """

    name: str = "written"
    length: int = READ_LENGTH
    digits: bool = False
    places: bool = False

    def spec(self, world: LegibleScreen) -> SensorSpec:
        """Text. An environment whose screen cannot be read has no `written`."""
        return _line_spec(world.written, self.length)

    def read(self, world: LegibleScreen) -> str:
        """The line; "shown:" where nothing is written."""
        found = [(spelled(text) if self.digits else text, at) for text, at in world.written()]
        said = [f"{text} {_percent(at, world.size)}" if self.places else text for text, at in found]
        return _line("shown", said, self.length)


@dataclass(frozen=True)
class Entered:
    """What stands in the fields that are seen now, and what is chosen or ticked: "entered: lima, large".

    Secret fields say nothing.

    Args:
        length, digits: as of `Written`.
    """

    name: str = "entered"
    length: int = READ_LENGTH
    digits: bool = False

    def spec(self, world: LegibleScreen) -> SensorSpec:
        """Text."""
        return _line_spec(world.entered, self.length)

    def read(self, world: LegibleScreen) -> str:
        """The line; "entered:" where there is nothing."""
        return _line("entered", world.entered(), self.length, self.digits)


@dataclass(frozen=True)
class Notebook:
    """What was written in this episode, on earlier screens or on this one, on what a hand cannot change: titles and
    labels, each text once, in the order in which they were seen: "noted: plan, note: basic, size".

    So what is read on one page can be used on another: its words are words of the text, which can be typed and pointed
    at. What stands on buttons, options and in fields is not noted.

    Args:
        length: characters at most; what was seen first is left out where it is more.
    """

    name: str = "notebook"
    length: int = READ_LENGTH

    def spec(self, world: LegibleScreen) -> SensorSpec:
        """Text."""
        return _line_spec(world.noted, self.length)

    def read(self, world: LegibleScreen) -> str:
        """The line; "noted:" where nothing was seen yet."""
        return _line("noted", world.noted, self.length, latest=True)


def _percent(place: tuple[float, float], size: tuple[int, int]) -> str:
    """A place in pixels, in percent of the picture."""
    x, y = (min(max(round(100 * p / side), 0), 100) for p, side in zip(place, size, strict=True))
    return f"<{x},{y}>"


def _line_spec(read: object, length: int) -> SensorSpec:
    """Of a line of what was `read` on a world, which it must offer."""
    if length < NAME_LENGTH:
        raise ValueError(f"length must be at least {NAME_LENGTH}, got {length}")
    return SensorSpec("text", (length,), "str")


def _line(label: str, texts: Sequence[str], length: int, digits: bool = False, latest: bool = False) -> str:
    """The texts, lower-case, in a line of at most so many characters; where it is too long the first ones count, or
    the `latest`."""
    said, room = list[str](), length - len(label) - 1
    for text in reversed(texts) if latest else texts:
        text = " ".join((spelled(text) if digits else text).lower().split())
        room -= len(text) + 2
        if room < 0:
            break
        said.append(text)
    return f"{label}: {', '.join(reversed(said) if latest else said)}".rstrip()


@dataclass(frozen=True)
class Cursor:
    """Where the mouse is: float32 [2], x to the right, y down, -1 to 1 over the screen."""

    name: str = "cursor"

    def spec(self, world: ScreenWorld) -> SensorSpec:
        """Two entries."""
        return SensorSpec("vector", (2,), "float32", low=-1, high=1)

    def read(self, world: ScreenWorld) -> np.ndarray:
        """The place now."""
        return _spread(world.cursor, world.size)


@dataclass(frozen=True)
class LastGestures:
    """What was done in the last `count` steps, the latest first: float32 [count * (1 + kinds + 4)] in [-1, 1].

    Of each: 1 where there was none yet, a 1 for its kind, where it began and where it ended (x, y, as `Cursor`
    counts; for a kind that has no place, where the latest one before it ended that had one). Where they ended are
    marks on the picture of `camera`.
    """

    name: str = "last_gestures"
    count: int = 2
    camera: str = "screen"

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 32:
            raise ValueError(f"count must lie in [1, 32], got {self.count}")

    def spec(self, world: ScreenWorld) -> SensorSpec:
        """So many entries."""
        kinds = len(world.kinds)
        starts = range(0, self.count * (1 + kinds + _PLACES), 1 + kinds + _PLACES)
        flags = [tuple(range(start + 1, start + 1 + kinds)) for start in starts]
        marks = tuple(Mark(kind[-1] + _PLACES - 1, kind, self.camera) for kind in flags)
        return SensorSpec("vector", (len(starts) * starts.step,), "float32", low=-1, high=1, marks=marks)

    def read(self, world: ScreenWorld) -> np.ndarray:
        """The gestures of the last steps."""
        rows = np.zeros((self.count, 1 + len(world.kinds) + _PLACES), np.float32)
        last = world.gestures[-self.count :]
        rows[len(last) :, 0] = 1
        rest = _rest(world.gestures[: -self.count], world.size)
        for row, gesture in zip(rows[: len(last)][::-1], last, strict=True):
            began = rest if gesture.at is None else _spread(gesture.at, world.size)
            rest = began if gesture.to is None else _spread(gesture.to, world.size)
            row[1 + world.kinds.index(gesture.kind)] = 1
            row[-_PLACES:] = np.concatenate([began, rest])
        return rows.ravel()


def _rest(gestures: Sequence[Gesture], size: tuple[int, int]) -> np.ndarray:
    """Where the hand is after these, float32 [2]; in the middle before the first that has a place."""
    for gesture in reversed(gestures):
        place = gesture.to or gesture.at
        if place is not None:
            return _spread(place, size)
    return np.zeros(2, np.float32)


def _spread(place: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """A place in pixels as float32 [2] in [-1, 1]."""
    return np.array([min(max(2 * p / side - 1, -1), 1) for p, side in zip(place, size, strict=True)], np.float32)
