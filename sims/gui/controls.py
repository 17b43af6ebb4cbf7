"""Widgets that are read, pressed and written into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image, ImageDraw

from sims.gui.paint import Size, Style, bevel, contrast, mix, panel, plain, stamp, write, write_in
from sims.gui.themes import Colour
from sims.gui.widget import Surface, Widget

LONGEST = 60
"""Characters that a field holds."""


@dataclass(eq=False)
class Label(Widget):
    """A line of text. ink: its colour, or None for the theme's. faint: whether it matters less."""

    text: str = ""
    ink: Colour | None = None
    faint: bool = False
    centred: bool = False

    alive: ClassVar[bool] = False

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.text, self.ink or (style.theme.faint if self.faint else style.theme.ink), self.centred

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        text, ink, centred = look
        image = plain(size, ground)
        write_in(image, style, text, (0, 0, *size), ink, centred)
        return image


@dataclass(eq=False)
class Button(Widget):
    """Pressed by a click, or by Enter when it has the focus. face: its colour, or None for the theme's.

    default: whether Enter presses it, wherever the focus is. colour: what a person calls `face`.
    """

    text: str = ""
    face: Colour | None = None
    colour: str = ""
    default: bool = False
    down: bool = False

    focusable: ClassVar[bool] = True
    by_enter: ClassVar[bool] = True

    @property
    def spoken(self) -> str:
        """See `Widget`."""
        return self.text or f"{self.colour} button".strip()

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.text, self.face, self.default, self.down, focused

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        text, face, default, down, focused = look
        theme, image, whole = style.theme, plain(size, ground), (0, 0, *size)
        filled = face or (theme.accent if default and not theme.raised else theme.face)
        ink = contrast(face) if face else theme.accent_ink if filled is theme.accent else theme.ink
        if down:
            filled = mix(filled, contrast(filled), 0.2)
        if theme.raised:
            bevel(image, whole, filled, sunken=down)
        else:
            ring = theme.ink if default or face else theme.accent
            panel(image, whole, filled, ring if focused else theme.edge, style.px(theme.radius) if theme.radius else 0)
        if focused and theme.raised:
            ImageDraw.Draw(image).rectangle((2, 2, size[0] - 3, size[1] - 3), outline=mix(filled, ink, 0.45))
        write_in(image, style, text, whole, ink, centred=True)
        return image

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        self.down = True
        screen.pressed = self.name
        screen.emit(self.name, "press")


@dataclass(eq=False)
class Link(Widget):
    """Underlined text, pressed like a button."""

    text: str = ""

    focusable: ClassVar[bool] = True
    by_enter: ClassVar[bool] = True

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.text, focused

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        text, focused = look
        image, theme = plain(size, ground), style.theme
        top = style.level(size[1])
        write(image, style, text, (0, top), theme.link)
        under = min(size[1] - 1, top + style.line - style.px(1))
        pen = ImageDraw.Draw(image)
        pen.line([(0, under), (style.width(text) - 1, under)], fill=mix(ground, theme.link, 0.7))
        if focused:
            pen.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=mix(ground, theme.link, 0.5))
        return image

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        screen.emit(self.name, "press")


