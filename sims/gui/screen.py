"""A screen: widgets, one above the other, a mouse and a keyboard."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from sims.gui.paint import Box, Style, arrow, style_of
from sims.gui.themes import HELD_OUT, THEMES, Colour, Theme
from sims.gui.widget import Event, Placed, Widget, bare, picture, plain, revive
from sims.screen.interaction import Gesture

_TURN = {"scroll_up": -1, "scroll_down": 1}
ENLARGED = 2
"""How many times a `view` is enlarged."""


class Screen:
    """What is shown, and what a hand does to it; see `sims.screen.world` for what sensors read.

    Args:
        size: width and height in pixels.
        kinds: the names of the gestures and tools that there are.
        scale: of everything drawn; None for one that goes with the size.

    Attributes:
        style: the theme, its font and the scale.
        widgets: what lies on the desktop, the topmost last.
        focus: the name of the widget that takes the keyboard's input, or "".
        pressed: the name of the button that the last gesture pressed, or "".
        events: what the last gesture did.
        memory: what the task wants to remember, of JSON's types.
        view: the part of the screen (left, top, width, height) that is shown enlarged until the next gesture, or None.
        noted: what `note_down` has read in this episode.
    """

    def __init__(self, size: tuple[int, int], kinds: tuple[str, ...] = (), scale: float | None = None) -> None:
        self.size, self.kinds = size, kinds
        self.scale = scale or max(1.0, (min(size) / 96) ** 0.5)
        theme = next(iter(THEMES.values()))
        self.clear(theme, theme.fonts[0])

    def clear(self, theme: Theme, font: str) -> None:
        """An empty desktop of this look; nothing has happened yet."""
        self.style: Style = style_of(theme, font, self.scale)
        self.widgets: list[Widget] = []
        self.cursor: tuple[float, float] = (self.size[0] / 2, self.size[1] / 2)
        self.focus = self.pressed = self.instruction = self.clipboard = self.answer = ""
        self.view: Box | None = None
        self.gestures: list[Gesture] = []
        self.events: list[Event] = []
        self.memory: dict[str, Any] = {}
        self.noted: tuple[str, ...] = ()
        self.change()

    def change(self) -> None:
        """Tell that widgets have been changed from outside."""
        self._placed: list[Placed] | None = None
        self._drawn: np.ndarray | None = None
        self._frame: np.ndarray | None = None

    @property
    def focused(self) -> str:
        """What takes the keyboard's input, as a person would call it."""
        found = self.find(self.focus)
        return found.spoken if found else ""

    # What is where

    def placed(self) -> list[Placed]:
        """All that is shown, the topmost last."""
        if self._placed is None:
            self._placed = []
            whole = (0, 0, *self.size)
            popups: list[tuple[Widget, int]] = []
            for widget in self.widgets:
                self._place(widget, 0, whole, self.style.theme.desktop, -1, popups)
            while popups:
                widget, opener = popups.pop(0)
                self._place(widget, 0, whole, self.style.theme.window, opener, popups)
        return self._placed

    def _place(
        self,
        widget: Widget,
        dy: int,
        clip: tuple[int, int, int, int],
        ground: Colour,
        parent: int,
        popups: list[tuple[Widget, int]],
    ) -> None:
        """Note where a widget and its parts are shown, `dy` pixels higher than they say; what pops up is for later."""
        assert self._placed is not None
        x, y, _, _ = widget.box
        number = len(self._placed)
        self._placed.append(Placed(widget, x, y - dy, clip, ground, parent))
        above = widget.popup()
        if above is not None:
            popups.append((above, number))
        parts = widget.parts()
        if not parts:
            return
        left, top, wide, high = widget.inner()
        top -= dy
        inside = (max(clip[0], left), max(clip[1], top), min(clip[2], left + wide), min(clip[3], top + high))
        ground, dy = widget.ground(self.style, ground), dy + widget.scrolled()
        for part in parts:
            self._place(part, dy, inside, ground, number, popups)

    def reachable(self) -> list[Placed]:
        """What can be acted on: all that is shown, or, where a window wants an answer first, that and what is in it."""
        shown = self.placed()
        modal = [i for i, each in enumerate(shown) if getattr(each.widget, "modal", False)]
        return [each for i, each in enumerate(shown) if self._within(i, modal[-1])] if modal else shown

    def _within(self, number: int, ancestor: int) -> bool:
        while number > ancestor:
            number = self.placed()[number].parent
        return number == ancestor

    def find(self, name: str) -> Any:
        """The widget of this name that is shown, or None."""
        return next((each.widget for each in self.placed() if each.widget.name == name), None) if name else None

    def where(self, name: str) -> Placed:
        """The shown widget of this name and its place."""
        return next(each for each in self.placed() if each.widget.name == name)

    def shown(self, name: str) -> bool:
        """Whether the middle of a widget of this name can be clicked."""
        for each in self.reachable():
            if each.widget.name == name:
                return each.holds(*each.middle) and self._at(*each.middle) is each
        return False

    def all(self, kind: type[Widget]) -> Iterator[Any]:
        """Every shown widget of a kind."""
        return (each.widget for each in self.placed() if isinstance(each.widget, kind))

    def _at(self, x: float, y: float) -> Placed | None:
        """The topmost thing there."""
        return next((each for each in reversed(self.reachable()) if each.holds(x, y)), None)

    # What is written there

    def written(self) -> list[tuple[str, tuple[float, float]]]:
        """What can be read on the picture now, line by line from the top, each with the middle of what it stands on, in
        pixels of the picture; not what has been put into fields."""
        left, top, times = (0, 0, 1) if self.view is None else (*self.view[:2], ENLARGED)
        style, found = style_of(self.style.theme, self.style.font, self.scale * times), []
        for each in self._read():
            for text, (x, y) in zip(each.widget.written(style), each.widget.stands(self.style), strict=False):
                found.append((text, ((each.x + x - left) * times, (each.y + y - top) * times)))
        return found

    def entered(self) -> list[str]:
        """What has been put into the things that are seen now, from the top: see `Widget.entered`."""
        return [text for each in self._read() if (text := each.widget.entered())]

    def note_down(self) -> None:
        """Read what is written now on what a hand cannot change, such as titles and labels: each text once."""
        for each in self._read():
            if not each.widget.alive:
                self.noted += tuple(text for text in each.widget.written(self.style) if text not in self.noted)

    def _read(self) -> list[Placed]:
        """What is seen, in the order in which it is read: line by line from the top."""
        shown = self.placed()
        seen = [each for number, each in enumerate(shown) if self._seen(number)]
        return sorted(seen, key=lambda each: (round(each.y / self.style.row), each.x))

    def _seen(self, number: int) -> bool:
        """Whether the middle of a thing's top line is seen: not cut off, nor below something that is no part of it."""
        each = self.placed()[number]
        wide, high = each.widget.box[2:]
        x, y = each.x + wide / 2, each.y + min(high, self.style.row) / 2
        left, top, across, down = self.view or (0, 0, *self.size)
        above = (other for other in range(number + 1, len(self.placed())) if self.placed()[other].holds(x, y))
        inside = left <= x < left + across and top <= y < top + down
        return inside and each.holds(x, y) and all(self._within(other, number) for other in above)

    # What happens

    def do(self, gesture: Gesture) -> None:
        """Carry out a gesture; tools and `done` change nothing here."""
        self.gestures.append(gesture)
        self.events = []
        self.enlarge(None)
        if self.pressed:
            released, self.pressed = self.find(self.pressed), ""
            if released is not None:
                released.down = False
            self.change()
        place = gesture.to or gesture.at
        if place is not None:
            self.cursor, self._frame = place, None
        if gesture.kind in ("click", "double_click", "drag") and gesture.at is not None:
            self._touch(gesture, *gesture.at)
        elif gesture.kind in _TURN and gesture.at is not None:
            self._turn(_TURN[gesture.kind], *gesture.at)
        elif gesture.kind in ("type", "write") and gesture.text:
            self._write(gesture.text)
        elif gesture.kind == "key":
            self._press(gesture.key)

    def enlarge(self, view: Box | None) -> None:
        """Show a part of the screen alone, or all of it again."""
        if view != self.view:
            self.view, self._frame = view, None

    def view_around(self, x: float, y: float) -> Box:
        """The part of the screen around a place that fills it when it is enlarged."""
        wide, high = (-(-side // ENLARGED) for side in self.size)
        left, top = (
            min(max(int(x) - wide // 2, 0), self.size[0] - wide),
            min(max(int(y) - high // 2, 0), self.size[1] - high),
        )
        return left, top, wide, high

    def behind(self, gesture: Gesture) -> Gesture:
        """The gesture on the screen that one on its picture is: another one only where a `view` is shown."""
        if self.view is None:
            return gesture
        left, top = self.view[:2]

        def place(at: tuple[float, float] | None) -> tuple[float, float] | None:
            return at and (left + at[0] / ENLARGED, top + at[1] / ENLARGED)

        return replace(gesture, at=place(gesture.at), to=place(gesture.to))

    def on_picture(self, gesture: Gesture) -> Gesture:
        """The other way round. Raises ValueError for a place that the `view` does not show."""
        if self.view is None:
            return gesture
        left, top, wide, high = self.view

        def place(at: tuple[float, float] | None) -> tuple[float, float] | None:
            if at and not (left <= at[0] <= left + wide and top <= at[1] <= top + high):
                raise ValueError(f"only {self.view} is shown, enlarged; there is no pointing at {at}")
            return at and (
                min((at[0] - left) * ENLARGED, float(self.size[0])),
                min((at[1] - top) * ENLARGED, float(self.size[1])),
            )

        return replace(gesture, at=place(gesture.at), to=place(gesture.to))

    def emit(self, name: str, kind: str) -> None:
        """Tell that a gesture did something to a widget."""
        self.events.append(Event(name, kind))

    def happened(self, name: str, kind: str) -> bool:
        """Whether the last gesture did this."""
        return Event(name, kind) in self.events

    def set_focus(self, name: str) -> None:
        """Give the focus to the widget of this name, or to none."""
        if name != self.focus:
            loser = self.find(self.focus)
            if loser is not None:
                loser.lost()
            self.focus = name
            self.change()

    def close_menus(self, keep: tuple[Widget, ...] = ()) -> None:
        """Close every menu that is open, but for those to `keep`."""
        opened = [each.widget for each in self.placed() if getattr(each.widget, "open", False)]
        for widget in opened:
            if widget not in keep:
                widget.open = False  # type: ignore[attr-defined]
                self.change()

    def _touch(self, gesture: Gesture, x: float, y: float) -> None:
        hit = self._at(x, y)
        if hit is None:
            self.set_focus("")
            return self.close_menus()
        widget = hit.widget
        self.close_menus(keep=self._above(hit))
        self.set_focus(widget.name if widget.focusable else "")
        if not widget.alive:
            return
        if gesture.kind == "drag" and gesture.to is not None:
            end = (gesture.to[0] - hit.x, gesture.to[1] - hit.y)
            widget.drag(self, (x - hit.x, y - hit.y), end)
        elif gesture.kind == "double_click":
            widget.double_click(self, x - hit.x, y - hit.y)
        else:
            widget.click(self, x - hit.x, y - hit.y)
        self.change()

    def _above(self, hit: Placed) -> tuple[Widget, ...]:
        """A widget and all that it is in, or that popped it up."""
        found, shown = [hit.widget], self.placed()
        while hit.parent >= 0:
            hit = shown[hit.parent]
            found.append(hit.widget)
        return tuple(found)

    def _turn(self, steps: int, x: float, y: float) -> None:
        hit, shown = self._at(x, y), self.placed()
        while hit is not None:
            if hit.widget.scroll(self, steps):
                return self.change()
            hit = shown[hit.parent] if hit.parent >= 0 else None

    def _write(self, text: str) -> None:
        widget = self.find(self.focus)
        if widget is not None:
            widget.write(self, text)
            self.change()

    def _press(self, key: str) -> None:
        widget = self.find(self.focus)
        self.change()
        if widget is not None and widget.key(self, key):
            return
        if key == "Tab":
            stops = [each.widget.name for each in self.reachable() if each.widget.focusable]
            if stops:
                after = stops.index(self.focus) + 1 if self.focus in stops else 0
                self.set_focus(stops[after % len(stops)])
        elif key == "Escape":
            self.close_menus()
        elif key == "Enter":
            default = next((each for each in self.reachable() if getattr(each.widget, "default", False)), None)
            if default is not None:
                default.widget.click(self, 0, 0)

    # What is seen

    def screenshot(self) -> np.ndarray:
        """uint8 [height, width, 3] with the cursor, or of the `view` without it; not to be changed."""
        if self._frame is None and self.view is not None:
            self._frame = self._draw_view(self.view)
        if self._frame is None:
            if self._drawn is None:
                self._drawn = self._draw(self.style)
            self._frame = self._drawn.copy()
            self._draw_cursor(self._frame)
        return self._frame

    def _draw(self, style: Style, times: int = 1) -> np.ndarray:
        """Everything, so many times as large as it is."""
        canvas, focus = bare((self.size[0] * times, self.size[1] * times), style.theme.desktop).copy(), self.focus
        for widget, x, y, clip, ground, _ in self.placed():
            look = widget.look(style, widget.name == focus)
            if look is None:
                continue
            wide, high = widget.box[2:]
            left, top, right, bottom = max(clip[0], x), max(clip[1], y), min(clip[2], x + wide), min(clip[3], y + high)
            if left < right and top < bottom:
                shown = picture(widget.paint, style, ground, (wide * times, high * times), look)
                part = shown[(top - y) * times : (bottom - y) * times, (left - x) * times : (right - x) * times]
                canvas[top * times : bottom * times, left * times : right * times] = part
        return canvas

    def _draw_view(self, view: Box) -> np.ndarray:
        """Drawn anew and not stretched: what is too fine to be drawn on the whole screen can be seen in it."""
        left, top = (side * ENLARGED for side in view[:2])
        drawn = self._draw(style_of(self.style.theme, self.style.font, self.scale * ENLARGED), ENLARGED)
        return drawn[top : top + self.size[1], left : left + self.size[0]].copy()

    def _draw_cursor(self, frame: np.ndarray) -> None:
        colours, there = arrow(self.scale)
        x, y = (min(max(int(place), 0), side - 1) for place, side in zip(self.cursor, self.size, strict=True))
        part = frame[y : y + there.shape[0], x : x + there.shape[1]]
        high, wide = part.shape[:2]
        np.copyto(part, colours[:high, :wide], where=there[:high, :wide])

    # Going back

    def snapshot(self) -> dict[str, Any]:
        """The whole state, of JSON's types and tuples."""
        theme = self.style.theme.name
        return {
            "look": [theme, self.style.font],
            "widgets": plain(self.widgets),
            "plain": {name: getattr(self, name) for name in _PLAIN},
            "gestures": [copy.copy(vars(gesture)) for gesture in self.gestures],
            "events": [tuple(event) for event in self.events],
            "memory": copy.deepcopy(self.memory),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a `snapshot`."""
        theme, font = snapshot["look"]
        self.clear((THEMES | HELD_OUT)[theme], font)
        self.widgets = revive(snapshot["widgets"])
        for name, value in snapshot["plain"].items():
            setattr(self, name, value)
        self.gestures = [Gesture(**each) for each in snapshot["gestures"]]
        self.events = [Event(*each) for each in snapshot["events"]]
        self.memory = copy.deepcopy(snapshot["memory"])


_PLAIN = ("cursor", "focus", "pressed", "instruction", "clipboard", "answer", "view", "noted")
