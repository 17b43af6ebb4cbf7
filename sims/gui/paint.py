"""Strokes that widgets are painted with. Everything is a pure function of its arguments, and kept for the next time.

Places are in pixels, x to the right, y down; a box is left, top, width and height.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sims.gui.themes import SIZES, Colour, Theme
from vla_rl.paths import shipped

Box = tuple[int, int, int, int]
Size = tuple[int, int]
_FINER = 4
"""Rounded things are drawn so many times larger, and then made smaller."""


@dataclass(frozen=True, eq=False)
class Style:
    """A theme in one of its fonts, at a scale. Make it by `style_of`: equal ones are then one and the same."""

    theme: Theme
    font: str
    scale: float

    def px(self, pixels: float) -> int:
        """So many pixels at scale 1, at this scale; at least 1."""
        return max(1, round(pixels * self.scale))

    @cached_property
    def _font(self) -> ImageFont.FreeTypeFont:
        file = shipped("assets") / "gui" / "fonts" / f"{self.font}.ttf"
        # The basic layout is the same wherever Pillow runs; the other needs a library of the system's.
        return ImageFont.truetype(file, round(SIZES[self.font] * self.scale), layout_engine=ImageFont.Layout.BASIC)

    @cached_property
    def _levels(self) -> tuple[int, int, int, int]:
        """Where, in the font's own frame, ascenders begin, capitals begin, the baseline is, and descenders end."""
        tall, capital, low = (self._font.getbbox(letters) for letters in ("bdfhkl|", "HE", "gjpqy"))
        return int(tall[1]), int(capital[1]), int(capital[3]), int(low[3])

    @property
    def line(self) -> int:
        """Height of a line of text, from ascenders to descenders."""
        return self._levels[3] - self._levels[0]

    @property
    def row(self) -> int:
        """Height of what holds a line of text: a button, a field."""
        return self.line + self.px(4)

    @property
    def gap(self) -> int:
        """Between things."""
        return self.px(3)

    def width(self, text: str) -> int:
        """Of a text."""
        return self.mask(text).width if text else 0

    def mask(self, text: str) -> Image.Image:
        """Where a line of text has ink, mode L, `line` high."""
        return _mask(self, text)

    def level(self, height: int) -> int:
        """Where in a box of this height a line begins, so that its capitals stand in the middle."""
        top, capital, base, _ = self._levels
        return (height - (base - capital)) // 2 - (capital - top)


@lru_cache(maxsize=256)
def style_of(theme: Theme, font: str, scale: float) -> Style:
    """The style, one object for equal arguments."""
    return Style(theme, font, scale)


@lru_cache(maxsize=4096)
def _mask(style: Style, text: str) -> Image.Image:
    font, top = style._font, style._levels[0]
    left, _, right, _ = font.getbbox(text)
    mask = Image.new("L", (max(1, int(right - min(left, 0))), style.line))
    ImageDraw.Draw(mask).text((-min(left, 0), -top), text, fill=255, font=font)
    return mask


@lru_cache(maxsize=1024)
def rounded(size: Size, radius: int) -> Image.Image:
    """A box with round corners, mode L."""
    large = Image.new("L", (size[0] * _FINER, size[1] * _FINER))
    ends = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(ends, min(radius, *(side / 2 for side in size)) * _FINER, fill=255)
    return large.resize(size, Image.Resampling.BOX)


@lru_cache(maxsize=1024)
def outline(shape: str, size: Size) -> Image.Image:
    """A filled shape (circle, square, triangle, diamond, bar, star, tick, cross), mode L."""
    w, h = size[0] * _FINER, size[1] * _FINER
    large = Image.new("L", (w, h))
    pen = ImageDraw.Draw(large)
    if shape == "circle":
        pen.ellipse((0, 0, w - 1, h - 1), fill=255)
    elif shape in _CORNERS:
        pen.polygon([(x * (w - 1), y * (h - 1)) for x, y in _CORNERS[shape]], fill=255)
    elif shape in _STROKES:
        for stroke in _STROKES[shape]:
            pen.line([(x * w, y * h) for x, y in stroke], fill=255, width=max(_FINER, w // 6), joint="curve")
    else:
        pen.rectangle((0, 0, w, h), fill=255)
    return large.resize(size, Image.Resampling.BOX)


_STAR = [(np.pi * (i / 5 - 0.5), (0.5, 0.21)[i % 2]) for i in range(10)]
_CORNERS: dict[str, list[tuple[float, float]]] = {
    "triangle": [(0.5, 0), (1, 1), (0, 1)],
    "diamond": [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)],
    "star": [(float(0.5 + r * np.cos(a)), float(0.53 + r * np.sin(a))) for a, r in _STAR],
    "down": [(0, 0.25), (1, 0.25), (0.5, 0.8)],
    "right": [(0.25, 0), (0.25, 1), (0.8, 0.5)],
}
_STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "tick": [[(0.12, 0.5), (0.4, 0.8), (0.9, 0.18)]],
    "cross": [[(0.1, 0.1), (0.9, 0.9)], [(0.9, 0.1), (0.1, 0.9)]],
}


