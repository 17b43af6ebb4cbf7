"""What every widget is: plain data with a place, that can be painted, hit and acted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from PIL import Image

from sims.gui.paint import Box, Size, Style
from sims.gui.themes import Colour


class Event(NamedTuple):
    """What a gesture did to the widget `name`: press, toggle, choose, select, change, submit, cancel."""

    name: str
    kind: str


class Surface(Protocol):
    """What a widget asks of the screen that it lies on; see `sims.gui.screen.Screen`."""

    style: Style
    pressed: str

    def all(self, kind: type[Widget]) -> Iterator[Any]: ...

    def emit(self, name: str, kind: str) -> None: ...

    def set_focus(self, name: str) -> None: ...

    def close_menus(self) -> None: ...


@dataclass(eq=False)
class Widget:
    """A thing on a screen. Its fields are its whole state: numbers, texts, tuples, lists, and widgets in it.

    name: tells it from the others of its screen. box: left, top, width and height in pixels of the screen; of what
    lies in a scroll area, as if nothing were scrolled.

    A widget is painted by its static method `paint(style, ground, size, *look)`, a pure function, so that its picture
    can be kept; `look` are the parts of its state that its picture depends on.
    """

    name: str
    box: Box

    focusable: ClassVar[bool] = False
    """Whether Tab stops at it."""
    by_enter: ClassVar[bool] = False
    """Whether Enter does what a click does, while it has the focus."""
    alive: ClassVar[bool] = True
    """Whether a hand on it can change anything."""

    @property
    def spoken(self) -> str:
        """What a person would call it."""
        return str(getattr(self, "text", "") or self.name)

    def written(self, style: Style) -> tuple[str, ...]:
        """What is written on it and large enough to be read; not what has been put into it."""
        text = str(getattr(self, "text", ""))
        return (text,) if text else ()

    def stands(self, style: Style) -> Sequence[tuple[float, float]]:
        """The middle of each of the texts that can be `written` on it, in pixels from its top left corner."""
        return [(self.box[2] / 2, self.box[3] / 2)] * 2

    def entered(self) -> str:
        """What has been put into it, as far as it shows: the text of a field, the name of what is chosen or ticked."""
        return ""

    def look(self, style: Style, focused: bool) -> tuple[Any, ...] | None:
        """What `paint` takes beside the size; None for a widget that is not to be seen itself."""
        return None

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """Its picture, RGB, on what lies behind it."""
        raise NotImplementedError

    def ground(self, style: Style, behind: Colour) -> Colour:
        """What its parts lie on."""
        return behind

    def parts(self) -> Sequence[Widget]:
        """The widgets in it that are shown now, the topmost last."""
        return ()

    def scrolled(self) -> int:
        """By how many pixels its parts have moved up."""
        return 0

    def popup(self) -> Widget | None:
        """What is open above everything else because of it."""
        return None

    def inner(self) -> Box:
        """Where its parts can be seen."""
        return self.box

    def click(self, screen: Surface, x: float, y: float) -> None:
        """Clicked, so many pixels from its top left corner."""
        return

    def double_click(self, screen: Surface, x: float, y: float) -> None:
        """Clicked twice."""
        self.click(screen, x, y)

    def drag(self, screen: Surface, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """Pulled from one place to another, counted as for a click; whether it takes part in that."""
        return False

    def scroll(self, screen: Surface, steps: int) -> bool:
        """The wheel turned by so many steps, down if positive; whether it takes part in that."""
        return False

    def write(self, screen: Surface, text: str) -> None:
        """Text arrives while it has the focus."""
        return

    def key(self, screen: Surface, key: str) -> bool:
        """A key is pressed while it has the focus; whether it takes part in that."""
        if self.by_enter and key == "Enter":
            self.click(screen, 0, 0)
            return True
        return False

    def lost(self) -> None:
        """Another widget has the focus now."""
        return


class Placed(NamedTuple):
    """A widget where it is shown: left and top in pixels of the screen, the part of the screen (left, top, right,
    bottom) that it can be seen in, the colour behind it, and its number's parent among all that are shown, or -1."""

    widget: Widget
    x: int
    y: int
    clip: tuple[int, int, int, int]
    ground: Colour
    parent: int

    @property
    def middle(self) -> tuple[float, float]:
        """Its middle, in pixels of the screen."""
        return self.x + self.widget.box[2] / 2, self.y + self.widget.box[3] / 2

    def holds(self, x: float, y: float) -> bool:
        """Whether it is hit there."""
        left, top, right, bottom = self.clip
        _, _, wide, high = self.widget.box
        return max(left, self.x) <= x < min(right, self.x + wide) and max(top, self.y) <= y < min(bottom, self.y + high)


@lru_cache(maxsize=1024)
def picture(
    paint: Callable[..., Image.Image], style: Style, ground: Colour, size: Size, look: tuple[Any, ...]
) -> np.ndarray:
    """What a widget's `paint` paints, uint8 [height, width, 3], not to be changed."""
    return np.asarray(paint(style, ground, size, *look))


@lru_cache(maxsize=64)
def bare(size: Size, colour: Colour) -> np.ndarray:
    """A picture of one colour, uint8 [height, width, 3], not to be changed."""
    return np.full((size[1], size[0], 3), colour, np.uint8)


def plain(value: Any) -> Any:
    """Widgets as mappings with the name of their class as `type`, at any depth; other values as they are."""
    if isinstance(value, Widget):
        own = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {"type": type(value).__name__, **own}
    return [plain(each) for each in value] if isinstance(value, list) else value


def revive(value: Any) -> Any:
    """The widgets that `plain` made mappings of."""
    if isinstance(value, dict) and "type" in value:
        kinds = {kind.__name__: kind for kind in Widget.__subclasses__()}
        return kinds[value["type"]](**{name: revive(each) for name, each in value.items() if name != "type"})
    return [revive(each) for each in value] if isinstance(value, list) else value
