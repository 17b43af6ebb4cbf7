"""Click colour: press the button whose colour the instruction names."""

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
from sims.vocabulary import colour_words

WORDS = ("click the {} button", "press the {} button", "click on the {} one", "tap the {} button", "push the {} button")


@dataclass(frozen=True)
class ClickColour(Task):
    """Click the button of the named colour."""

    buttons: int = within(4, 2, 6)
    """Buttons on the screen, each of another colour."""
    labels: bool = True
    """Whether something is written on some of them."""
    horizon: int = within(2, 1, 10_000)
    """Steps until truncation."""

    interaction: ClassVar[Interaction] = POINTING
    splits: ClassVar[tuple[str, ...]] = ("any", "train", "combination")

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """Scatter buttons."""
        area, ground = layout.open_ground(screen, rng, shown(pick(rng, 1)[0]))
        style, texts = screen.style, pick(rng, self.buttons)
        buttons = []
        for i, (colour, shade) in enumerate(layout.shades(rng, self.buttons, ground)):
            text = shown(texts[i]) if self.labels and rng.random() < 0.5 else ""
            plain = layout.button(style, f"button{i}", text, least=22)
            buttons.append(layout.faced(plain, colour, shade))
        places = layout.scatter(rng, [each.box[2:] for each in buttons], area, style.gap)
        for each, box in zip(buttons, places, strict=True):
            each.box = box
        layout.hold(screen, buttons)
        colour = buttons[0].colour
        words = one_of(rng, WORDS).format(one_of(rng, colour_words(colour)))
        return Goal(words, {"target": "button0"}, pairs=((colour, "button"),))

    def success(self, screen: Screen, goal: Goal) -> bool:
        """It has just been pressed."""
        return screen.happened(goal.facts["target"], "press")

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Click it."""
        return hands.click(screen, goal.facts["target"])