def plain(size: Size, colour: Colour) -> Image.Image:
    """A picture of one colour, mode RGB."""
    return Image.new("RGB", size, colour)


def panel(image: Image.Image, box: Box, fill: Colour, edge: Colour | None = None, radius: int = 0) -> None:
    """A box, its corners round, with a line around it where there is an `edge`."""
    left, top, wide, high = box
    if edge is not None:
        panel(image, box, edge, None, radius)
        left, top, wide, high, radius = left + 1, top + 1, wide - 2, high - 2, max(0, radius - 1)
    if min(wide, high) < 1:
        return
    if radius:
        image.paste(fill, (left, top), rounded((wide, high), radius))
    else:
        image.paste(fill, (left, top, left + wide, top + high))


def bevel(image: Image.Image, box: Box, fill: Colour, sunken: bool = False) -> None:
    """A box that seems to stand out, or to lie deeper."""
    left, top, wide, high = box
    right, bottom = left + wide - 1, top + high - 1
    light, shade, dark = mix(fill, (255, 255, 255), 0.85), mix(fill, (0, 0, 0), 0.4), mix(fill, (0, 0, 0), 0.75)
    pen = ImageDraw.Draw(image)
    pen.rectangle((left, top, right, bottom), fill=fill)
    above, below = (shade, light) if sunken else (light, dark)
    pen.line([(left, bottom), (left, top), (right, top)], fill=above)
    pen.line([(right, top), (right, bottom), (left, bottom)], fill=below)
    if not sunken and min(wide, high) > 6:
        pen.line([(right - 1, top + 1), (right - 1, bottom - 1), (left + 1, bottom - 1)], fill=shade)


def stamp(image: Image.Image, shape: str, box: Box, colour: Colour) -> None:
    """A shape in a box."""
    image.paste(colour, box[:2], outline(shape, box[2:]))


def write(image: Image.Image, style: Style, text: str, place: tuple[int, int], ink: Colour) -> None:
    """A line of text from its top left corner on."""
    if text:
        image.paste(ink, place, style.mask(text))


def write_in(image: Image.Image, style: Style, text: str, box: Box, ink: Colour, centred: bool = False) -> None:
    """A line of text in the middle of a box's height, at its left or in the middle."""
    left, top, wide, high = box
    aside = max(0, (wide - style.width(text)) // 2) if centred else 0
    write(image, style, text, (left + aside, top + style.level(high)), ink)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`one` with so much of the `other` in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def contrast(ground: Colour) -> Colour:
    """Nearly black on what is light, nearly white on what is dark."""
    red, green, blue = ground
    return (16, 16, 18) if 0.3 * red + 0.59 * green + 0.11 * blue > 135 else (250, 250, 250)


@lru_cache(maxsize=16)
def arrow(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The mouse cursor: its colours uint8 [h, w, 3], and where it is, bool [h, w, 1]. Its tip is the first pixel."""
    rows = ["X", "XX", "X.X", "X..X", "X...X", "X....X", "X.....X", "X..XXXX", "X.X.X", "XX X.X", "X  XX"]
    drawn = np.array([[" X.".index(cell) for cell in row.ljust(7)] for row in rows])
    times = max(1, round(scale))
    drawn = drawn.repeat(times, 0).repeat(times, 1)
    return np.array([(0, 0, 0), (0, 0, 0), (255, 255, 255)], np.uint8)[drawn], (drawn > 0)[..., None]
