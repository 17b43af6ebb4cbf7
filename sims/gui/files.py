"""Files in folders, whose names may be too fine to be read on the screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image

from sims.gui.containers import Window, title_height
from sims.gui.paint import Size, Style, mix, panel, plain, style_of, write_in
from sims.gui.themes import Colour
from sims.gui.widget import Surface, Widget

FINE = 0.5
"""Size of a fine name beside the theme's."""


@dataclass(eq=False)
class File(Widget):
    """A line of a folder: a page and a name. A click selects it, Enter or a double click opens it.

    fine: 0 for a name in the theme's size. Otherwise it is half as large, and only strokes, which are the same for all
    names, where the screen is drawn at less than this scale. opened: whether it was opened before, and is faint now.
    """

    text: str = ""
    fine: float = 0.0
    opened: bool = False

    focusable: ClassVar[bool] = True

    def written(self, style: Style) -> tuple[str, ...]:
        """See `Widget`."""
        return () if style.scale < self.fine else (self.text,)

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        strokes = style.scale < self.fine
        return "" if strokes else self.text, bool(self.fine), self.opened, focused

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        text, fine, opened, focused = look
        theme, (wide, high) = style.theme, size
        ground = mix(ground, theme.accent, 0.3) if focused else ground
        image = plain(size, ground)
        ink = mix(theme.ink, ground, 0.65) if opened else theme.ink
        page = (high // 6, high // 6, high // 2, high - 2 * (high // 6))
        panel(image, page, mix(theme.accent, ground, 0.8) if opened else theme.accent, ink)
        left = name_begins(high)
        if text:
            written = style_of(theme, style.font, style.scale * FINE) if fine else style
            write_in(image, written, text, (left, 0, wide - left, high), ink)
        else:
            thick = max(1, high // 8)
            for number, share in enumerate((0.62, 0.4)):
                panel(
                    image,
                    (left, high // 3 + 2 * thick * number, round((wide - left) * share), thick),
                    mix(ink, ground, 0.4),
                )
        return image

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        screen.emit(self.name, "select")

    def double_click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        screen.emit(self.name, "open")

    def key(self, screen: Surface, key: str) -> bool:
        """See `Widget`."""
        if key == "Enter":
            screen.emit(self.name, "open")
        return key == "Enter"


def name_begins(high: int) -> int:
    """Pixels from the left edge of a line so high to its name."""
    return high // 6 + high // 2 + max(2, high // 6)


def folder(style: Style, name: str, title: str, place: tuple[int, int], wide: int, files: list[File]) -> Window:
    """A window with these files in it, one below the other, `wide` pixels wide, its left top corner at `place`."""
    (left, top), margin, bar = place, style.px(2), title_height(style)
    for number, file in enumerate(files):
        file.box = (left + margin, top + bar + margin + number * line(style), wide - 2 * margin, line(style))
    return Window(name, (left, top, wide, folder_height(style, len(files))), title, list(files))


def folder_height(style: Style, files: int) -> int:
    """Of a folder with so many files, in pixels."""
    return title_height(style) + 2 * style.px(2) + files * line(style)


def line(style: Style) -> int:
    """Height of a file in a folder, in pixels."""
    return style.line + style.px(2)
