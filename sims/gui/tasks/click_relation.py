"""Click relation: press the button that stands beside another in the named direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sims.gui import hands, layout
from sims.gui.controls import Button
from sims.gui.screen import Screen
from sims.gui.task import POINTING, Goal, Task
from sims.gui.words import one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture, Interaction

SIDES = {
    (0, -1): ("left of", "to the left of"),
    (0, 1): ("right of", "to the right of"),
    (-1, 0): ("above", "over"),
    (1, 0): ("below", "under"),
}
"""The step from a cell of the grid to its neighbour, and what it is called."""
WORDS = ("click the button {} {}", "press the button {} {}", "click what is {} {}", "tap the one {} {}")


@dataclass(frozen=True)
class ClickRelation(Task):
    """Click the button next to the one that is named, on the side that is named. Buttons stand in rows and columns."""

    rows: int = within(3, 1, 4)
    columns: int = within(2, 1, 3)
    horizon: int = within(2, 1, 10_000)
    """Steps until truncation."""

    interaction: ClassVar[Interaction] = POINTING
    splits: ClassVar[tuple[str, ...]] = ("any", "train", "words", "combination")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows * self.columns < 2:
            raise ValueError(f"rows and columns: at least two buttons; got {self.rows} x {self.columns}")

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """A grid of buttons; one is named by its colour or by its word, its neighbour is meant."""
        cells = [(row, column) for row in range(self.rows) for column in range(self.columns)]
        texts = pick(rng, len(cells))
        style = screen.style
        wide = min(max(style.width(shown(text)) for text in texts) + style.px(6), style.px(42))
        coloured = layout.shades(rng, len(cells), style.theme.window)
        buttons = []
        for (row, column), text, shade in zip(cells, texts, coloured, strict=True):
            button = Button(f"{row},{column}", (0, 0, wide, style.row + style.px(2)), shown(text))
            buttons.append(layout.faced(button, *shade) if rng.random() < 0.6 else button)
        lines = [buttons[row * self.columns : (row + 1) * self.columns] for row in range(self.rows)]
        layout.window(screen, rng, shown(pick(rng, 1)[0]), lines)
        return self._goal(rng, buttons, texts)

    def _goal(self, rng: np.random.Generator, buttons: list[Button], texts: list[str]) -> Goal:
        names = [button.name for button in buttons]
        while True:
            anchor = int(rng.integers(len(buttons)))
            side = list(SIDES)[int(rng.integers(len(SIDES)))]
            row, column = (int(number) for number in names[anchor].split(","))
            target = f"{row + side[0]},{column + side[1]}"
            if target in names:
                break
        said, colour = one_of(rng, SIDES[side]), buttons[anchor].colour
        by_colour = bool(colour) and rng.random() < 0.6
        words = one_of(rng, WORDS).format(said, f"the {colour} one" if by_colour else texts[anchor])
        facts = {"target": target}
        return Goal(words, facts, pairs=((colour, "button"),)) if by_colour else Goal(words, facts, (texts[anchor],))

    def success(self, screen: Screen, goal: Goal) -> bool:
        """It has just been pressed."""
        return screen.happened(goal.facts["target"], "press")

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Click it."""
        return hands.click(screen, goal.facts["target"])
