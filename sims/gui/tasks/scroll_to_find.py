"""Scroll to find: look for the named line of a list that is longer than its window, and click it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sims.gui import hands, layout
from sims.gui.containers import ScrollArea
from sims.gui.menus import Row
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.widget import Widget
from sims.gui.words import one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture, Interaction

WORDS = ("find {} in the list and click it", "click {}", "scroll to {} and click it", "choose {} from the list")


@dataclass(frozen=True)
class ScrollToFind(Task):
    """Click the named line of a list; at first it cannot be seen."""

    lines: int = within(14, 6, 40)
    """Lines of the list."""
    seen: int = within(4, 3, 5)
    """Lines that can be seen at once."""
    horizon: int = within(9, 1, 10_000)
    """Steps until truncation."""

    interaction = Interaction(("click", "drag", "scroll_up", "scroll_down", "type", "key"))

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """A window with the list."""
        style, texts = screen.style, pick(rng, self.lines)
        pitch, bar = style.row - style.px(1), style.px(6)
        wide, high = int(rng.integers(style.px(60), style.px(80))), pitch * self.seen + 2
        area = ScrollArea("list", (0, 0, wide, high), [], pitch * self.lines, 0, 2 * pitch, bar)
        layout.window(screen, rng, shown(pick(rng, 1)[0]), [[area]])
        left, top, _, _ = area.box
        rows: list[Widget] = [
            Row(f"line_{text}", (left + 1, top + 1 + i * pitch, wide - bar - 2, pitch), shown(text))
            for i, text in enumerate(texts)
        ]
        area.children = rows
        target = texts[int(rng.integers(self.seen + 1, self.lines))]
        return Goal(one_of(rng, WORDS).format(target), {"target": target}, words=(target,))

    def success(self, screen: Screen, goal: Goal) -> bool:
        """It has just been clicked."""
        return screen.happened(f"line_{goal.facts['target']}", "press")

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Scroll towards it, then click."""
        target = f"line_{goal.facts['target']}"
        return hands.reveal(screen, "list", target) or hands.click(screen, target)
