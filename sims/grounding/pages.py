"""Pictures of pages in a real browser: the elements that pages are made of, in random styles, and what is where.

No page of a suite is shown. Needs Chromium (`bash scripts/install_suite.sh web`).
"""

from __future__ import annotations

import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from sims.grounding.furnish import HELD_OUT_PAIRS, STRANGE
from sims.grounding.phrases import one_of
from sims.grounding.picture import BARE, Box, Maker, Picture, Split, Thing, extent_in, on_screen, place_in
from sims.gui.words import NEW_WORDS, TRAINED_ENTRIES, TRAINED_WORDS, letters, shown
from sims.vocabulary import COLOURS, allowed, paint
from sims.web.chromium import Browser
from sims.web.pointer import ARROW, draw_arrow
from sims.web.visit import Visit

WINDOW = 160
"""Height and width of the page in pixels; its picture is a smaller one."""
LEAST_SIDE = 96
"""Smaller pictures of a page cannot be read."""
COVER = -1
"""The number of an element that is no thing and hides what lies below it."""
CURSORS = 0.4
"""How often the mouse is drawn."""
_FAMILIES = ("sans-serif", "sans-serif", "serif", "monospace")
_SHAPES = {
    "square": "M0 0H20V20H0Z", "circle": "M10 0A10 10 0 1 1 10 20A10 10 0 1 1 10 0Z", "triangle": "M10 0L20 20H0Z",
    "diamond": "M10 0L20 10L10 20L0 10Z",
}  # fmt: skip
_PUT = """
(said) => {
  document.documentElement.innerHTML = said;
  scrollTo(0, 0);
  return [...document.querySelectorAll("[data-thing]")].map(each => {
    const box = each.getBoundingClientRect();
    return [each.dataset.thing, box.left, box.top, box.right, box.bottom];
  });
}
"""


class Pages(Maker):
    """Draws random pages."""

    def __init__(self, split: Split = Split()) -> None:  # noqa: B008 (frozen)
        super().__init__(split)
        self._browser = Browser()
        self._visit = Visit(self._browser, "about:blank", (WINDOW, WINDOW))

    def draw(self, rng: np.random.Generator) -> Picture:
        """A random page, sometimes with a cursor."""
        body = Body(rng, NEW_WORDS if self.split.words else TRAINED_WORDS, self.split.combinations)
        found = self._visit.run(f"({_PUT})({json.dumps(body.write())})")
        image = np.asarray(Image.open(io.BytesIO(self._visit.picture())).convert("RGB"))
        tip = tuple(rng.uniform(0, WINDOW, 2)) if rng.random() < CURSORS else None
        sides = [side for side in self.split.sides if side >= LEAST_SIDE] or [LEAST_SIDE]
        things = [(None if int(number) == COVER else body.things[int(number)], tuple(box)) for number, *box in found]
        return _picture(image, things, tip, sides[rng.integers(len(sides))])

    def close(self) -> None:
        """End the browser."""
        self._browser.close()


