"""Chain: press the named buttons in their order; a reward at the end only, and every other button looks as good."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sims.gui import chains, hands, layout
from sims.gui.chains import State
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.tools import TABLE, Lookup, Tool
from sims.gui.words import ENTRIES, LABELS, listed, one_of, pick, shown
from sims.ranges import check_range, within
from sims.screen.interaction import Gesture, Interaction

WORDS = ("press {}", "click {}", "go through these steps: {}", "choose {}", "take these one by one: {}")
BETWEEN = (", ", ", then ")
LINE = 3
"""Links side by side."""


@dataclass(frozen=True)
class Chain(Task):
    """At each step press the button that is named next. The reward is for a chain without a wrong button.

    The wrong buttons of a step are named for other steps, and no window tells which step it is: who does not remember
    what was done has to guess. At `codes` steps the instruction names a code, and `lookup` tells what it stands for, so
    that a call decides a later step. A wrong button leads on as the right one does, nothing shows that the chain is
    spoilt, and nothing makes it good. Links beside the buttons, which the instruction says to leave, do nothing; every
    other one costs.

    How much each act adds to the chance of success under the reference policy is known: see `sims.gui.chains`.
    """

    steps: int = within(4, 2, 12)
    """Steps of the chain."""
    choices: int = within(3, 2, 3)
    """Buttons of a step, as far as there are words: one right, the others wrong."""
    codes: int = within(1, 0, 3)
    """Steps that are named by a code; at most two less than `steps`."""
    trail: bool = False
    """Whether the window's title says which button was pressed last: credit without memory."""
    asides: int = within(2, 0, 6)
    """Links beside the buttons."""
    aside_cost: float = within(0.1, 0, 10)
    """What every other link costs."""
    lookup: float = within(0.02, 0, 10)
    """What a call costs."""
    reference: Literal["uniform", "slips"] = "slips"
    """Who acts after the act whose contribution is asked for: who does anything, each as likely, or who does another
    thing than the right one with probability `slip`."""
    slip: float = within(0.2, 0, 1)
    contributions: bool = False
    """Whether `info["contribution"]` says what the last act contributed."""
    horizon: int = within(16, 1, 10_000)
    """Steps until truncation."""

    interaction = Interaction(("click", "scroll_up", "scroll_down", "type", "key"), words=40)
    needs_memory = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("codes", self.codes, 0, self.steps - 2)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The table, where there are codes."""
        return (Lookup(self.lookup),) if self.codes else ()

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """The steps, and the buttons of each. A step with a code wants a word that is named for another step."""
        plain = self.steps - self.codes
        words = pick(rng, plain)
        coded = sorted(int(step) for step in rng.choice(self.steps, self.codes, replace=False))
        fresh = iter(words)
        right = ["" if step in coded else next(fresh) for step in range(self.steps)]
        for step in coded:
            right[step] = one_of(rng, tuple(words))
        wrong = [pick(rng, min(self.choices, plain) - 1, tuple({*words} - {word})) for word in right]
        asides = self._asides(screen, rng, words)
        codes = pick(rng, self.codes, ENTRIES)
        facts: dict[str, Any] = {
            "steps": [[word, *others] for word, others in zip(right, wrong, strict=True)],
            "codes": codes,
            "coded": coded,
            "asides": asides,
            "title": shown(one_of(rng, tuple(word for word in LABELS if word not in words))),
            "seeds": [int(seed) for seed in rng.integers(2**31, size=self.steps + 1)],
        }
        screen.memory = {"step": 0, "clean": True, "known": 0, "last": "", "paid": False, "contribution": 0.0}
        screen.memory[TABLE] = {code: right[step] for code, step in zip(codes, coded, strict=True)}
        said = [codes[coded.index(step)] if step in coded else right[step] for step in range(self.steps)]
        goal = Goal(_sentence(rng, said, codes, asides), facts, words=(*said, *asides))
        self._show(screen, goal)
        return goal

    def _asides(self, screen: Screen, rng: np.random.Generator, words: list[str]) -> list[str]:
        """What is written on the links: words so short that they fit side by side."""
        room = (screen.size[0] - screen.style.px(8)) // LINE - screen.style.gap
        fits = tuple(word for word in LABELS if word not in words and screen.style.width(shown(word)) < room)
        return pick(rng, self.asides, fits)

    def _show(self, screen: Screen, goal: Goal) -> None:
        """The window of the present step; behind the last one there are links alone."""
        step, style, facts = screen.memory["step"], screen.style, goal.facts
        rng = np.random.default_rng(facts["seeds"][step])
        words = facts["steps"][step] if step < self.steps else []
        links = [layout.link(style, f"aside{i}", shown(word)) for i, word in enumerate(facts["asides"])]
        rows: layout.Rows = [
            *[[layout.button(style, words[i], shown(words[i]))] for i in rng.permutation(len(words))],
            *([] if words else [[layout.label(style, "over", "Over")]]),
            *[links[i : i + LINE] for i in range(0, self.asides, LINE)],
        ]
        screen.widgets = []
        screen.set_focus("")
        layout.window(screen, rng, shown(screen.memory["last"]) or facts["title"], rows)

    def chain(self, goal: Goal) -> chains.Chain:
        """An episode's, as numbers."""
        slip = None if self.reference == "uniform" else self.slip
        wrong = len(goal.facts["steps"][0]) - 1
        return chains.Chain(self.steps, wrong, self.asides, tuple(goal.facts["coded"]), slip)

    def state(self, screen: Screen) -> State:
        """The present one, as numbers."""
        memory = screen.memory
        return State(memory["step"], memory["clean"], max(0, self.horizon - len(screen.gestures)), memory["known"])

    def contributions_of(self, screen: Screen, goal: Goal) -> dict[str, float]:
        """By how much each act would change the chance of success: by a button's or link's name, `wait`, a code."""
        now, chain = self.state(screen), self.chain(goal)
        if not now.left:
            return {}
        words = goal.facts["steps"][now.step] if now.step < self.steps else []
        then = {word: now.after(chain, "wrong" if i else "right") for i, word in enumerate(words)}
        then |= {name: now.after(chain, "aside") for name in (*(f"aside{i}" for i in range(self.asides)), "wait")}
        then |= {code: now.told(1 << i) for i, code in enumerate(goal.facts["codes"])}
        return {name: chains.contribution(chain, now, after) for name, after in then.items()}

    def advance(self, screen: Screen, goal: Goal) -> None:
        """Lead on where a button of the step was pressed; note what was looked up."""
        memory, chain = screen.memory, self.chain(goal)
        now = self.state(screen)
        before = replace(now, left=now.left + 1)
        pressed = next((event.name for event in screen.events if event.kind == "press"), "")
        memory["paid"] = pressed.startswith("aside") and int(pressed[5:]) % 2 == 1
        after = before.told(self._asked(screen, goal))
        if now.step < self.steps and pressed in goal.facts["steps"][now.step]:
            after = before.after(chain, "right" if pressed == goal.facts["steps"][now.step][0] else "wrong")
        memory["step"], memory["clean"], memory["known"] = after.step, after.clean, after.known
        if self.contributions:
            memory["contribution"] = chains.contribution(chain, before, after)
        if after.step > before.step:
            memory["last"] = pressed if self.trail else ""
            self._show(screen, goal)

    def _asked(self, screen: Screen, goal: Goal) -> int:
        """The bit of the code that has just been looked up; 0 for none."""
        gesture, codes = screen.gestures[-1], goal.facts["codes"]
        asked = gesture.text.lower() if gesture.kind == "lookup" else ""
        return 1 << codes.index(asked) if asked in codes else 0

    def report(self, screen: Screen, goal: Goal) -> dict[str, Any]:
        """What the last act contributed, if that is asked for."""
        return {"contribution": screen.memory["contribution"]} if self.contributions else {}

    def success(self, screen: Screen, goal: Goal) -> bool:
        """The chain was gone through without a wrong button."""
        return bool(screen.memory["clean"]) and screen.memory["step"] == self.steps

    def cost(self, screen: Screen, goal: Goal) -> float:
        """For a link that costs."""
        return self.aside_cost * screen.memory["paid"]

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Look up the codes that are ahead, then press the next button; a spoilt chain is gone through to its end."""
        now, chain = self.state(screen), self.chain(goal)
        if now.step == self.steps:
            return hands.WAIT
        unknown = chain.ahead(now)
        if unknown and now.clean:
            return Gesture("lookup", text=goal.facts["codes"][unknown.bit_length() - 1])
        return hands.click(screen, goal.facts["steps"][now.step][0])


def _sentence(rng: np.random.Generator, said: list[str], codes: list[str], asides: list[str]) -> str:
    """The instruction: the steps, what is to be looked up, and what is to be left."""
    parts = [one_of(rng, WORDS).format(one_of(rng, BETWEEN).join(said))]
    parts += [f"look up {listed(codes)}"] if codes else []
    parts += [f"leave {listed(asides)}"] if asides else []
    return "; ".join(parts)
