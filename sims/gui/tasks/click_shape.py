"""Click shape: click the drawn shape that the instruction names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sims.gui import hands, layout
from sims.gui.controls import Shape
from sims.gui.screen import Screen
from sims.gui.task import POINTING, Goal, Task
from sims.gui.words import one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture, Interaction
from sims.vocabulary import colour_words, shape_words

SHAPES = ("circle", "square", "triangle", "diamond", "bar")
WORDS = ("click the {} {}", "click on the {} {}", "tap the {} {}", "select the {} {}", "choose the {} {}")


@dataclass(frozen=True)
class ClickShape(Task):
    """Click the shape of the named colour and form; others share its colour or its form."""

    shapes: int = within(5, 2, 7)
    """Shapes on the screen."""
    horizon: int = within(2, 1, 10_000)
    """Steps until truncation."""

    interaction: ClassVar[Interaction] = POINTING
    splits: ClassVar[tuple[str, ...]] = ("any", "train", "combination")

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """Scatter shapes of a few colours and forms, no two the same."""
        area, ground = layout.open_ground(screen, rng, shown(pick(rng, 1)[0]))
        colours = layout.shades(rng, 3, ground)
        pairs = [(i, shape) for i in range(len(colours)) for shape in SHAPES]
        chosen = [pairs[i] for i in rng.choice(len(pairs), self.shapes, replace=False)]
        sizes = [self._size(screen, shape, rng) for _, shape in chosen]
        things = [
            Shape(f"shape{i}", box, shape, colours[shade][1], colours[shade][0])
            for i, ((shade, shape), box) in enumerate(
                zip(chosen, layout.scatter(rng, sizes, area, screen.style.gap), strict=True)
            )
        ]
        layout.hold(screen, things)
        colour, shape = things[0].colour, things[0].shape
        words = one_of(rng, WORDS).format(one_of(rng, colour_words(colour)), one_of(rng, shape_words(shape)))
        return Goal(words, {"target": "shape0"}, pairs=((colour, shape),))

    def _size(self, screen: Screen, shape: str, rng: np.random.Generator) -> tuple[int, int]:
        px = screen.style.px
        side = int(rng.integers(px(12), px(19) + 1))
        return (px(26), px(6)) if shape == "bar" else (side, side)

    def success(self, screen: Screen, goal: Goal) -> bool:
        """It has just been clicked."""
        return screen.happened(goal.facts["target"], "press")

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Click it."""
        return hands.click(screen, goal.facts["target"])
