"""Chain: press the named buttons in their order; a reward at the end only, and buttons that lead astray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sims.gui import chains, hands, layout
from sims.gui.chains import State
from sims.gui.screen import Screen
from sims.gui.task import POINTING, Goal, Task
from sims.gui.words import LABELS, one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture

WORDS = ("press {}", "click {}", "go through these steps: {}", "choose {}", "take these one by one: {}")
BETWEEN = (", ", ", then ", " and then ")
ASIDES = ("Help", "Info", "Tips", "Log", "Hint", "Faq")
"""Links that lead nowhere."""
LINE = 3
"""Of them side by side."""


@dataclass(frozen=True)
class Chain(Task):
    """At each step press the button that is named next. The reward is for a chain without a wrong button.

    A wrong button leads on just as the right one does, and nothing shows that the chain is spoilt; after its last
    step a spoilt chain begins anew. Links beside them do nothing; every other one costs.

    How much each act adds to the chance of success under the reference policy is known: see `sims.gui.chains`.
    """

    steps: int = within(4, 2, 12)
    """Steps of the chain."""
    choices: int = within(2, 2, 3)
    """Buttons of a step: one right, the others wrong."""
    asides: int = within(2, 0, 6)
    """Links beside them."""
    aside_cost: float = within(0.1, 0, 10)
    """What every other link costs."""
    reference: Literal["uniform", "slips"] = "slips"
    """Who acts after the act whose contribution is asked for: who presses any button or link, each as likely, or who
    presses another than the right one with probability `slip`."""
    slip: float = within(0.2, 0, 1)
    contributions: bool = False
    """Whether `info["contribution"]` says what the last act contributed."""
    horizon: int = within(16, 1, 10_000)
    """Steps until truncation."""

    interaction = POINTING

    @property
    def chain(self) -> chains.Chain:
        """As numbers."""
        return chains.Chain(
            self.steps, self.choices - 1, self.asides, None if self.reference == "uniform" else self.slip
        )

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """The buttons of all steps; no word comes twice."""
        among = tuple(word for word in LABELS if shown(word) not in ASIDES)
        words = iter(pick(rng, self.steps * self.choices, among))
        steps = [[next(words) for _ in range(self.choices)] for _ in range(self.steps)]
        right = [step[0] for step in steps]
        seeds = [int(seed) for seed in rng.integers(2**31, size=self.steps)]
        screen.memory = {"step": 0, "clean": True, "done": False, "paid": False, "contribution": 0.0}
        facts = {"steps": steps, "seeds": seeds, "title": shown(pick(rng, 1, among)[0])}
        goal = Goal(one_of(rng, WORDS).format(one_of(rng, BETWEEN).join(right)), facts, words=tuple(right))
        self._show(screen, goal)
        return goal

    def _show(self, screen: Screen, goal: Goal) -> None:
        """The window of the present step; it is the same whenever the chain comes by."""
        step, style = screen.memory["step"], screen.style
        rng = np.random.default_rng(goal.facts["seeds"][step])
        buttons = [layout.button(style, word, shown(word)) for word in goal.facts["steps"][step]]
        links = [layout.link(style, f"aside{i}", ASIDES[i]) for i in range(self.asides)]
        rows: layout.Rows = [
            *[[buttons[i]] for i in rng.permutation(self.choices)],
            *[links[i : i + LINE] for i in range(0, self.asides, LINE)],
        ]
        screen.widgets = []
        screen.set_focus("")
        layout.window(screen, rng, f"{goal.facts['title']} {step + 1}", rows)

    def state(self, screen: Screen) -> State:
        """As numbers."""
        return State(screen.memory["step"], screen.memory["clean"], max(0, self.horizon - len(screen.gestures)))

    def contributions_of(self, screen: Screen, goal: Goal) -> dict[str, float]:
        """For each button and link on the screen, and for `wait`, by how much it would change the chance of success."""
        now, step = self.state(screen), goal.facts["steps"][screen.memory["step"]]
        kinds = {word: "wrong" if i else "right" for i, word in enumerate(step)}
        kinds |= {name: "aside" for name in (*(f"aside{i}" for i in range(self.asides)), "wait")}
        return {name: chains.contribution(self.chain, now, act) for name, act in kinds.items()} if now.left else {}

    def advance(self, screen: Screen, goal: Goal) -> None:
        """Lead on where a button of the step was pressed."""
        memory, right, act = screen.memory, goal.facts["steps"][screen.memory["step"]][0], "aside"
        pressed = [event.name for event in screen.events if event.kind == "press"]
        memory["paid"] = any(name.startswith("aside") and int(name[5:]) % 2 == 1 for name in pressed)
        if pressed and pressed[0] in goal.facts["steps"][memory["step"]]:
            act = "right" if pressed[0] == right else "wrong"
        left = self.horizon - len(screen.gestures) + 1  # before the gesture
        before = State(memory["step"], memory["clean"], max(1, left))
        after = before.after(self.chain, act)
        memory["contribution"] = chains.contribution(self.chain, before, act)
        memory["done"] = after.done
        memory["step"], memory["clean"] = after.step, after.clean
        if act != "aside":
            self._show(screen, goal)

    def report(self, screen: Screen, goal: Goal) -> dict[str, Any]:
        """What the last act contributed, if that is asked for."""
        return {"contribution": screen.memory["contribution"]} if self.contributions else {}

    def success(self, screen: Screen, goal: Goal) -> bool:
        """The last button of a chain without a wrong one has just been pressed."""
        return bool(screen.memory["done"])

    def cost(self, screen: Screen, goal: Goal) -> float:
        """For a link that costs."""
        return self.aside_cost * screen.memory["paid"]

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Press the next one; a spoilt chain is gone through to its end."""
        return hands.click(screen, goal.facts["steps"][screen.memory["step"]][0])
