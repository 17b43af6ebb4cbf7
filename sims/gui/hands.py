"""How the scripted experts use what is on a screen: what would be done next, from the present state only."""

from __future__ import annotations

from sims.gui.choices import Slider
from sims.gui.containers import ScrollArea
from sims.gui.controls import Field
from sims.gui.screen import Screen
from sims.screen.interaction import Gesture

WAIT = Gesture("wait")


def click(screen: Screen, name: str) -> Gesture:
    """Click the middle of a widget."""
    return Gesture("click", at=screen.where(name).middle)


def fill(screen: Screen, name: str, text: str) -> Gesture | None:
    """Put a text into a field; None where it is there."""
    field = screen.find(name)
    assert isinstance(field, Field), name
    if field.value == text:
        return None
    if screen.focus == name and (field.selected or not field.value):
        return Gesture("type", text=text)
    return click(screen, name)


def pull(screen: Screen, name: str, value: int) -> Gesture | None:
    """Pull a slider's knob to a value; None where it is there."""
    placed = screen.where(name)
    knob = placed.widget
    assert isinstance(knob, Slider), name
    if knob.value == value:
        return None
    start, end = (knob.place_of(screen.style, each) for each in (knob.value, value))
    return Gesture("drag", at=(placed.x + start[0], placed.y + start[1]), to=(placed.x + end[0], placed.y + end[1]))


def reveal(screen: Screen, area: str, name: str) -> Gesture | None:
    """Scroll until the middle of a widget of a scroll area can be clicked; None where it can."""
    if screen.shown(name):
        return None
    placed, part = screen.where(area), screen.where(name)
    assert isinstance(placed.widget, ScrollArea), area
    return Gesture("scroll_down" if part.middle[1] > placed.middle[1] else "scroll_up", at=placed.middle)