class Body:
    """The HTML of one page, and the things that it shows, each word on it once.

    words: what may be written. pair: whether a colour and shape that training never shows are on it.
    """

    def __init__(self, rng: np.random.Generator, words: tuple[str, ...], pair: bool) -> None:
        self.rng, self.things = rng, list[Thing]()
        self._left = [words[i] for i in rng.permutation(len(words))]
        self._pair = HELD_OUT_PAIRS[rng.integers(len(HELD_OUT_PAIRS))] if pair else None
        self._dark = rng.random() < 0.1

    def write(self) -> str:
        """The page."""
        rng = self.rng
        kinds: tuple[tuple[float, Callable[[], str]], ...] = (
            (0.26, self._buttons), (0.14, self._fields), (0.12, self._ticks), (0.1, self._links), (0.12, self._shapes),
            (0.08, self._text), (0.04, self._slider), (0.05, self._rows), (0.05, self._tabs), (0.04, self._menu),
        )  # fmt: skip
        shares = [share for share, _ in kinds]
        lines = [kinds[rng.choice(len(kinds), p=shares)][1]() for _ in range(rng.integers(2, 6))]
        if self._pair:
            lines.insert(
                0, self._coloured_button(self._pair[0]) if self._pair[1] == "button" else self._shape(*self._pair)
            )
        loose = rng.random() < 0.3
        body = "".join(f'<div style="{self._place(loose)}">{line}</div>' for line in lines)
        if rng.random() < 0.15:
            body += self._dialog()
        ground, ink = (
            ("#223", "#eee") if self._dark else (one_of(("#fff", "#fff", "#fff", "#f4f4f8", "#eee8d8"), rng), "#111")
        )
        size, family = int(rng.integers(8, 14)), one_of(_FAMILIES, rng)
        style = f"margin:{rng.integers(0, 9)}px;font:{size}px {family};background:{ground};color:{ink};overflow:hidden"
        inputs = f"<style>button,input,select,textarea{{font:{size}px {one_of(_FAMILIES, rng)}}}</style>"
        return f'<head>{inputs}</head><body style="{style}">{body}</body>'

    # --- lines ---

    def _buttons(self) -> str:
        return self._several(1, 4, lambda: self._coloured_button() if self.rng.random() < 0.35 else self._button())

    def _fields(self) -> str:
        lines = []
        for _ in range(self.rng.integers(1, 3)):
            name = self._word()
            value = one_of(TRAINED_ENTRIES, self.rng) if self.rng.random() < 0.4 else ""
            tag = self._tag("label", word=name)
            label = f"<span {tag}>{html.escape(shown(name))}</span>"
            tag = self._tag("field", word=value, name=name)
            wide = int(self.rng.integers(40, 110))
            box = (
                f'<textarea {tag} rows=2 style="width:{wide}px">{value}</textarea>'
                if self.rng.random() < 0.2
                else f'<input {tag} value="{value}" style="width:{wide}px">'
            )
            lines.append(f"{label}{one_of(('<br>', ' ', ': '), self.rng)}{box}")
        return "<br>".join(lines)

    def _ticks(self) -> str:
        kind = one_of(("checkbox", "radio"), self.rng)

        def one() -> str:
            word, ticked = self._word(), " checked" if self.rng.random() < 0.3 else ""
            tag = self._tag(kind, word=word)
            return f"<label {tag}><input type={kind}{ticked}>{html.escape(shown(word))}</label>"

        return self._several(1, 4, one)

    def _links(self) -> str:
        return self._several(1, 4, lambda: self._written("link", "a href=#"))

    def _shapes(self) -> str:
        return self._several(1, 5, self._shape)

    def _text(self) -> str:
        return self._several(1, 3, lambda: self._written("label", "b" if self.rng.random() < 0.3 else "span"))

    def _slider(self) -> str:
        name, value = self._word(), int(self.rng.integers(0, 101))
        label = f"<span {self._tag('label', word=name)}>{html.escape(shown(name))}</span>"
        wide = int(self.rng.integers(70, 120))
        left = 2 + (wide - 16) * value / 100  # of a knob of 12 pixels on the bar below
        knob = self._tag("slider", name=name)
        return (
            f'{label}<br><span style="position:relative;display:inline-block;width:{wide}px;height:14px">'
            f'<span style="position:absolute;top:5px;width:100%;height:4px;background:#bbb;border-radius:2px"></span>'
            f'<span {knob} style="position:absolute;top:1px;left:{left:.0f}px;width:12px;height:12px;'
            f'border-radius:{self.rng.integers(1, 7)}px;background:{_css(self._shade("blue"))}"></span></span>'
        )

    def _rows(self) -> str:
        edge = "border-bottom:1px solid #999;padding:2px"
        return "".join(
            f'<div {self._tag("row", word=word)} style="{edge}">{html.escape(shown(word))}</div>'
            for word in (self._word() for _ in range(self.rng.integers(2, 5)))
        )

    def _tabs(self) -> str:
        edge = "border:1px solid #999;border-bottom:none;padding:2px 4px;background:#ddd;color:#111"
        return self._several(2, 4, lambda: self._written("tab", "span", edge))

    def _menu(self) -> str:
        edge = "display:block;border:1px solid #ccc;padding:1px 6px"
        return "".join(self._written("menu", "span", edge) for _ in range(self.rng.integers(2, 5)))

    def _dialog(self) -> str:
        """On top of what is there, with a bar and a cross."""
        rng, title = self.rng, self._word()
        left, top, wide = int(rng.integers(2, 50)), int(rng.integers(5, 80)), int(rng.integers(85, 110))
        bar = self._tag("window", word=title)
        cross = self._tag("button", word="x")
        place = f"position:absolute;left:{left}px;top:{top}px;width:{wide}px"
        look = f"background:#fff;color:#111;border:1px solid #888;border-radius:{rng.integers(0, 6)}px"
        close = f'<button {cross} style="float:right;padding:0 2px">&times;</button>'
        return (
            f'<div data-thing={COVER} style="{place};{look}">'
            f'<div {bar} style="background:#ddd;padding:3px;font-weight:bold">{html.escape(shown(title))}{close}</div>'
            f'<div style="padding:6px">{self._text()}<br>{self._buttons()}</div></div>'
        )

    # --- single things ---

    def _several(self, least: int, most: int, make: Callable[[], str]) -> str:
        between = one_of((" ", "<br>", "&nbsp; "), self.rng)
        return between.join(make() for _ in range(self.rng.integers(least, most)))

    def _button(self) -> str:
        word = self._word()
        style = f"padding:{self.rng.integers(0, 5)}px {self.rng.integers(2, 12)}px" if self.rng.random() < 0.5 else ""
        tag = self._tag("button", word=word)
        return f'<button {tag} style="{style}">{html.escape(shown(word))}</button>'

    def _coloured_button(self, colour: str = "") -> str:
        colour = colour or self._colour("button")
        shade, rng = self._shade(colour), self.rng
        word = self._word() if rng.random() < 0.5 else ""
        ink = "#fff" if sum(shade) < 1.5 else "#111"
        size = f"width:{rng.integers(14, 50)}px;height:{rng.integers(12, 30)}px;" if not word else ""
        style = f"{size}background:{_css(shade)};color:{ink};border:1px solid #777;border-radius:{rng.integers(0, 6)}px"
        tag = self._tag("button", word=word, colour=colour)
        return f'<button {tag} style="{style}">{html.escape(shown(word))}</button>'

    def _shape(self, colour: str = "", shape: str = "") -> str:
        shape = shape or one_of(tuple(_SHAPES), self.rng)
        colour = colour or self._colour(shape)
        side = int(self.rng.integers(12, 40))
        tag = self._tag(shape, colour=colour)
        path = _SHAPES.get(shape, _SHAPES["square"])
        wide = 3 * side if shape == "bar" else side
        return (
            f'<svg {tag} width={wide} height={side} viewBox="0 0 20 20" preserveAspectRatio="none">'
            f'<path d="{path}" fill="{_css(self._shade(colour))}"/></svg>'
        )

    def _written(self, shape: str, element: str, style: str = "") -> str:
        word = self._word()
        tag = self._tag(shape, word=word)
        return f'<{element} {tag} style="{style}">{html.escape(shown(word))}</{element.split()[0]}>'

    def _tag(self, shape: str, word: str = "", name: str = "", colour: str = "") -> str:
        """The attribute by which a thing's element is found again."""
        self.things.append(Thing(colour, shape, (0, 0), (0, 0), 0, word=word, name=name))
        return f"data-thing={len(self.things) - 1}"

    def _word(self) -> str:
        return letters(self.rng, 3, 7) if self.rng.random() < STRANGE else self._left.pop()

    def _colour(self, shape: str) -> str:
        """One that stands out from the ground, and that training may show in this shape."""
        while True:
            colour = one_of(tuple(COLOURS), self.rng)
            if allowed(colour, shape, False) and colour != ("black" if self._dark else "white"):
                return colour

    def _shade(self, colour: str) -> tuple[float, float, float]:
        red, green, blue = (float(level) for level in paint(colour, self.rng))
        return red, green, blue

    def _place(self, loose: bool) -> str:
        rng = self.rng
        if loose:
            return f"position:absolute;left:{rng.integers(0, 110)}px;top:{rng.integers(0, 140)}px"
        return f"margin:{rng.integers(0, 7)}px 0 0 {rng.integers(0, 12)}px"


