"""Tick boxes: tick the named boxes and no other, and press ok."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sims.gui import hands, layout
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.widget import Widget
from sims.gui.words import LABELS, listed, one_of, pick, shown
from sims.ranges import check_range, within
from sims.screen.interaction import Gesture

WORDS = ("tick {} and press ok", "check {}, then press ok", "select {} and click ok", "mark {}, then click ok")


@dataclass(frozen=True)
class TickBoxes(Task):
    """Tick the boxes that are named, and only those, and press ok."""

    boxes: int = within(4, 2, 8)
    """Boxes in the window, in two columns."""
    ticks: int = 2
    """Boxes to tick."""
    horizon: int = within(10, 1, 10_000)
    """Steps until truncation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("ticks", self.ticks, 1, self.boxes)

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """A window with the boxes in any order."""
        texts = names(rng, self.boxes)
        put_boxes(screen, rng, texts)
        words = one_of(rng, WORDS).format(listed(texts[: self.ticks]))
        return Goal(words, {"wanted": texts[: self.ticks], "boxes": texts}, words=tuple(texts[: self.ticks]))

    def success(self, screen: Screen, goal: Goal) -> bool:
        """Ok has just been pressed, and the right boxes are ticked."""
        return screen.happened("ok", "press") and ticked(screen, goal) == set(goal.facts["wanted"])

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Set one box right after the other, then press ok."""
        return hands.click(screen, following(screen, goal, goal.facts["wanted"]))


def names(rng: np.random.Generator, count: int) -> list[str]:
    """What is written beside the boxes; not what is written on the button."""
    return pick(rng, count, tuple(word for word in LABELS if word != "ok"))


def put_boxes(screen: Screen, rng: np.random.Generator, texts: list[str]) -> None:
    """A window with these boxes, in any order, and a button below: in two columns where they fit, else in one."""
    style = screen.style
    boxes: list[Widget] = [
        layout.checkbox(style, f"box_{texts[i]}", shown(texts[i])) for i in rng.permutation(len(texts))
    ]
    half = (len(boxes) + 1) // 2
    wide = max(box.box[2] for box in boxes)
    if 2 * wide + style.px(14) <= screen.size[0] and len(boxes) > 3:
        for box in boxes:
            box.box = (0, 0, wide, box.box[3])
        rows = [boxes[i : i + 2] for i in range(0, 2 * half, 2)]
    else:
        rows = [[box] for box in boxes]
    layout.window(screen, rng, shown(pick(rng, 1)[0]), [*rows, [layout.button(style, "ok", "OK", default=True)]])


def ticked(screen: Screen, goal: Goal) -> set[str]:
    """The names of the boxes that are ticked."""
    return {name for name in goal.facts["boxes"] if screen.find(f"box_{name}").ticked}


def following(screen: Screen, goal: Goal, wanted: list[str]) -> str:
    """What to click next for these boxes to be ticked, and then the button: a widget's name."""
    wrong = ticked(screen, goal) ^ set(wanted)
    return next((f"box_{name}" for name in goal.facts["boxes"] if name in wrong), "ok")
