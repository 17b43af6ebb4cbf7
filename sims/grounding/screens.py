"""Pictures of drawn screens: every widget in every look, and what is where on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sims.grounding.furnish import HELD_OUT_PAIRS, Furniture
from sims.grounding.picture import BARE, Box, Maker, Picture, Split, Thing, extent_in, on_screen, place_in
from sims.gui import themes
from sims.gui.choices import Checkbox, Radio, Slider, knob_side
from sims.gui.containers import Table, Tabs, Window, title_height
from sims.gui.controls import Button, Field, Label, Link, Progress, Shape
from sims.gui.files import File
from sims.gui.menus import Menu, Row
from sims.gui.paint import Style, arrow
from sims.gui.screen import ENLARGED, Screen
from sims.gui.widget import Placed, Widget
from sims.gui.words import NEW_ENTRIES, NEW_WORDS, TRAINED_ENTRIES, TRAINED_WORDS
from sims.vocabulary import SCREEN_SHAPES

TRIES = 10
"""How often a screen is furnished anew where nothing fitted."""
KINDS: dict[type[Widget], str] = {
    Button: "button", Field: "field", Checkbox: "checkbox", Radio: "radio", Label: "label", Link: "link",
    Slider: "slider", Progress: "progress", Menu: "menu", Row: "row", Window: "window",
}  # fmt: skip
"""What widgets are called."""


class Screens(Maker):
    """Draws random screens."""

    def __init__(self, split: Split = Split()) -> None:  # noqa: B008 (frozen)
        super().__init__(split)
        self._screens = [Screen((side, side)) for side in split.sides]

    def draw(self, rng: np.random.Generator) -> Picture:
        """A random screen with its cursor."""
        pair = HELD_OUT_PAIRS[rng.integers(len(HELD_OUT_PAIRS))] if self.split.combinations else None
        words, entries = (NEW_WORDS, NEW_ENTRIES) if self.split.words else (TRAINED_WORDS, TRAINED_ENTRIES)
        screen = self._screens[rng.integers(len(self._screens))]
        look = themes.draw(themes.UNSEEN if self.split.backgrounds else themes.ANY, rng)
        for _ in range(TRIES):
            screen.clear(*look)
            Furniture(screen, rng, words, entries, pair, self.split.kits, self.split.grids).furnish()
            if screen.widgets:
                break
        return _picture(screen)


def _picture(screen: Screen) -> Picture:
    """What a screen shows now."""
    side = screen.size[0]
    owner = np.full((side, side), BARE)
    things: list[Thing] = []
    for placed in screen.placed():
        owner[_pixels(_on_picture(_visible(placed), screen))] = BARE  # what lies below is hidden
        for thing, box in _things(placed, screen):
            left, top, right, bottom = box = _on_picture(_clipped(box, placed.clip), screen)
            if left < right and top < bottom:
                owner[_pixels(box)] = len(things)
                things.append(replace(thing, place=place_in(box, side), extent=extent_in(box, side)))
    if screen.view is None:
        _, there = arrow(screen.scale)
        x, y = (min(max(int(at), 0), side - 1) for at in screen.cursor)
        part = owner[y : y + there.shape[0], x : x + there.shape[1]]
        part[there[: part.shape[0], : part.shape[1], 0]] = len(things)
    tip = ((screen.cursor[0] + 0.5) / side * 2 - 1, (screen.cursor[1] + 0.5) / side * 2 - 1)
    inside = screen.view is None and max(map(abs, tip)) <= 1
    return on_screen(screen.screenshot().copy(), things, owner, tip if inside else None)


def _things(placed: Placed, screen: Screen) -> list[tuple[Thing, Box]]:
    """What words can name of a widget, each with its box: nothing of mere frames, several of tabs and tables."""
    widget, style = placed.widget, screen.style
    wide, high = widget.box[2:]
    whole = (placed.x, placed.y, placed.x + wide, placed.y + high)
    if isinstance(widget, Tabs):
        return [
            (_thing("tab", title), (placed.x + start, placed.y, placed.x + end, placed.y + style.row))
            for title, (start, end) in zip(widget.titles, widget.spans(style), strict=True)
        ]
    if isinstance(widget, Table):
        tops = [placed.y + (1 + i) * style.row for i in range(len(widget.rows))]
        return [
            (_thing("row", row[0]), (placed.x, top, placed.x + wide, top + style.row))
            for row, top in zip(widget.rows, tops, strict=True)
        ]
    if isinstance(widget, Window):
        return [(_thing("window", widget.text), (placed.x, placed.y, placed.x + wide, placed.y + title_height(style)))]
    if isinstance(widget, Shape):
        return [(Thing(widget.colour, widget.shape, (0, 0), (0, 0), 0), whole)]
    if isinstance(widget, Slider):
        return [(_thing("slider", "", widget.text), _knob(placed, widget, style))]
    if isinstance(widget, Field):
        return [(_thing("field", widget.value, widget.text), whole)]
    if isinstance(widget, File):
        enlarged = style.scale if screen.view is None else style.scale * ENLARGED
        return [(_thing("file", widget.text if enlarged >= widget.fine else ""), whole)]
    shape = KINDS.get(type(widget))
    if shape is None:
        return []
    colour = widget.colour if isinstance(widget, Button) else ""
    return [(replace(_thing(shape, getattr(widget, "text", "")), colour=colour), whole)]


def _thing(shape: str, word: str, name: str = "") -> Thing:
    assert shape in SCREEN_SHAPES, shape
    return Thing("", shape, (0, 0), (0, 0), 0, word=word.lower(), name=name.lower())


def _knob(placed: Placed, slider: Slider, style: Style) -> Box:
    x, y = slider.place_of(style, slider.value)
    half = knob_side(style) / 2
    return placed.x + x - half, placed.y + y - half, placed.x + x + half, placed.y + y + half


def _visible(placed: Placed) -> Box:
    wide, high = placed.widget.box[2:]
    return _clipped((placed.x, placed.y, placed.x + wide, placed.y + high), placed.clip)


def _on_picture(box: Box, screen: Screen) -> Box:
    """Where a box of the screen is on its picture, which may show an enlarged part only."""
    if screen.view is None:
        return box
    left, top = screen.view[:2]
    moved = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    a, b, c, d = (ENLARGED * side for side in moved)
    return _clipped((a, b, c, d), (0, 0, *screen.size))


def _clipped(box: Box, clip: tuple[int, int, int, int]) -> Box:
    return max(box[0], clip[0]), max(box[1], clip[1]), min(box[2], clip[2]), min(box[3], clip[3])


def _pixels(box: Box) -> tuple[slice, slice]:
    """The rows and columns of a box, none where it is empty."""
    left, top, right, bottom = (max(0, round(side)) for side in box)
    return slice(top, max(top, bottom)), slice(left, max(left, right))
