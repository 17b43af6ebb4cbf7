"""Widgets that hold others: windows, tabs, scroll areas; and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

from PIL import Image, ImageDraw

from sims.gui.paint import Box, Size, Style, bevel, mix, panel, plain, stamp, write_in
from sims.gui.themes import Colour
from sims.gui.widget import Surface, Widget


@dataclass(eq=False)
class Window(Widget):
    """A title bar and what is below it. modal: whether nothing else can be acted on while it is there."""

    text: str = ""
    children: list[Widget] = field(default_factory=list)
    modal: bool = False

    alive: ClassVar[bool] = False

    def stands(self, style: Style) -> Sequence[tuple[float, float]]:
        """See `Widget`."""
        return [(self.box[2] / 2, title_height(style) / 2)]

    def parts(self) -> Sequence[Widget]:
        """See `Widget`."""
        return self.children

    def ground(self, style: Style, behind: Colour) -> Colour:
        """See `Widget`."""
        return style.theme.window

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return (self.text,)

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        (text,) = look
        theme, image, (wide, high) = style.theme, plain(size, ground), size
        bar = title_height(style)
        if theme.raised:
            bevel(image, (0, 0, wide, high), theme.window)
            panel(image, (2, 2, wide - 4, bar - 2), theme.title)
        else:
            radius = style.px(theme.radius) if theme.radius else 0
            panel(image, (0, 0, wide, high), theme.window, theme.edge, radius)
            panel(image, (1, 1, wide - 2, bar + radius), theme.title, None, max(0, radius - 1))
            panel(image, (1, bar, wide - 2, radius + 1), theme.window)
            image.paste(mix(theme.title, theme.edge, 0.7), (1, bar - 1, wide - 1, bar))
        side = _decorate(image, style, bar)
        left = max(style.px(4), side if theme.buttons == "dots" else 0)
        write_in(image, style, text, (left, 1, wide - 2 * left, bar - 1), theme.title_ink, theme.centred)
        return image


def title_height(style: Style) -> int:
    """Of a title bar, in pixels."""
    return style.line + style.px(3)


def _decorate(image: Image.Image, style: Style, bar: int) -> int:
    """What a title bar has beside its title, only to look at; returns how wide it is."""
    theme, wide = style.theme, image.width
    size = style.px(5)
    top = (bar - size) // 2
    if theme.buttons == "dots":
        for i, colour in enumerate(((255, 95, 87), (254, 188, 46), (40, 200, 64))):
            stamp(image, "circle", (style.px(4) + i * (size + style.px(1)), top, size, size), colour)
        return style.px(4) + 3 * (size + style.px(1))
    if theme.buttons == "boxes":
        box = (wide - bar + 1, 3, bar - 4, bar - 5)
        if theme.raised:
            bevel(image, box, theme.face)
        else:
            panel(image, box, mix(theme.title, theme.title_ink, 0.15))
        inset = style.px(2)
        mark = (box[0] + inset, box[1] + inset, box[2] - 2 * inset, box[3] - 2 * inset)
        stamp(image, "cross", mark, theme.ink if theme.raised else theme.title_ink)
    elif theme.buttons == "cross":
        stamp(image, "cross", (wide - size - style.px(4), top, size, size), theme.title_ink)
    return size + style.px(4)


@dataclass(eq=False)
class Panel(Widget):
    """A plain part of a window: a bar, or a group with a line around it where it is `framed`."""

    children: list[Widget] = field(default_factory=list)
    fill: Colour | None = None
    framed: bool = False

    alive: ClassVar[bool] = False

    def parts(self) -> Sequence[Widget]:
        """See `Widget`."""
        return self.children

    def ground(self, style: Style, behind: Colour) -> Colour:
        """See `Widget`."""
        return self.fill or behind

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.fill, self.framed

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        fill, framed = look
        image = plain(size, fill or ground)
        if framed:
            panel(image, (0, 0, *size), fill or ground, mix(ground, style.theme.edge, 0.8))
        return image


@dataclass(eq=False)
class Tabs(Widget):
    """Pages, of which the active one is shown, and their titles in a row."""

    titles: list[str] = field(default_factory=list)
    pages: list[list[Widget]] = field(default_factory=list)
    active: int = 0

    @property
    def spoken(self) -> str:
        """See `Widget`."""
        return self.titles[self.active]

    def written(self, style: Style) -> tuple[str, ...]:
        """See `Widget`."""
        return tuple(self.titles)

    def stands(self, style: Style) -> Sequence[tuple[float, float]]:
        """See `Widget`."""
        return [((start + end) / 2, style.row / 2) for start, end in self.spans(style)]

    def parts(self) -> Sequence[Widget]:
        """See `Widget`."""
        return self.pages[self.active]

    def ground(self, style: Style, behind: Colour) -> Colour:
        """See `Widget`."""
        return style.theme.window

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return tuple(self.titles), self.active

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        titles, active = look
        theme = style.theme
        image = plain(size, ground)
        panel(image, (0, style.row - 1, size[0], size[1] - style.row + 1), theme.window, theme.edge)
        left = style.px(2)
        for i, title in enumerate(titles):
            wide = style.width(title) + style.px(8)
            here = i == active
            shade = theme.window if here else mix(theme.window, theme.ink, 0.12)
            panel(image, (left, 0 if here else 1, wide, style.row), shade, theme.edge)
            if here:
                image.paste(theme.window, (left + 1, style.row - 1, left + wide - 1, style.row + 1))
                image.paste(theme.accent, (left + 1, 0, left + wide - 1, style.px(1.5)))
            ink = theme.ink if here else theme.faint
            write_in(image, style, title, (left, 0, wide, style.row), ink, centred=True)
            left += wide - 1
        return image

    def spans(self, style: Style) -> list[tuple[int, int]]:
        """From where to where each title goes, in pixels from the left."""
        found, left = [], style.px(2)
        for title in self.titles:
            wide = style.width(title) + style.px(8)
            found.append((left, left + wide))
            left += wide - 1
        return found

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        for i, (start, end) in enumerate(self.spans(screen.style)):
            if start <= x < end and y < screen.style.row:
                self.active = i
                screen.emit(self.name, "choose")


@dataclass(eq=False)
class ScrollArea(Widget):
    """A part of a window through which what lies in it is seen. Its places are as if nothing were scrolled.

    offset: by how many pixels it has been scrolled down. content: height of all that lies in it. notch: of the wheel.
    """

    children: list[Widget] = field(default_factory=list)
    content: int = 0
    offset: int = 0
    notch: int = 20
    bar: int = 6

    def parts(self) -> Sequence[Widget]:
        """See `Widget`."""
        return self.children

    def scrolled(self) -> int:
        """See `Widget`."""
        return self.offset

    def inner(self) -> Box:
        """See `Widget`."""
        left, top, wide, high = self.box
        return left + 1, top + 1, wide - self.bar - 2, high - 2

    def ground(self, style: Style, behind: Colour) -> Colour:
        """See `Widget`."""
        return style.theme.field

    @property
    def furthest(self) -> int:
        """The largest offset."""
        return max(0, self.content - (self.box[3] - 2))

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.content, self.offset, self.bar

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        content, offset, bar = look
        theme, image, (wide, high) = style.theme, plain(size, ground), size
        panel(image, (0, 0, wide, high), theme.field, theme.edge)
        track, shown = (wide - bar - 1, 1, bar, high - 2), high - 2
        panel(image, track, mix(theme.window, theme.ink, 0.1))
        long = max(style.px(6), round(shown * shown / max(content, shown)))
        furthest = max(1, content - shown)
        thumb = (track[0], 1 + round((shown - long) * offset / furthest), bar, long)
        if theme.raised:
            bevel(image, thumb, theme.face)
        else:
            box = (thumb[0] + 1, thumb[1] + 1, thumb[2] - 2, thumb[3] - 2)
            panel(image, box, mix(theme.window, theme.ink, 0.45), None, 2 if theme.radius else 0)
        return image

    def scroll(self, screen: Surface, steps: int) -> bool:
        """See `Widget`."""
        self._go(self.offset + steps * self.notch)
        return True

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        if x >= self.box[2] - self.bar - 1:
            self._go(round(y / self.box[3] * self.furthest))

    def drag(self, screen: Surface, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """See `Widget`."""
        if start[0] < self.box[2] - self.bar - 1:
            return False
        share = (end[1] - start[1]) / self.box[3]
        self._go(self.offset + round(share * self.content))
        return True

    def _go(self, offset: int) -> None:
        self.offset = min(max(offset, 0), self.furthest)


@dataclass(eq=False)
class Table(Widget):
    """Rows of texts under the names of their columns; a click chooses a row. widths: of the columns, pixels."""

    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)
    widths: tuple[int, ...] = ()
    chosen: int = -1

    focusable: ClassVar[bool] = True

    def written(self, style: Style) -> tuple[str, ...]:
        """See `Widget`."""
        return (*self.columns, *(cell for row in self.rows for cell in row))

    def stands(self, style: Style) -> Sequence[tuple[float, float]]:
        """See `Widget`."""
        edges = [sum(self.widths[:number]) for number in range(len(self.widths) + 1)]
        middles = [(left + right) / 2 for left, right in pairwise(edges)]
        return [(x, (line + 0.5) * style.row) for line in range(len(self.rows) + 1) for x in middles]

    def entered(self) -> str:
        """See `Widget`."""
        return self.rows[self.chosen][0] if self.chosen >= 0 else ""

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.columns, tuple(self.rows), self.widths, self.chosen

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        columns, rows, widths, chosen = look
        theme, image = style.theme, plain(size, ground)
        panel(image, (0, 0, *size), theme.field, theme.edge)
        panel(image, (1, 1, size[0] - 2, style.row - 1), mix(theme.face, theme.edge, 0.25))
        for line, cells in enumerate((columns, *rows)):
            top, ink = line * style.row, theme.ink
            if line - 1 == chosen and line:
                panel(image, (1, top, size[0] - 2, style.row), theme.accent)
                ink = theme.accent_ink
            left = style.px(3)
            for text, wide in zip(cells, widths, strict=True):
                write_in(image, style, text, (left, top, wide, style.row), ink)
                left += wide
        pen, left = ImageDraw.Draw(image), 0
        for wide in widths[:-1]:
            left += wide
            pen.line([(left, 1), (left, size[1] - 2)], fill=mix(theme.field, theme.edge, 0.5))
        return image

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        row = int(y) // screen.style.row - 1
        if 0 <= row < len(self.rows):
            self.chosen = row
            screen.emit(self.name, "select")

    def key(self, screen: Surface, key: str) -> bool:
        """See `Widget`."""
        turn = {"ArrowUp": -1, "ArrowDown": 1}.get(key)
        if turn is not None and self.rows:
            self.chosen = min(max(self.chosen + turn, 0), len(self.rows) - 1)
            screen.emit(self.name, "select")
        return turn is not None
