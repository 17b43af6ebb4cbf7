"""Type and submit: write the named word into a field, and press the named button."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sims.gui import hands, layout
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.words import ENTRIES, one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture

BUTTONS = ("ok", "send", "save", "search", "submit", "next", "add", "login", "apply", "confirm", "join", "share")
WORDS = (
    "type {} into the field and press {}",
    "write {} and press {}",
    "enter {} into the box, then click {}",
    "put {} into the field and click {}",
    "fill in {}, then press {}",
)


@dataclass(frozen=True)
class TypeAndSubmit(Task):
    """Type the named text into the field and press the named button. Another button empties the field."""

    entries: int = within(1, 1, 2)
    """Words to type, 1 or 2."""
    buttons: int = within(2, 1, 2)
    """Buttons below the field."""
    horizon: int = within(8, 1, 10_000)
    """Steps until truncation."""

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """A window with a field and the buttons, in any order."""
        entry = " ".join(pick(rng, self.entries, ENTRIES))
        labels = [BUTTONS[i] for i in rng.choice(len(BUTTONS), self.buttons, replace=False)]
        style = screen.style
        wide = int(rng.integers(52, 72))
        buttons = [layout.button(style, name, shown(text)) for name, text in zip(("ok", "no"), labels, strict=False)]
        buttons[0].default = True
        rows = [
            [layout.text_field(style, "field", "field", wide)],
            [buttons[i] for i in rng.permutation(len(buttons))],
        ]
        if rng.random() < 0.5:
            rows.insert(0, [layout.label(style, "label", shown(pick(rng, 1)[0]), faint=True)])
        layout.window(screen, rng, shown(pick(rng, 1)[0]), rows)
        words = one_of(rng, WORDS).format(entry, labels[0])
        return Goal(words, {"entry": entry}, words=(*entry.split(), labels[0]))

    def advance(self, screen: Screen, goal: Goal) -> None:
        """The other button empties the field."""
        if screen.happened("no", "press"):
            field = screen.find("field")
            field.value, field.caret, field.selected = "", 0, False

    def success(self, screen: Screen, goal: Goal) -> bool:
        """It has just been submitted with the right text."""
        return screen.happened("ok", "press") and screen.find("field").value == goal.facts["entry"]

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Click into the field, type, press."""
        return hands.fill(screen, "field", goal.facts["entry"]) or hands.click(screen, "ok")