def _css(shade: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * level):02x}" for level in shade)


def _picture(
    image: np.ndarray, found: Sequence[tuple[Thing | None, Box]], tip: tuple[float, ...] | None, side: int
) -> Picture:
    """The page in a smaller picture, and what is where in it; what comes later lies on top."""
    owner, things = np.full((WINDOW, WINDOW), BARE), list[Thing]()
    for thing, box in found:
        left, top, right, bottom = (min(max(round(edge), 0), WINDOW) for edge in box)
        owner[top:bottom, left:right] = BARE if thing is None else len(things)
        if thing is not None and left < right and top < bottom:
            shown_box = left, top, right, bottom
            things.append(replace(thing, place=place_in(shown_box, WINDOW), extent=extent_in(shown_box, WINDOW)))
    if tip is not None:
        image = draw_arrow(image, (tip[0], tip[1]))
        left, top = int(tip[0]), int(tip[1])
        owner[top : top + ARROW[1][1], left : left + ARROW[2][0]] = len(things)
    nearest = ((np.arange(side) + 0.5) * WINDOW / side).astype(int)
    small = np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))
    own = None if tip is None else (tip[0] / WINDOW * 2 - 1, tip[1] / WINDOW * 2 - 1)
    return on_screen(small, things, owner[np.ix_(nearest, nearest)], own)
