"""Sketches of screens: widgets, shapes and words in any colour, loose on a bare ground, in many fonts.

What `screens` draws looks like real windows, which are grey; here everything is told apart by its colour. Drawn pixel
by pixel, without the widgets of `sims.gui`, as before there were any: so the scores of former backbones still compare.
"""

from __future__ import annotations

import colorsys
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from sims.grounding.picture import BARE, Maker, Picture, Thing, on_screen
from sims.gui.words import TRAINED_WORDS
from sims.vocabulary import COLOURS, HELD_OUT_COMBINATIONS, HELD_OUT_HUES, WORDS, allowed, paint

SIZE = 64
"""Height and width of a picture, in pixels."""
MOST = 6
"""Most widgets of a sketch."""
_WRITTEN = tuple(word for word in WORDS if word in TRAINED_WORDS)
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono", "")
"""Files that come with matplotlib; "" is Pillow's own."""
HELD_OUT_FONT = "STIXGeneral"
"""Appears in no training picture."""
SHAPES = ("button", "field", "checkbox", "radio", "label", "circle", "square", "triangle", "diamond", "bar")
_TICKED = ("checkbox", "radio")

Box = tuple[int, int, int, int]


class Sketches(Maker):
    """Draws random sketches."""

    def draw(self, rng: np.random.Generator) -> Picture:
        """A random sketch of 1 to MOST widgets, most with a cursor."""
        ground = _ground(rng, self.split.backgrounds)
        image = Image.new("RGB", (SIZE, SIZE), _bytes(ground))
        owner = Image.new("L", (SIZE, SIZE), 255)
        pen, marks = ImageDraw.Draw(image), ImageDraw.Draw(owner)
        pen.fontmode = "L" if rng.random() < 0.8 else "1"
        things: list[Thing] = []
        taken: list[Box] = []
        for colour, shape in self._pairs(rng, int(rng.integers(2, MOST + 1))):
            shade = paint(colour, rng)
            if np.abs(shade - ground).max() < 0.25:
                continue
            word = self._word(shape, [thing.word for thing in things], rng)
            family = HELD_OUT_FONT if self.split.backgrounds else FONTS[rng.integers(len(FONTS))]
            font = _font(family, int(rng.integers(8, 12)))
            box = _room(_extent(shape, word, font, rng), taken, rng)
            if box is None:
                continue
            taken.append(box)
            shown = _draw_widget(pen, marks, len(things), shape, box, (shade, ground), word, font, rng)
            things.append(Thing(colour, shape, _middle(shown), _half(shown), 0, word=word))
        tip = _draw_cursor(pen, marks, len(things), rng) if rng.random() < 0.8 else None
        return _finish(np.array(image), np.array(owner), things, tip)

    def _pairs(self, rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
        held = [pair for pair in sorted(HELD_OUT_COMBINATIONS) if pair[1] in SHAPES]
        pairs = [held[rng.integers(len(held))]] if self.split.combinations else []
        weights = np.array([3.0 if shape == "button" else 1.5 if shape == "label" else 1.0 for shape in SHAPES])
        colours = tuple(COLOURS)
        while len(pairs) < count:
            colour = colours[rng.integers(len(colours))]
            shape = str(rng.choice(SHAPES, p=weights / weights.sum()))
            if shape == "field" and rng.random() < 0.6:
                colour = "white"
            if allowed(colour, shape, self.split.combinations) and (colour, shape) not in pairs:
                pairs.append((colour, shape))
        return pairs

    def _word(self, shape: str, used: list[str], rng: np.random.Generator) -> str:
        chance = {"button": 0.75, "field": 0.5, "checkbox": 0.6, "radio": 0.6, "label": 1.0}.get(shape, 0.0)
        left = [word for word in _WRITTEN if word not in used]
        return left[rng.integers(len(left))] if rng.random() < chance else ""


def _finish(image: np.ndarray, owner: np.ndarray, things: list[Thing], tip: tuple[float, float] | None) -> Picture:
    shown = np.where(owner == 255, BARE, owner.astype(int))
    return on_screen(image, things, shown, tip)


def _ground(rng: np.random.Generator, held_out: bool) -> np.ndarray:
    low, high = HELD_OUT_HUES
    if held_out:
        return np.array(colorsys.hsv_to_rgb(rng.uniform(low, high), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.9)))
    hue = (high + 0.03 + rng.random() * (1 - (high - low) - 0.06)) % 1.0
    light = rng.random() < 0.7
    value = rng.uniform(0.82, 1.0) if light else rng.uniform(0.08, 0.5)
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0, 0.2 if light else 0.5), value))


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    if not name:
        font = ImageFont.load_default(size=size)
        assert isinstance(font, ImageFont.FreeTypeFont), "Pillow lacks freetype"
        return font
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)


