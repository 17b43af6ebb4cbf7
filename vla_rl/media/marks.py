"""What was done and seen, drawn onto pictures: clicks, drags, motions, words, and where pointers point.

Places are (x, y) in [-1, 1] over the picture: x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vla_rl.media.images import enlarged
from vla_rl.specs import readable

Place = tuple[float, float]
SIZE = 256
"""Pixels that the larger side of a drawn picture has at least, about."""
ACTION, SEEN, HALO = (255, 106, 61), (24, 190, 208), (255, 255, 255)
_FINE = 2
"""Marks are drawn at so many times the size, and then shrunk."""


@dataclass(frozen=True)
class Click:
    """Something was done at a place."""

    at: Place


@dataclass(frozen=True)
class Arrow:
    """Something moved, or was dragged, from one place to another. drag: with a button held, so that it begins in a
    click."""

    begin: Place
    end: Place
    drag: bool = False


@dataclass(frozen=True)
class Words:
    """What was typed, pressed or said."""

    text: str


@dataclass(frozen=True)
class Pointed:
    """Where a pointer points: at the thing of this name, a number, or "hand" for the own hand."""

    at: Place
    name: str


Mark = Click | Arrow | Words | Pointed


def drawn(picture: np.ndarray, marks: Sequence[Mark]) -> np.ndarray:
    """The picture, uint8 [H, W, 3], enlarged to about SIZE where it is smaller, with the marks on it."""
    large = enlarged(picture, SIZE)
    if not marks:
        return large
    height, width = large.shape[:2]
    canvas = Image.fromarray(np.ascontiguousarray(large)).resize(
        (_FINE * width, _FINE * height), Image.Resampling.NEAREST
    )
    pen = _Pen(ImageDraw.Draw(canvas), *canvas.size)
    for mark in sorted(marks, key=lambda mark: not isinstance(mark, Pointed)):  # actions lie on top
        match mark:
            case Pointed(at, name):
                pen.pointed(at, name)
            case Click(at):
                pen.click(at)
            case Arrow(begin, end, drag):
                pen.arrow(begin, end, drag)
            case Words(text):
                pen.words(text)
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX))


class _Pen:
    """Draws on a canvas whose marks have a light edge, so that they stand out on any picture."""

    def __init__(self, draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
        self._draw, self._width, self._height = draw, width, height
        self._unit = max(width, height) / 128
        self._font = ImageFont.load_default(size=round(5.5 * self._unit))

    def pointed(self, at: Place, name: str) -> None:
        (x, y), unit = self._pixels(at), self._unit
        self._circle(x, y, 4.2 * unit, HALO, 2.0)
        self._circle(x, y, 4.2 * unit, SEEN, 1.1)
        outside = x + 6 * unit + self._draw.textlength(name, self._font) > self._width
        above = -5.2 if y > 9 * unit else 5.2
        self._text(x + (-5.2 if outside else 5.2) * unit, y + above * unit, name, SEEN, "rm" if outside else "lm")

    def click(self, at: Place) -> None:
        (x, y), unit = self._pixels(at), self._unit
        for colour, wide, arm in ((HALO, 2.4, 7.0), (ACTION, 1.3, 6.4)):
            self._circle(x, y, 3.6 * unit, colour, wide)
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                ends = (x + 2.0 * dx * unit, y + 2.0 * dy * unit, x + arm * dx * unit, y + arm * dy * unit)
                self._draw.line(ends, colour, round(wide * unit))

    def arrow(self, begin: Place, end: Place, drag: bool) -> None:
        (x0, y0), (x1, y1), unit = self._pixels(begin), self._pixels(end), self._unit
        length = float(np.hypot(x1 - x0, y1 - y0))
        if drag:
            self.click(begin)
        if length < 1.5 * unit:  # it stays where it is
            self._dot(x0, y0, 2.2 * unit, HALO)
            self._dot(x0, y0, 1.5 * unit, ACTION)
            return
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        head = min(6.5 * unit, 0.6 * length + 2.5 * unit)
        for colour, wide, grown in ((HALO, 3.2, 1.3 * unit), (ACTION, 1.7, 0.0)):
            tip = (x1 + 1.6 * grown * dx, y1 + 1.6 * grown * dy)
            back = (x1 - (head + grown) * dx, y1 - (head + grown) * dy)
            side = 0.38 * head + grown  # slim, so that a short one has a direction, too
            self._draw.line((x0, y0, x1 - 0.8 * head * dx, y1 - 0.8 * head * dy), colour, round(wide * unit))
            left = (back[0] - side * dy, back[1] + side * dx)
            right = (back[0] + side * dy, back[1] - side * dx)
            self._draw.polygon([tip, left, right], colour)

    def words(self, text: str) -> None:
        """Along the lower edge, in one line, shortened to what fits."""
        text = " ".join(readable(text, 200).split())
        unit, room = self._unit, self._width - 8 * self._unit
        while text and self._draw.textlength(text, self._font) > room:
            text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
        if not text:
            return
        wide, top = self._draw.textlength(text, self._font), self._height - 10 * unit
        self._draw.rounded_rectangle(
            (2 * unit, top, 6 * unit + wide, self._height - 2 * unit), 2 * unit, ACTION, HALO, round(0.6 * unit)
        )
        self._draw.text((4 * unit, (top + self._height - 2 * unit) / 2), text, HALO, self._font, "lm")

    def _pixels(self, at: Place) -> tuple[float, float]:
        x, y = (float(np.clip(value, -1.0, 1.0)) for value in at)
        return (x + 1) / 2 * (self._width - 1), (y + 1) / 2 * (self._height - 1)

    def _circle(self, x: float, y: float, radius: float, colour: tuple[int, int, int], wide: float) -> None:
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), None, colour, round(wide * self._unit))

    def _dot(self, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)

    def _text(self, x: float, y: float, text: str, colour: tuple[int, int, int], anchor: str) -> None:
        edge = round(0.9 * self._unit)
        self._draw.text((x, y), text, colour, self._font, anchor, stroke_width=edge, stroke_fill=HALO)
