"""Click label: press the button on which the named word is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sims.gui import hands, layout
from sims.gui.screen import Screen
from sims.gui.task import POINTING, Goal, Task
from sims.gui.words import one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture, Interaction

WORDS = ("press {}", "click {}", "click the {} button", "press the button {}", "click on '{}'", "tap {}")


@dataclass(frozen=True)
class ClickLabel(Task):
    """Click the button with the named word on it."""

    buttons: int = within(4, 2, 6)
    """Buttons on the screen."""
    horizon: int = within(2, 1, 10_000)
    """Steps until truncation."""

    interaction: ClassVar[Interaction] = POINTING

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """Scatter buttons, most of them in the theme's colour."""
        texts = pick(rng, self.buttons)
        area, ground = layout.open_ground(screen, rng, shown(pick(rng, 1)[0]))
        style, buttons = screen.style, [layout.button(screen.style, text, shown(text)) for text in texts]
        if rng.random() < 0.4:
            colours = layout.shades(rng, self.buttons, ground)
            buttons = [layout.faced(each, *shade) for each, shade in zip(buttons, colours, strict=True)]
        places = layout.scatter(rng, [each.box[2:] for each in buttons], area, style.gap)
        for each, box in zip(buttons, places, strict=True):
            each.box = box
        layout.hold(screen, buttons)
        return Goal(one_of(rng, WORDS).format(texts[0]), {"target": texts[0]}, words=(texts[0],))

    def success(self, screen: Screen, goal: Goal) -> bool:
        """It has just been pressed."""
        return screen.happened(goal.facts["target"], "press")

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Click it."""
        return hands.click(screen, goal.facts["target"])
