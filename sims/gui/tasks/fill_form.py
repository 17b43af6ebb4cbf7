"""Fill form: write into two or three named fields, choose one of two options, and submit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sims.gui import hands, layout
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.widget import Widget
from sims.gui.words import ENTRIES, one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture, Interaction

FIELDS = ("name", "city", "mail", "team", "pet", "code", "user", "tag")
OPTIONS = (("red", "blue"), ("tea", "milk"), ("day", "night"), ("old", "new"), ("car", "bus"), ("yes", "no"))
BUTTONS = ("send", "ok", "save", "submit")
WORDS = (
    ("set {} to {}", ", ", ", choose {} and press {}"),
    ("{} is {}", " and ", ", pick {}, then press {}"),
    ("enter {} {}", ", ", ", select {} and click {}"),
)
"""How a field is spoken of, what is said between two, and how it ends."""


@dataclass(frozen=True)
class FillForm(Task):
    """Fill the named fields in, choose the named option and press the button: six turns, eight with three fields."""

    fields: int = within(2, 1, 3)
    """Fields to fill in."""
    horizon: int = within(18, 1, 10_000)
    """Steps until truncation."""

    interaction = Interaction(words=32)

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """A window with the fields, the options and the button; fields and options in any order."""
        names, entries = pick(rng, self.fields, FIELDS), pick(rng, self.fields, ENTRIES)
        options = OPTIONS[int(rng.integers(len(OPTIONS)))]
        choice, submit = options[int(rng.integers(2))], one_of(rng, BUTTONS)
        style, order = screen.style, rng.permutation(self.fields)
        fields = [layout.text_field(style, names[i], names[i], int(rng.integers(40, 52))) for i in order]
        turned = options if rng.random() < 0.5 else options[::-1]
        radios: list[Widget] = [layout.radio(style, f"option_{each}", shown(each), "options") for each in turned]
        button = layout.button(style, "submit", shown(submit), default=True)
        rows = [*layout.labelled(style, fields), radios]
        if rng.random() < 0.4:
            rows = [radios, *rows[:-1]]
        layout.window(screen, rng, shown(pick(rng, 1)[0]), [*rows, [button]])
        each, between, end = WORDS[int(rng.integers(len(WORDS)))]
        pairs = [each.format(name, entry) for name, entry in zip(names, entries, strict=True)]
        facts = {"fields": dict(zip(names, entries, strict=True)), "choice": f"option_{choice}"}
        return Goal(between.join(pairs) + end.format(choice, submit), facts, words=(*entries, submit))

    def success(self, screen: Screen, goal: Goal) -> bool:
        """It has just been submitted, and everything in it is right."""
        if not screen.happened("submit", "press"):
            return False
        right = all(screen.find(name).value == entry for name, entry in goal.facts["fields"].items())
        return right and screen.find(goal.facts["choice"]).chosen

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Field by field, then the option, then the button."""
        for name, entry in goal.facts["fields"].items():
            gesture = hands.fill(screen, name, entry)
            if gesture:
                return gesture
        if not screen.find(goal.facts["choice"]).chosen:
            return hands.click(screen, goal.facts["choice"])
        return hands.click(screen, "submit")