def _extent(shape: str, word: str, font: ImageFont.FreeTypeFont, rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of a widget in pixels."""
    left, top, right, bottom = font.getbbox(word) if word else (0, 0, 0, 0)
    wide, high = int(right - left), int(bottom - top)
    if shape == "label":
        return wide + 2, high + 2
    if shape == "button":
        return max(wide + int(rng.integers(4, 9)), int(rng.integers(12, 26))), max(high + 5, int(rng.integers(9, 15)))
    if shape == "field":
        return max(wide + 5, int(rng.integers(26, 50))), max(high + 5, int(rng.integers(9, 13)))
    if shape in _TICKED:
        side = int(rng.integers(7, 10))
        return side + (wide + 3 if word else 0), max(side, high)
    if shape == "bar":
        long, thin = int(rng.integers(18, 32)), int(rng.integers(4, 7))
        return (long, thin) if rng.random() < 0.7 else (thin, long)
    side = int(rng.integers(8, 18))
    return side, side


def _room(extent: tuple[int, int], taken: list[Box], rng: np.random.Generator) -> Box | None:
    """A free box (left, top, right, bottom) of that width and height; None where there is no room."""
    wide, high = extent
    if wide > SIZE - 2 or high > SIZE - 2:
        return None
    for _ in range(25):
        x, y = int(rng.integers(1, SIZE - wide)), int(rng.integers(1, SIZE - high))
        box = (x, y, x + wide - 1, y + high - 1)
        if all(box[0] > t[2] + 1 or box[2] < t[0] - 1 or box[1] > t[3] + 1 or box[3] < t[1] - 1 for t in taken):
            return box
    return None


def _draw_widget(
    pen: ImageDraw.ImageDraw,
    marks: ImageDraw.ImageDraw,
    index: int,
    shape: str,
    box: Box,
    shades: tuple[np.ndarray, np.ndarray],
    word: str,
    font: ImageFont.FreeTypeFont,
    rng: np.random.Generator,
) -> Box:
    """Draw on the image and on the map of owners; returns the box that a click must hit."""
    shade, ground = shades
    fill, ink = _bytes(shade), _ink(shade)
    edge = _ink(ground)
    marks.rectangle(box, fill=index)
    if shape == "label":
        _write(pen, word, font, (box[0] + 1, box[1] + 1), fill)
        return box
    if shape == "button":
        outline = edge if rng.random() < 0.4 else None
        pen.rounded_rectangle(box, radius=int(rng.integers(2, 5)), fill=fill, outline=outline)
        _write_centred(pen, word, font, box, ink)
        return box
    if shape == "field":
        pen.rectangle(box, fill=fill, outline=edge)
        _write(pen, word, font, (box[0] + 3, _level(word, font, box)), ink)
        return box
    if shape in _TICKED:
        return _draw_ticked(pen, shape, box, (fill, ink, edge), word, font, rng)
    if shape in ("triangle", "diamond", "circle"):
        marks.rectangle(box, fill=255)
    for brush, colour in ((pen, fill), (marks, index)):
        _draw_shape(brush, shape, box, colour)
    return box


def _draw_shape(pen: ImageDraw.ImageDraw, shape: str, box: Box, fill: tuple[int, int, int] | int) -> None:
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, top), (right, bottom), (left, bottom)], fill=fill)
    elif shape == "diamond":
        pen.polygon([(x, top), (right, y), (x, bottom), (left, y)], fill=fill)
    else:
        pen.rectangle(box, fill=fill)


def _draw_ticked(
    pen: ImageDraw.ImageDraw,
    shape: str,
    box: Box,
    colours: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]],
    word: str,
    font: ImageFont.FreeTypeFont,
    rng: np.random.Generator,
) -> Box:
    """A checkbox or a radio button, ticked or not, its word to the right."""
    fill, ink, edge = colours
    reach = (font.getbbox(word)[2] - font.getbbox(word)[0] + 3) if word else 0
    side = int(box[2] - box[0] - reach)
    top = (box[1] + box[3] - side) // 2
    knob = (box[0], top, box[0] + side, top + side)
    ticked = rng.random() < 0.5
    if shape == "checkbox":
        pen.rectangle(knob, fill=fill, outline=edge)
        if ticked:
            pen.line([(knob[0] + 2, knob[1] + 2), (knob[2] - 2, knob[3] - 2)], fill=ink)
            pen.line([(knob[0] + 2, knob[3] - 2), (knob[2] - 2, knob[1] + 2)], fill=ink)
    else:
        pen.ellipse(knob, fill=fill, outline=edge)
        if ticked:
            pen.ellipse((knob[0] + 2, knob[1] + 2, knob[2] - 2, knob[3] - 2), fill=ink)
    if word:
        _write(pen, word, font, (knob[2] + 3, _level(word, font, box)), edge)
    return knob


def _draw_cursor(
    pen: ImageDraw.ImageDraw, marks: ImageDraw.ImageDraw, index: int, rng: np.random.Generator
) -> tuple[float, float]:
    """An arrow; returns the place of its tip."""
    x, y = (int(v) for v in rng.integers(1, SIZE - 6, 2))
    long = int(rng.integers(7, 11))
    inner, outer = ((0, 0, 0), (255, 255, 255)) if rng.random() < 0.6 else ((255, 255, 255), (0, 0, 0))
    arrow = [(x, y), (x, y + long), (x + 0.3 * long, y + 0.72 * long), (x + 0.7 * long, y + 0.7 * long)]
    pen.polygon(arrow, fill=inner, outline=outer)
    marks.polygon(arrow, fill=index, outline=index)
    return (x + 0.5) / SIZE * 2 - 1, (y + 0.5) / SIZE * 2 - 1


def _write(
    pen: ImageDraw.ImageDraw, word: str, font: ImageFont.FreeTypeFont, corner: tuple[float, float], ink: tuple[int, ...]
) -> None:
    """Write with the top left corner of the ink at `corner`."""
    bounds = font.getbbox(word)
    pen.text((corner[0] - bounds[0], corner[1] - bounds[1]), word, font=font, fill=ink)


def _write_centred(
    pen: ImageDraw.ImageDraw, word: str, font: ImageFont.FreeTypeFont, box: Box, ink: tuple[int, ...]
) -> None:
    left, _, right, _ = font.getbbox(word)
    _write(pen, word, font, (round((box[0] + box[2] + 1 - (right - left)) / 2), _level(word, font, box)), ink)


def _level(word: str, font: ImageFont.FreeTypeFont, box: Box) -> int:
    """Where the ink's top must be for the word to be in the middle of the box's height."""
    _, top, _, bottom = font.getbbox(word)
    return round((box[1] + box[3] + 1 - (bottom - top)) / 2)


def _ink(shade: np.ndarray) -> tuple[int, int, int]:
    """Black on what is light, white on what is dark."""
    return (10, 10, 10) if float(shade @ [0.3, 0.59, 0.11]) > 0.5 else (245, 245, 245)


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2] + 1) / SIZE - 1, (box[1] + box[3] + 1) / SIZE - 1


def _half(box: Box) -> tuple[float, float]:
    return (box[2] - box[0] + 1) / SIZE, (box[3] - box[1] + 1) / SIZE


def _bytes(shade: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in np.clip(shade * 255, 0, 255))
    return red, green, blue
