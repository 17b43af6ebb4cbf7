"""Drag slider: set the named slider to the named value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sims.gui import hands, layout
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.widget import Widget
from sims.gui.words import one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture, Interaction

SLIDERS = ("volume", "speed", "light", "bass", "zoom", "size", "heat", "depth", "tone", "gain")
WORDS = ("set {} to {}", "drag {} to {}", "move the {} slider to {}", "put {} at {}", "turn {} to {}")


@dataclass(frozen=True)
class DragSlider(Task):
    """Set the named slider to a value; a number beside it says where it stands."""

    sliders: int = within(2, 1, 2)
    """Sliders in the window."""
    horizon: int = within(6, 1, 10_000)
    """Steps until truncation."""

    interaction = Interaction(("click", "drag", "type", "key"), keys=("Tab", "ArrowLeft", "ArrowRight", "Enter"))
    splits = ("any", "train")

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """A window with the sliders, their names and values above each."""
        style, names = screen.style, pick(rng, self.sliders, SLIDERS)
        start = {name: 10 * int(rng.integers(11)) for name in names}
        rows: list[list[Widget]] = []
        for i in rng.permutation(self.sliders):
            knob = layout.slider(style, names[i], names[i], value=start[names[i]])
            wide = knob.box[2] - style.width("100") - style.gap - 2
            title = layout.label(style, f"{names[i]}_label", shown(names[i]), wide)
            number = layout.label(style, f"{names[i]}_value", str(knob.value), style.width("100") + 1, faint=True)
            rows += [[title, number], [knob]]
        layout.window(screen, rng, shown(pick(rng, 1)[0]), rows)
        values = [value for value in range(0, 101, 10) if value != start[names[0]]]
        value = values[int(rng.integers(len(values)))]
        return Goal(one_of(rng, WORDS).format(names[0], value), {"slider": names[0], "value": value})

    def advance(self, screen: Screen, goal: Goal) -> None:
        """The numbers follow the sliders."""
        for name, kind in screen.events:
            if kind == "change":
                screen.find(f"{name}_value").text = str(screen.find(name).value)

    def success(self, screen: Screen, goal: Goal) -> bool:
        """It stands there."""
        return screen.find(goal.facts["slider"]).value == goal.facts["value"]

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Pull its knob there."""
        return hands.pull(screen, goal.facts["slider"], goal.facts["value"]) or hands.WAIT
