"""Widgets of their natural size, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sims.gui.choices import Checkbox, Radio, Slider, knob_side
from sims.gui.containers import Window, title_height
from sims.gui.controls import Button, Field, Label, Link, Progress
from sims.gui.menus import Menu, Popup
from sims.gui.paint import Box, Size, Style
from sims.gui.screen import Screen
from sims.gui.themes import Colour
from sims.gui.widget import Widget
from sims.gui.words import shown
from sims.vocabulary import COLOURS, paint

Rows = Sequence[Sequence[Widget]]
"""What stands in a window, line by line."""
UNLIKE = 70
"""Levels of 255 by which a colour that is named differs from what it lies on."""


def button(style: Style, name: str, text: str, least: float = 20, **more: Any) -> Button:
    """As wide as its text wants, at least `least` pixels at scale 1."""
    return Button(name, (0, 0, max(style.width(text) + style.px(8), style.px(least)), style.row), text, **more)


def label(style: Style, name: str, text: str, wide: int = 0, **more: Any) -> Label:
    """As wide as its text, or as `wide` pixels."""
    return Label(name, (0, 0, wide or style.width(text) + 1, style.row), text, **more)


def link(style: Style, name: str, text: str) -> Link:
    """As wide as its text."""
    return Link(name, (0, 0, style.width(text) + 1, style.row), text)


def text_field(style: Style, name: str, text: str, wide: float = 48, **more: Any) -> Field:
    """`wide`: in pixels at scale 1."""
    return Field(name, (0, 0, style.px(wide), style.row), text, **more)


def checkbox(style: Style, name: str, text: str) -> Checkbox:
    """With its text."""
    return Checkbox(name, (0, 0, _captioned(style, text), _low(style)), text)


def radio(style: Style, name: str, text: str, group: str) -> Radio:
    """With its text."""
    return Radio(name, (0, 0, _captioned(style, text), _low(style)), text, group)


def slider(style: Style, name: str, text: str, wide: float = 76, **more: Any) -> Slider:
    """`wide`: in pixels at scale 1."""
    return Slider(name, (0, 0, style.px(wide), knob_side(style) + style.px(4)), text, **more)


def progress(style: Style, name: str, wide: float = 70, **more: Any) -> Progress:
    """`wide`: in pixels at scale 1."""
    return Progress(name, (0, 0, style.px(wide), style.px(10)), **more)


def _captioned(style: Style, text: str) -> int:
    return knob_side(style) + style.px(3) + style.width(text) + 2


def _low(style: Style) -> int:
    return max(style.line, knob_side(style)) + 1


def labelled(style: Style, fields: Sequence[Field]) -> list[list[Widget]]:
    """A line for each field, its name before it, all fields beginning at the same place."""
    wide = max(style.width(shown(field.text)) for field in fields) + 1
    return [[label(style, f"{field.name}_label", shown(field.text), wide), field] for field in fields]


def window(screen: Screen, rng: np.random.Generator, title: str, rows: Rows, **more: Any) -> Window:
    """A window around these lines, anywhere on the screen, put on top of what is there.

    Lines go from the left, and a single button in a line anywhere in it.

    Raises:
        ValueError: it does not fit on the screen.
    """
    style, gap = screen.style, screen.style.gap
    margin, bar = style.px(4), title_height(style)
    inner = max([style.width(title) + style.px(16), *(_length(row, gap) for row in rows)])
    heights = [max(widget.box[3] for widget in row) for row in rows]
    solid = bar + sum(heights) + style.px(1)
    between = min(gap, max(1, (screen.size[1] - solid) // (len(rows) + 1)))  # less where it would not fit
    wide, high = inner + 2 * margin, solid + between * (len(rows) + 1)
    left, top = anywhere(screen, rng, (wide, high))
    y = top + bar + between
    for row, height in zip(rows, heights, strict=True):
        x, spare = left + margin, inner - _length(row, gap)
        if len(row) == 1 and isinstance(row[0], Button):
            x += int(rng.integers(0, spare + 1))
        for widget in row:
            put(widget, x, y + (height - widget.box[3]) // 2)
            x += widget.box[2] + gap
        y += height + between
    children = [widget for row in rows for widget in row]
    made = Window(more.pop("name", "window"), (left, top, wide, high), title, children, **more)
    screen.widgets.append(made)
    screen.change()
    return made


def anywhere(screen: Screen, rng: np.random.Generator, size: Size) -> tuple[int, int]:
    """Left and top of a random place for something so large. Raises ValueError where it does not fit."""
    room = [side - need for side, need in zip(screen.size, size, strict=True)]
    if min(room) < 0:
        raise ValueError(f"{size[0]} x {size[1]} pixels do not fit on a screen of {screen.size}; lower the scale")
    return int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))


def put(widget: Widget, x: int, y: int) -> None:
    """Give a widget without parts a place."""
    widget.box = (x, y, *widget.box[2:])


def scatter(rng: np.random.Generator, sizes: Sequence[Size], area: Box, gap: int) -> list[Box]:
    """Boxes of these sizes in an area, at least `gap` pixels apart.

    Raises:
        ValueError: there is no room for one of them.
    """
    left, top, wide, high = area
    if any(w > wide or h > high for w, h in sizes):
        raise ValueError(f"boxes of {list(sizes)} do not fit into {wide} x {high} pixels")
    for _ in range(200):
        found: list[Box] = []
        for w, h in sizes:
            for _ in range(20):
                x, y = left + int(rng.integers(wide - w + 1)), top + int(rng.integers(high - h + 1))
                if all(_apart((x, y, w, h), other, gap) for other in found):
                    found.append((x, y, w, h))
                    break
        if len(found) == len(sizes):
            return found
    raise ValueError(f"no room for {len(sizes)} things in {wide} x {high} pixels")


def open_ground(screen: Screen, rng: np.random.Generator, title: str) -> tuple[Box, Colour]:
    """Where things can be scattered, and on what: the desktop, or a window that fills most of the screen."""
    style, (wide, high) = screen.style, screen.size
    edge = style.px(2)
    if rng.random() < 0.4:
        return (edge, edge, wide - 2 * edge, high - 2 * edge), style.theme.desktop
    left, top = (int(rng.integers(style.px(4))) for _ in range(2))
    box = (left, top, wide - 2 * left, high - 2 * top)
    screen.widgets.append(Window("window", box, title))
    bar = title_height(style)
    return (left + edge, top + bar + edge, box[2] - 2 * edge, box[3] - bar - 2 * edge), style.theme.window


def hold(screen: Screen, widgets: Sequence[Widget]) -> None:
    """Put widgets into the window that `open_ground` opened, or onto the desktop."""
    top = screen.widgets[-1] if screen.widgets else None
    (top.children if isinstance(top, Window) else screen.widgets).extend(widgets)
    screen.change()


def shades(rng: np.random.Generator, count: int, ground: Colour) -> list[tuple[str, Colour]]:
    """So many different colours by name, each in a random shade, none like the ground."""
    found: list[tuple[str, Colour]] = []
    names = list(COLOURS)
    for i in rng.permutation(len(names)):
        if len(found) == count:
            break
        shade = shade_of(names[i], rng)
        if unlike(shade, ground):
            found.append((names[i], shade))
    return found


def shade_of(colour: str, rng: np.random.Generator) -> Colour:
    """A random shade of a named colour."""
    red, green, blue = (int(255 * level) for level in paint(colour, rng))
    return red, green, blue


def unlike(shade: Colour, ground: Colour) -> bool:
    """Whether two colours can be told apart at a glance."""
    return max(abs(a - b) for a, b in zip(shade, ground, strict=True)) >= UNLIKE


def menu_bar(style: Style, place: tuple[int, int], menus: Sequence[Menu]) -> None:
    """Place the words of a menu bar side by side, and what they open below them."""
    x, y = place
    for menu in menus:
        menu.box = (x, y, style.width(menu.text) + style.px(6), style.row)
        x += menu.box[2]
        if menu.below is not None:
            drop(style, menu.below, menu.box[0], y + style.row)


def drop(style: Style, popup: Popup, x: int, y: int) -> None:
    """Place an open menu with its top left corner there."""
    items = [item for item in popup.items if isinstance(item, Menu)]
    wide = max(style.width(item.text) for item in items) + style.px(13)
    high = style.row - style.px(1)
    popup.box = (x, y, wide + 2, high * len(items) + 2)
    for i, item in enumerate(items):
        item.box = (x + 1, y + 1 + i * high, wide, high)
        if item.below is not None:
            drop(style, item.below, x + style.px(16), item.box[1] + high - style.px(2))


def keep_inside(screen: Screen, popup: Popup) -> None:
    """Move an open menu so that it lies on the screen, and what it opens with it."""
    left, top, wide, high = popup.box
    dx, dy = min(0, screen.size[0] - left - wide), min(0, screen.size[1] - top - high)
    popup.box = (left + dx, top + dy, wide, high)
    for item in popup.items:
        item.box = (item.box[0] + dx, item.box[1] + dy, *item.box[2:])
        below = item.below if isinstance(item, Menu) else None
        if below is not None:
            keep_inside(screen, below)


def faced(button: Button, colour: str, shade: Colour) -> Button:
    """The same button with a face of this colour."""
    return replace(button, face=shade, colour=colour)


def _length(row: Sequence[Widget], gap: int) -> int:
    return sum(widget.box[2] for widget in row) + gap * (len(row) - 1)


def _apart(one: Box, other: Box, gap: int) -> bool:
    return (
        one[0] >= other[0] + other[2] + gap
        or other[0] >= one[0] + one[2] + gap
        or one[1] >= other[1] + other[3] + gap
        or other[1] >= one[1] + one[3] + gap
    )
