"""Calculator: work a sum out by pressing keys."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from sims.gui import hands, layout
from sims.gui.controls import Button, Field
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.widget import Widget
from sims.gui.words import one_of
from sims.ranges import within
from sims.screen.interaction import Gesture

KEYS = ("789-", "456+", "123=", "C0")
"""The keys, row by row."""
LONGEST = 9
"""Characters that the display holds."""
WORDS = ("compute {}", "work out {}", "what is {}?", "calculate {}", "find {} with the calculator")
SIGNS = {"+": ("plus", "+"), "-": ("minus", "-")}


@dataclass(frozen=True)
class Calculator(Task):
    """Type the sum on the keys and press =; C clears the display."""

    largest: int = within(20, 1, 99)
    """No number is larger."""
    horizon: int = within(14, 1, 10_000)
    """Steps until truncation."""

    splits = ("any",)

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """A window with a display and the keys."""
        style = screen.style
        side = style.px(16) + int(rng.integers(style.px(4)))
        rows: list[list[Widget]] = [[Field("display", (0, 0, 4 * side + 3 * style.gap, style.row), "display")]]
        rows += [[Button(key, (0, 0, side, style.row - style.px(1)), key) for key in line] for line in KEYS]
        layout.window(screen, rng, one_of(rng, ("Sums", "Calc", "Numbers")), rows)
        a, b = (int(number) for number in rng.integers(0, self.largest + 1, 2))
        sign = one_of(rng, tuple(SIGNS))
        if sign == "-":
            a, b = max(a, b), min(a, b)
        words = one_of(rng, WORDS).format(f"{a} {one_of(rng, SIGNS[sign])} {b}")
        return Goal(words, {"keys": f"{a}{sign}{b}", "result": str(a + b if sign == "+" else a - b)})

    def advance(self, screen: Screen, goal: Goal) -> None:
        """A key writes its character, = works out what is written, C clears it; nobody writes into the display."""
        screen.memory["worked_out"] = False
        for name, kind in screen.events:
            if kind == "press":
                self._press(screen, name)
        self._show(screen)

    def _press(self, screen: Screen, key: str) -> None:
        written = screen.memory.get("written", "")
        if key == "=":
            worked = re.fullmatch(r"(\d+)([+-])(\d+)", written)
            screen.memory["worked_out"] = bool(worked)
            if worked:
                a, b = int(worked[1]), int(worked[3])
                written = str(a + b if worked[2] == "+" else a - b)
        else:
            written = "" if key == "C" else (written + key)[:LONGEST]
        screen.memory["written"] = written

    def _show(self, screen: Screen) -> None:
        display = screen.find("display")
        display.value = screen.memory.get("written", "")
        display.caret, display.selected = len(display.value), False
        screen.change()

    def success(self, screen: Screen, goal: Goal) -> bool:
        """= has just worked out the right number."""
        return screen.memory.get("worked_out", False) and screen.memory["written"] == goal.facts["result"]

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """The next key; C where the display shows something else than the sum's beginning."""
        written, keys = screen.memory.get("written", ""), goal.facts["keys"]
        if not keys.startswith(written):
            return hands.click(screen, "C")
        return hands.click(screen, (keys + "=")[len(written)])
