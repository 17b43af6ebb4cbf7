"""Widgets that hold a choice: checkboxes, radio buttons, sliders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image, ImageDraw

from sims.gui.paint import Size, Style, bevel, mix, panel, plain, stamp, write_in
from sims.gui.themes import Colour
from sims.gui.widget import Surface, Widget


@dataclass(eq=False)
class Checkbox(Widget):
    """Ticked and unticked by a click."""

    text: str = ""
    ticked: bool = False

    focusable: ClassVar[bool] = True
    by_enter: ClassVar[bool] = True

    def entered(self) -> str:
        """See `Widget`."""
        return self.text if self.ticked else ""

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.text, self.ticked, focused

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        text, ticked, focused = look
        theme, image = style.theme, plain(size, ground)
        side = knob_side(style)
        box = (0, (size[1] - side) // 2, side, side)
        if theme.raised:
            bevel(image, box, theme.field, sunken=True)
        else:
            marked = ticked or focused
            panel(
                image,
                box,
                theme.accent if ticked else theme.field,
                theme.accent if marked else theme.edge,
                min(2, theme.radius),
            )
        if ticked:
            inset = style.px(2)
            inner = (box[0] + inset, box[1] + inset, side - 2 * inset, side - 2 * inset)
            stamp(image, "tick", inner, theme.ink if theme.raised else theme.accent_ink)
        _caption(image, style, ground, text, side, focused)
        return image

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        self.ticked = not self.ticked
        screen.emit(self.name, "toggle")


@dataclass(eq=False)
class Radio(Widget):
    """One of a group, of which a click chooses one."""

    text: str = ""
    group: str = ""
    chosen: bool = False

    focusable: ClassVar[bool] = True

    def entered(self) -> str:
        """See `Widget`."""
        return self.text if self.chosen else ""

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        return self.text, self.chosen, focused

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        text, chosen, focused = look
        theme, image = style.theme, plain(size, ground)
        side, inset = knob_side(style), style.px(2.4)
        top = (size[1] - side) // 2
        stamp(image, "circle", (0, top, side, side), theme.accent if chosen or focused else theme.edge)
        stamp(image, "circle", (1, top + 1, side - 2, side - 2), theme.field)
        if chosen:
            inner = side - 2 * inset
            stamp(image, "circle", (inset, top + inset, inner, inner), theme.accent)
        _caption(image, style, ground, text, side, focused)
        return image

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        for other in screen.all(Radio):
            if other.group == self.group:
                other.chosen = other is self
        screen.emit(self.name, "choose")

    def key(self, screen: Surface, key: str) -> bool:
        """See `Widget`."""
        if key not in ("Enter", "ArrowDown", "ArrowUp"):
            return False
        group = [other for other in screen.all(Radio) if other.group == self.group]
        turn = {"Enter": 0, "ArrowDown": 1, "ArrowUp": -1}[key]
        target = group[(group.index(self) + turn) % len(group)]
        target.click(screen, 0, 0)
        screen.set_focus(target.name)
        return True


@dataclass(eq=False)
class Slider(Widget):
    """A value from `low` to `high` in steps, set by a click or a pull along it, or by arrow keys."""

    text: str = ""
    low: int = 0
    high: int = 100
    step: int = 10
    value: int = 0

    focusable: ClassVar[bool] = True

    def written(self, style: Style) -> tuple[str, ...]:
        """See `Widget`; what a person calls it stands beside it."""
        return ()

    def look(self, style: Style, focused: bool) -> tuple[Any, ...]:
        """See `Widget`."""
        steps = (self.high - self.low) // self.step
        return (self.value - self.low) / (self.high - self.low), steps, focused

    @staticmethod
    def paint(style: Style, ground: Colour, size: Size, *look: Any) -> Image.Image:
        """See `Widget`."""
        share, steps, focused = look
        theme, image = style.theme, plain(size, ground)
        side = knob_side(style)
        groove, room = style.px(2), size[0] - side
        middle = size[1] // 2
        level, knob = middle - groove // 2, round(share * room)
        for i in range(steps + 1):  # the scale
            x = side // 2 + round(i / steps * room)
            image.paste(mix(ground, theme.ink, 0.35), (x, middle + side // 2, x + 1, middle + side // 2 + style.px(2)))
        panel(image, (side // 2, level, room, groove), mix(ground, theme.ink, 0.3))
        panel(image, (side // 2, level, knob, groove), theme.accent)
        box = (knob, middle - side // 2, side, side)
        if theme.raised:
            bevel(image, box, theme.face)
        else:
            stamp(image, "circle", box, theme.ink if focused else theme.accent)
            if not focused:
                stamp(image, "circle", (box[0] + 1, box[1] + 1, side - 2, side - 2), theme.accent)
        return image

    def place_of(self, style: Style, value: float) -> tuple[float, float]:
        """Where the knob stands at a value, from the top left corner."""
        side = knob_side(style)
        return side / 2 + (value - self.low) / (self.high - self.low) * (self.box[2] - side), self.box[3] / 2

    def click(self, screen: Surface, x: float, y: float) -> None:
        """See `Widget`."""
        side = knob_side(screen.style)
        share = (x - side / 2) / (self.box[2] - side)
        self._set(screen, self.low + share * (self.high - self.low))

    def drag(self, screen: Surface, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """See `Widget`."""
        self.click(screen, *end)
        return True

    def key(self, screen: Surface, key: str) -> bool:
        """See `Widget`."""
        turn = {"ArrowLeft": -1, "ArrowDown": -1, "ArrowRight": 1, "ArrowUp": 1}.get(key)
        if turn is not None:
            self._set(screen, self.value + turn * self.step)
        return turn is not None

    def _set(self, screen: Surface, value: float) -> None:
        steps = round((min(max(value, self.low), self.high) - self.low) / self.step)
        self.value = self.low + steps * self.step
        screen.emit(self.name, "change")


def knob_side(style: Style) -> int:
    """Width and height of what is ticked, chosen or pulled."""
    return style.px(9)


def _caption(image: Image.Image, style: Style, ground: Colour, text: str, side: int, focused: bool) -> None:
    """The text beside a checkbox or a radio button."""
    left = side + style.px(3)
    write_in(image, style, text, (left, 0, image.width - left, image.height), style.theme.ink)
    if focused and text:
        ends = (left - 2, 0, min(image.width, left + style.width(text) + 2) - 1, image.height - 1)
        ImageDraw.Draw(image).rectangle(ends, outline=mix(ground, style.theme.ink, 0.35))
