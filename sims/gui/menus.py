"""Menus, and what pops up out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from PIL import Image

from sims.gui.paint import Size, Style, bevel, mix, panel, plain, stamp, write_in
from sims.gui.themes import Colour
from sims.gui.widget import Surface, Widget


@dataclass(eq=False)
class Popup(Widget):
    """The items of an open menu."""

    items: list[Widget] = field(default_factory=list)

    alive: ClassVar[bool] = False

    def parts(self) -> Sequence[Widget]:
        """See `Widget`."""
        return self.items

    def ground(self, style: Style, behind: Colour) -> Colour:
        """See `Widget`."""
        return popup_ground(style)

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return ()

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        image = plain(size, ground)
        if style.theme.raised:
            bevel(image, (0, 0, *size), popup_ground(style))
        else:
            panel(image, (0, 0, *size), popup_ground(style), style.theme.edge)
        return image


def popup_ground(style: Style) -> Colour:
    """The colour of open menus."""
    theme = style.theme
    return theme.window if theme.raised else mix(theme.window, theme.field, 0.5)


@dataclass(eq=False)
class Menu(Widget):
    """A word in a menu bar, or an item of a menu: a click opens what it holds, or else chooses it."""

    text: str = ""
    below: Popup | None = None
    open: bool = False
    in_bar: bool = False

    def popup(self) -> Widget | None:
        """See `Widget`."""
        return self.below if self.open else None

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.text, self.open, not self.in_bar and self.below is not None

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        text, is_open, leads = look
        theme = style.theme
        image = plain(size, theme.accent if is_open else ground)
        ink = theme.accent_ink if is_open else theme.ink
        left = style.px(3)
        write_in(image, style, text, (left, 0, size[0] - left, size[1]), ink)
        if leads:
            side = style.px(5)
            stamp(image, "right", (size[0] - side - 1, (size[1] - side) // 2, side, side), ink)
        return image

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        if self.below is not None:
            self.open = not self.open
        else:
            screen.emit(self.name, "choose")
            screen.close_menus()


@dataclass(eq=False)
class Row(Widget):
    """A line of a list, pressed by a click."""

    text: str = ""
    chosen: bool = False

    def entered(self) -> str:
        """See `Widget`."""
        return self.text if self.chosen else ""

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.text, self.chosen

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        text, chosen = look
        theme = style.theme
        image = plain(size, theme.accent if chosen else ground)
        left = style.px(3)
        write_in(image, style, text, (left, 0, size[0] - left, size[1]), theme.accent_ink if chosen else theme.ink)
        return image

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        for other in screen.all(Row):
            other.chosen = other is self
        screen.emit(self.name, "press")
