"""Random screens: what could stand on one, of every widget that there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sims.gui import layout
from sims.gui.choices import Slider
from sims.gui.containers import Panel, ScrollArea, Table, Tabs, Window, title_height
from sims.gui.controls import Button, Field, Label, Shape
from sims.gui.files import File, folder, folder_height
from sims.gui.menus import Menu, Popup, Row
from sims.gui.paint import mix
from sims.gui.screen import Screen
from sims.gui.themes import Colour
from sims.gui.widget import Widget
from sims.gui.words import letters, shown
from sims.screen.interaction import Gesture
from sims.vocabulary import HELD_OUT_COMBINATIONS, allowed

SHAPES = ("circle", "square", "triangle", "diamond", "bar")
_KEYS = "0123456789+-=c"
"""What the keys of a calculator say."""
_KITS = (0.15, 0.35, 0.35, 0.15)
"""How often a screen of things that are used together has keys, a form, a grid of buttons, and sliders."""
STRANGE = 0.2
"""How often a word is letters at random, so that words are read and not only known by sight."""
Rows = list[list[Widget]]


@dataclass
class Furniture:
    """Puts widgets on one screen, each word on it once.

    words: what may be written on widgets. entries: what may stand in fields. pair: a colour and a shape that must be
    shown, or None. kits: how often the screen has what is used together: a calculator's keys, a form to fill in,
    buttons in rows and columns, or sliders. grids: how often it has those buttons, and nothing else.
    """

    screen: Screen
    rng: np.random.Generator
    words: tuple[str, ...]
    entries: tuple[str, ...]
    pair: tuple[str, str] | None = None
    kits: float = 0.0
    grids: float = 0.0
    used: set[str] = field(default_factory=set)
    count: int = 0

    def furnish(self) -> None:
        """Fill the screen; it may turn out empty where nothing fits."""
        kinds: tuple[tuple[float, Callable[[], None]], ...] = (
            (0.4, self._form), (0.19, self._loose), (0.11, self._menus), (0.07, self._list), (0.04, self._folders),
            (0.03, self._table), (0.06, self._keys), (0.1, self._grid),
        )  # fmt: skip
        chosen = kinds[self.rng.choice(len(kinds), p=[share for share, _ in kinds])][1]
        if self.kits and self.rng.random() < self.kits:
            kits = (self._keys, self._to_fill_in, self._grid, self._levels)
            chosen = kits[self.rng.choice(len(kits), p=_KITS)]
        if self.grids and self.rng.random() < self.grids:
            chosen = self._grid
        if self.pair:
            chosen = self._form if self.pair[1] == "button" and self.rng.random() < 0.5 else self._loose
        try:
            chosen()
            if chosen != self._menus and self.rng.random() < 0.08:
                self._dialog()
        except ValueError:  # no room
            self.screen.change()
        self._touch()
        if self.rng.random() < (0.4 if chosen == self._folders else 0.04):
            self.screen.enlarge(self.screen.view_around(*self.screen.cursor))

    # --- whole screens ---

    def _form(self) -> None:
        """A window of lines."""
        lines = (
            (0.28, self._buttons), (0.24, self._fields), (0.14, self._checkboxes), (0.1, self._radios),
            (0.1, self._sliders), (0.08, self._link), (0.04, self._caption), (0.02, self._progress),
        )  # fmt: skip
        rows: Rows = []
        if self.pair and self.pair[1] == "button":
            rows.append([self._faced(self.pair[0])])
        for _ in range(int(self.rng.integers(2, 5))):
            rows += lines[self.rng.choice(len(lines), p=[share for share, _ in lines])][1]()
        rows = [row for row in rows if row]
        if self.rng.random() < 0.1:
            return self._tabs(rows)
        while rows:
            try:
                layout.window(self.screen, self.rng, shown(self._word()), rows, name=self._name())
                return
            except ValueError:
                rows = rows[:-1]

    def _to_fill_in(self) -> None:
        """A window of fields with their names beside them, something to choose, and a button."""
        style, rng = self.screen.style, self.rng
        count = 3 if rng.random() < 0.3 else 2
        wide = int(rng.integers(36, 56))
        fields = [self._field(wide) for _ in range(count)]
        rows: Rows = layout.labelled(style, fields)
        if rng.random() < 0.8:
            choices = self._radios() if rng.random() < 0.7 else self._checkboxes()
            rows = [*rows, *choices] if rng.random() < 0.7 else [*choices, *rows]
        button = layout.button(style, self._name(), shown(self._word()), default=bool(rng.random() < 0.5))
        layout.window(self.screen, rng, shown(self._word()), [*rows, [button]], name=self._name())

    def _levels(self) -> None:
        """A window of sliders, each under its name and the number at which it stands."""
        style, rows = self.screen.style, Rows()
        for _ in range(int(self.rng.integers(1, 3))):
            title, slider = self._slider()
            number = layout.label(style, self._name(), str(slider.value), style.width("100") + 1, faint=True)
            title.box = (0, 0, max(title.box[2], slider.box[2] - number.box[2] - style.gap), title.box[3])
            rows += [[title, number], [slider]]
        layout.window(self.screen, self.rng, shown(self._word()), rows, name=self._name())

    def _loose(self) -> None:
        """Buttons and shapes anywhere."""
        box, ground = layout.open_ground(self.screen, self.rng, shown(self._word()))
        made: list[Widget] = []
        if self.pair:
            made.append(self._faced(self.pair[0]) if self.pair[1] == "button" else self._shape(*self.pair))
        for colour, shade in layout.shades(self.rng, int(self.rng.integers(2, 6)), ground):
            kind = self.rng.random()
            shape = SHAPES[self.rng.integers(len(SHAPES))]
            if kind < 0.5:
                made.append(self._button(colour if allowed(colour, "button", False) else "", shade))
            elif allowed(colour, shape, False):
                made.append(self._shape(colour, shape, shade))
        if made and isinstance(made[-1], Shape) and self.rng.random() < 0.4:  # two of one colour
            last = made[-1]
            other = SHAPES[self.rng.integers(len(SHAPES))]
            if other != last.shape and allowed(last.colour, other, False):
                made.append(self._shape(last.colour, other, last.fill))
        places = layout.scatter(self.rng, [(each.box[2], each.box[3]) for each in made], box, self.screen.style.px(2))
        for widget, place in zip(made, places, strict=True):
            widget.box = place
        layout.hold(self.screen, made)

    def _menus(self) -> None:
        """A window with a menu bar, often with a menu open."""
        style, theme, rng = self.screen.style, self.screen.style.theme, self.rng
        menus = []
        for _ in range(3):
            items: list[Widget] = [self._item() for _ in range(int(rng.integers(2, 5)))]
            menus.append(
                Menu(self._name(), _NOWHERE, shown(self._word()), Popup(self._name(), _NOWHERE, items), in_bar=True)
            )
        wide, high = (side - int(rng.integers(style.px(15))) for side in self.screen.size)
        left, top = layout.anywhere(self.screen, rng, (wide, high))
        bar = top + title_height(style)
        layout.menu_bar(style, (left + 3, bar), menus)
        for menu in menus:
            assert menu.below is not None
            layout.keep_inside(self.screen, menu.below)
        fill = theme.window if theme.raised else mix(theme.window, theme.ink, 0.06)
        strip = Panel(self._name(), (left + 2, bar, wide - 4, style.row), list(menus), fill)
        sheet = (left + 4, bar + style.row + 2, wide - 8, top + high - bar - style.row - 6)
        page = Panel(self._name(), sheet, [], theme.field, framed=True)
        window = Window(self._name(), (left, top, wide, high), shown(self._word()), [page, strip])
        self.screen.widgets.append(window)
        menus[int(rng.integers(3))].open = bool(rng.random() < 0.6)
        self.screen.change()

    def _list(self) -> None:
        """A list in a window, scrolled somewhere."""
        style, rng = self.screen.style, self.rng
        wide, high = int(rng.integers(56, 80)), int(rng.integers(3, 6)) * (style.row - 2)
        box = (0, 0, style.px(wide), style.px(2) + high)
        area = ScrollArea(self._name(), box, notch=style.row, bar=style.px(6))
        layout.window(self.screen, rng, shown(self._word()), [[area]], name=self._name())
        x, y, across, _ = area.box
        rows = [Row(self._name(), _NOWHERE, shown(self._word())) for _ in range(int(rng.integers(4, 11)))]
        for i, row in enumerate(rows):
            row.box = (x + 1, y + 1 + i * (style.row - 2), across - area.bar - 2, style.row - 2)
        area.children, area.content = list(rows), len(rows) * (style.row - 2)
        area.offset = int(rng.integers(area.furthest + 1))
        self.screen.change()

    def _folders(self) -> None:
        """Two folders side by side, the names of their files often too fine to be read."""
        style, rng, half = self.screen.style, self.rng, self.screen.size[0] // 2
        fine = 1.5 * style.scale if rng.random() < 0.4 else 0.0
        for number in range(2):
            files = [
                File(self._name(), _NOWHERE, shown(self._word()), fine=fine, opened=bool(rng.random() < 0.15))
                for _ in range(int(rng.integers(1, 4)))
            ]
            top = int(rng.integers(self.screen.size[1] - folder_height(style, len(files)) + 1))
            place = (number * half + int(rng.integers(style.px(2) + 1)), top)
            title = shown(self._word())
            self.screen.widgets.append(folder(style, self._name(), title, place, half - style.px(2), files))
        self.screen.change()

    def _table(self) -> None:
        """Rows and columns."""
        style, rng = self.screen.style, self.rng
        columns = tuple(shown(self._word()) for _ in range(2))
        lines = range(int(rng.integers(2, 5)))
        rows: list[tuple[str, ...]] = [(shown(self._word()), str(rng.integers(1, 100))) for _ in lines]
        widths = (style.px(48), style.px(30))
        table = Table(self._name(), (0, 0, sum(widths), (len(rows) + 1) * style.row), columns, rows, widths)
        layout.window(self.screen, rng, shown(self._word()), [[table]], name=self._name())

    def _keys(self) -> None:
        """A calculator's."""
        style, order = self.screen.style, self.rng.permutation(len(_KEYS))
        keys = [layout.button(style, self._name(), _KEYS[i].upper(), 14) for i in order[: self.rng.integers(6, 13)]]
        rows: Rows = [list(keys[i : i + 4]) for i in range(0, len(keys), 4)]
        rows.insert(0, [layout.text_field(style, self._name(), "", 60, value=str(self.rng.integers(1000)))])
        layout.window(self.screen, self.rng, shown(self._word()), rows, name=self._name())

    def _grid(self) -> None:
        """Buttons in rows and columns, so that each can be named by its neighbours."""
        rng, style = self.rng, self.screen.style
        rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        shades = layout.shades(rng, rows * columns, style.theme.window)
        made = [self._button(colour if allowed(colour, "button", False) else "", shade) for colour, shade in shades]
        wide = int(rng.integers(style.px(14), style.px(40)))
        for button in made:
            button.box = (0, 0, max(wide, button.box[2] if button.text else 0), button.box[3])
        lines: Rows = [list(made[row * columns : (row + 1) * columns]) for row in range(rows)]
        layout.window(self.screen, rng, shown(self._word()), lines, name=self._name())

    def _tabs(self, rows: Rows) -> None:
        style = self.screen.style
        titles = [shown(self._word()) for _ in range(2)]
        inner = [widget for row in rows for widget in row][:4]
        wide = max([style.px(70), *(widget.box[2] + style.px(8) for widget in inner)])
        tabs = Tabs(
            self._name(), (0, 0, wide, style.row + sum(w.box[3] + style.gap for w in inner) + style.gap), titles
        )
        layout.window(self.screen, self.rng, shown(self._word()), [[tabs]], name=self._name())
        x, y = tabs.box[0] + style.px(4), tabs.box[1] + style.row + style.gap
        for widget in inner:
            layout.put(widget, x, y)
            y += widget.box[3] + style.gap
        active = int(self.rng.integers(2))
        tabs.pages, tabs.active = [inner, []] if active == 0 else [[], inner], active
        self.screen.change()

    def _dialog(self) -> None:
        rows: Rows = [[layout.label(self.screen.style, self._name(), shown(self._word()))], *self._buttons()]
        layout.window(self.screen, self.rng, shown(self._word()), rows, name=self._name(), modal=True)

    # --- lines of a form ---

    def _buttons(self) -> Rows:
        made: list[Widget] = []
        for _ in range(int(self.rng.integers(1, 4))):
            colour, shade = layout.shades(self.rng, 1, self.screen.style.theme.window)[0]
            plain = self.rng.random() < 0.65 or not allowed(colour, "button", False)
            made.append(self._button("" if plain else colour, shade))
        return [made]

    def _fields(self) -> Rows:
        style, rng = self.screen.style, self.rng
        fields = [self._field(int(rng.integers(36, 56))) for _ in range(int(rng.integers(1, 3)))]
        if rng.random() < 0.7:
            return layout.labelled(style, fields)
        for each in fields:
            each.text = ""
        return [[each] for each in fields[:1]]

    def _checkboxes(self) -> Rows:
        made = [
            layout.checkbox(self.screen.style, self._name(), shown(self._word()))
            for _ in range(self.rng.integers(1, 4))
        ]
        for each in made:
            each.ticked = bool(self.rng.random() < 0.3)
        return [[each] for each in made]

    def _radios(self) -> Rows:
        made = [layout.radio(self.screen.style, self._name(), shown(self._word()), "group") for _ in range(2)]
        made[int(self.rng.integers(2))].chosen = bool(self.rng.random() < 0.5)
        return [list(made)] if self.rng.random() < 0.5 else [[each] for each in made]

    def _sliders(self) -> Rows:
        title, slider = self._slider()
        return [[title], [slider]]

    def _slider(self) -> tuple[Label, Slider]:
        """It, and its name."""
        style, text = self.screen.style, self._word()
        slider = layout.slider(style, self._name(), text, int(self.rng.integers(56, 78)))
        slider.value = 10 * int(self.rng.integers(11))
        return layout.label(style, f"{slider.name}_label", shown(text)), slider

    def _link(self) -> Rows:
        return [[layout.link(self.screen.style, self._name(), shown(self._word()))]]

    def _caption(self) -> Rows:
        faint = bool(self.rng.random() < 0.4)
        return [[layout.label(self.screen.style, self._name(), shown(self._word()), faint=faint)]]

    def _progress(self) -> Rows:
        return [[layout.progress(self.screen.style, self._name(), value=int(self.rng.integers(101)))]]

    # --- single things ---

    def _button(self, colour: str, shade: Colour) -> Button:
        style, rng = self.screen.style, self.rng
        text = shown(self._word()) if not colour or rng.random() < 0.5 else ""
        button = layout.button(style, self._name(), text, int(rng.integers(16, 34)))
        button.default = bool(rng.random() < 0.25)
        return layout.faced(button, colour, shade) if colour else button

    def _faced(self, colour: str) -> Button:
        return self._button(colour, layout.shade_of(colour, self.rng))

    def _shape(self, colour: str, shape: str, shade: Colour | None = None) -> Shape:
        px, rng = self.screen.style.px, self.rng
        side = px(int(rng.integers(9, 22)))
        size = (px(int(rng.integers(20, 34))), px(int(rng.integers(5, 8)))) if shape == "bar" else (side, side)
        return Shape(self._name(), (0, 0, *size), shape, shade or layout.shade_of(colour, rng), colour)

    def _item(self) -> Menu:
        return Menu(self._name(), _NOWHERE, shown(self._word()))

    def _field(self, wide: int) -> Field:
        """So many pixels wide at scale 1."""
        return layout.text_field(self.screen.style, self._name(), self._word(), wide, value=self._value())

    def _value(self) -> str:
        """What stands in a field."""
        if self.rng.random() < 0.6:
            return ""
        return self.entries[self.rng.integers(len(self.entries))]

    def _word(self) -> str:
        left = [word for word in self.words if word not in self.used]
        word = left[self.rng.integers(len(left))]
        if self.rng.random() < STRANGE:
            word = letters(self.rng, 3, 7)
        self.used.add(word)
        return word

    def _name(self) -> str:
        self.count += 1
        return f"w{self.count}"

    def _touch(self) -> None:
        """As if a hand had been there: the cursor anywhere, often on something, which may have the focus."""
        rng, screen = self.rng, self.screen
        shown_now = screen.placed()
        if shown_now and rng.random() < 0.5:
            there = shown_now[rng.integers(len(shown_now))]
            x, y = there.middle
            screen.cursor = (x + rng.normal(0, 3), y + rng.normal(0, 2))
            if there.widget.focusable and rng.random() < 0.5:
                screen.do(Gesture("click", there.middle))
        else:
            screen.cursor = (float(rng.uniform(0, screen.size[0])), float(rng.uniform(0, screen.size[1])))


_NOWHERE = (0, 0, 0, 0)
HELD_OUT_PAIRS = tuple(sorted(pair for pair in HELD_OUT_COMBINATIONS if pair[1] in (*SHAPES, "button")))
"""Pairs of colour and shape that only exams of new combinations show."""
