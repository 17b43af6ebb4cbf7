"""Dialog: a window wants an answer first; send it away, then press the named button."""

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

MESSAGES = (
    "Update found",
    "Low battery",
    "Rate this app?",
    "Use cookies?",
    "Disk is full",
    "Get the news?",
    "Sign in?",
)
ANSWERS = (("OK",), ("Close",), ("Later", "Yes"), ("No", "Yes"), ("Skip",), ("Dismiss",), ("Got it",))
WORDS = ("press {}", "click {}", "click the {} button", "press the button {}")


@dataclass(frozen=True)
class Dialog(Task):
    """Press the named button, which cannot be pressed before the dialog above it is gone; any answer will do."""

    buttons: int = within(3, 2, 5)
    """Buttons below the dialog."""
    horizon: int = within(5, 1, 10_000)
    """Steps until truncation."""

    interaction = Interaction(keys=("Enter", "Tab", "Escape"))

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """Scattered buttons, and a dialog over them."""
        texts = pick(rng, self.buttons)
        area, _ = layout.open_ground(screen, rng, shown(pick(rng, 1)[0]))
        style, buttons = screen.style, [layout.button(screen.style, text, shown(text)) for text in texts]
        places = layout.scatter(rng, [each.box[2:] for each in buttons], area, style.gap)
        for each, box in zip(buttons, places, strict=True):
            each.box = box
        layout.hold(screen, buttons)
        message = layout.label(style, "message", one_of(rng, MESSAGES))
        answers = ANSWERS[int(rng.integers(len(ANSWERS)))]
        row: list[Widget] = [layout.button(style, f"answer{i}", text) for i, text in enumerate(answers)]
        layout.window(screen, rng, "Notice", [[message], row], name="dialog", modal=True)
        return Goal(one_of(rng, WORDS).format(texts[0]), {"target": texts[0]}, words=(texts[0],))

    def advance(self, screen: Screen, goal: Goal) -> None:
        """An answer closes the dialog."""
        if any(name.startswith("answer") for name, _ in screen.events):
            screen.widgets = [widget for widget in screen.widgets if widget.name != "dialog"]
            screen.set_focus("")
            screen.change()

    def success(self, screen: Screen, goal: Goal) -> bool:
        """It has just been pressed."""
        return screen.happened(goal.facts["target"], "press")

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Answer, then click."""
        return hands.click(screen, "answer0" if screen.find("dialog") else goal.facts["target"])