@dataclass(eq=False)
class Field(Widget):
    """A line to write into. A click selects all that is in it, so that what is typed takes its place.

    text: what a person calls it. caret: before which character it stands. hint: shown faintly while it is empty.
    """

    text: str = ""
    value: str = ""
    caret: int = 0
    selected: bool = False
    hint: str = ""
    secret: bool = False

    focusable: ClassVar[bool] = True

    def written(self, style: Style) -> tuple[str, ...]:
        """See `Widget`. It is called a field, as a screen reader does; what a person calls it stands beside it."""
        return ("field",) if self.value or not self.hint else ("field", self.hint)

    def entered(self) -> str:
        """See `Widget`."""
        return "" if self.secret else self.value

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        shown = "*" * len(self.value) if self.secret else self.value
        return shown, self.caret if focused else None, focused and self.selected, self.hint

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        shown, caret, selected, hint = look
        theme, image, whole = style.theme, plain(size, ground), (0, 0, *size)
        if theme.raised:
            bevel(image, whole, theme.field, sunken=True)
        else:
            edge = theme.accent if caret is not None else theme.edge
            panel(image, whole, theme.field, edge, min(style.px(theme.radius), style.px(2)) if theme.radius else 0)
        margin, top = style.px(3), style.level(size[1])
        room = size[0] - 2 * margin
        before = style.width(shown[:caret]) if caret is not None else 0
        inside = Image.new("RGB", (max(1, room), size[1] - 2), theme.field)
        left, ink = min(0, room - before - 1), theme.ink
        if selected and shown:
            inside.paste(theme.accent, (left, top - 1, left + style.width(shown) + 1, top + style.line))
            ink = theme.accent_ink
        write(inside, style, shown or hint, (left, top - 1), ink if shown else theme.faint)
        if caret is not None and not (selected and shown):
            stroke = (left + before, max(0, top - 1), left + before + style.px(1), top + style.line - 1)
            inside.paste(theme.ink, stroke)
        image.paste(inside, (margin, 1))
        return image

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        self._select()

    def write(self, screen: Surface, text: str) -> None:
        """See `Widget`."""
        if self.selected:
            self.value, self.caret = "", 0
        text = text[: LONGEST - len(self.value)]
        self.value = self.value[: self.caret] + text + self.value[self.caret :]
        self.caret, self.selected = self.caret + len(text), False
        screen.emit(self.name, "change")

    def key(self, screen: Surface, key: str) -> bool:
        """See `Widget`."""
        ends = {"ArrowLeft": max(0, self.caret - 1), "ArrowRight": min(len(self.value), self.caret + 1)}
        if key in ends:
            self.caret, self.selected = ends[key], False
        elif key == "SelectAll":
            self._select()
        elif key in ("Backspace", "Delete"):
            self._erase(key)
            screen.emit(self.name, "change")
        else:
            return False
        return True

    def lost(self) -> None:
        """See `Widget`."""
        self.selected = False

    def _select(self) -> None:
        self.selected, self.caret = bool(self.value), len(self.value)

    def _erase(self, key: str) -> None:
        if self.selected:
            self.value, self.caret, self.selected = "", 0, False
            return
        at = self.caret - 1 if key == "Backspace" else self.caret
        if 0 <= at < len(self.value):
            self.value, self.caret = self.value[:at] + self.value[at + 1 :], at


@dataclass(eq=False)
class Progress(Widget):
    """How much of something is done, in percent. pulls: whether a hand can change it, which it should not."""

    value: int = 0
    pulls: bool = False

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return (self.value,)

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        (value,) = look
        theme, image, whole = style.theme, plain(size, ground), (0, 0, *size)
        if theme.raised:
            bevel(image, whole, theme.field, sunken=True)
        else:
            panel(image, whole, theme.field, theme.edge)
        done = round((size[0] - 4) * value / 100)
        if theme.raised:
            for x in range(0, done - 1, style.px(5)):
                panel(image, (2 + x, 2, min(style.px(4), done - x), size[1] - 4), theme.accent)
        else:
            panel(image, (2, 2, done, size[1] - 4), theme.accent)
        return image

    def drag(self, screen: Surface, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """See `Widget`."""
        if self.pulls:
            self.value = round(100 * min(max(end[0] / self.box[2], 0.0), 1.0))
            screen.emit(self.name, "change")
        return self.pulls


@dataclass(eq=False)
class Shape(Widget):
    """A drawn shape, which can be clicked. shape: one of those that `paint.outline` knows."""

    shape: str = "circle"
    fill: Colour = (0, 0, 0)
    colour: str = ""

    @property
    def spoken(self) -> str:
        """See `Widget`."""
        return f"{self.colour} {self.shape}".strip()

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.shape, self.fill

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        shape, fill = look
        image = plain(size, ground)
        stamp(image, shape, (0, 0, *size), fill)
        return image

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        screen.emit(self.name, "press")
