"""Flow: a program of several pages, each of which wants something; the reward comes at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sims.gui import hands, layout
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.widget import Widget
from sims.gui.words import ENTRIES, one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture, Interaction

TOPICS = (
    "plan", "size", "city", "team", "colour", "menu", "gift", "seat", "name", "code", "room", "day", "pet", "tool",
)  # fmt: skip
CHOICES = (
    "basic", "large", "small", "red", "blue", "north", "south", "gold", "mild", "hot", "early", "late", "near", "far",
    "plain", "soft", "green", "silver", "west", "east", "short", "long",
)  # fmt: skip
TURNS = {"pick": 1, "choose": 2, "write": 3}
"""What a page may want, and how many turns that takes: press an option; choose one, next; click, type, next."""
OPENINGS = ("go through the pages: {}, then finish", "order with {}, then finish", "answer {} and finish")


@dataclass(frozen=True)
class Flow(Task):
    """Give every page what the instruction, or a note on an earlier page, says; press finish on the last one.

    One can go back.
    """

    turns: int = within(7, 5, 12)
    """Gestures that it takes at least."""
    noted: bool = True
    """Whether one page wants what only an earlier one shows: the instruction says "as noted"."""
    horizon: int = within(36, 1, 10_000)
    """Steps until truncation."""

    interaction = Interaction(words=48)
    splits = ("any",)
    needs_memory = True

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """The first page. What the pages want, and where on the screen they are, is drawn here, once."""
        pages = self._pages(rng)
        screen.memory = {"page": 0, "given": [None] * len(pages)}
        says = ", ".join(f"{page['topic']} {'as noted' if page['noted'] else page['wanted']}" for page in pages)
        goal = Goal(one_of(rng, OPENINGS).format(says), {"pages": pages, "title": shown(pick(rng, 1)[0])})
        self._turn_to(screen, goal, 0)
        return goal

    def _pages(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        kinds = self._kinds(rng)
        topics, entries = pick(rng, len(kinds), TOPICS), pick(rng, len(kinds), ENTRIES)
        pages = list[dict[str, Any]]()
        for kind, topic, entry in zip(kinds, topics, entries, strict=True):
            options = pick(rng, 3, CHOICES)
            wanted = entry if kind == "write" else options[int(rng.integers(3))]
            seed = int(rng.integers(2**31))
            page = {"kind": kind, "topic": topic, "options": options, "wanted": wanted, "seed": seed}
            pages.append({**page, "noted": False, "note": ""})
        if self.noted:
            late = int(rng.choice(_late(kinds)))
            pages[late]["noted"] = True
            pages[int(rng.integers(late))]["note"] = f"Note: {pages[late]['wanted']}"
        return pages

    def _kinds(self, rng: np.random.Generator) -> list[str]:
        """What each page wants; where there is to be a note, one that it can be for is among the later ones."""
        left, kinds = self.turns - 1, list[str]()  # one for finish
        while left:
            kinds.append(one_of(rng, tuple(kind for kind, turns in TURNS.items() if turns <= left)))
            left -= TURNS[kinds[-1]]
        return kinds if _late(kinds) or not self.noted else self._kinds(rng)

    def _turn_to(self, screen: Screen, goal: Goal, number: int) -> None:
        """Show a page, or the last one; what was given before stands in it."""
        pages, style = goal.facts["pages"], screen.style
        screen.memory["page"] = number
        screen.widgets = []
        screen.set_focus("")
        title = goal.facts["title"]
        if number == len(pages):
            rows: list[list[Widget]] = [[layout.label(style, "topic", "All done?")]]
            ways = [layout.button(style, "back", "Back"), layout.button(style, "finish", "Finish", default=True)]
            rng = np.random.default_rng(pages[0]["seed"] + 1)
        else:
            page, given = pages[number], screen.memory["given"][number]
            title = page["note"] or title
            rng = np.random.default_rng(page["seed"])
            rows = [[layout.label(style, "topic", shown(page["topic"]))], *self._body(screen, page, given)]
            ways = [layout.button(style, "back", "Back")] if number else []
            ways += [layout.button(style, "next", "Next", default=True)] if page["kind"] != "pick" else []
        layout.window(screen, rng, title, [*rows, *([ways] if ways else [])])

    def _body(self, screen: Screen, page: dict[str, Any], given: str | None) -> list[list[Widget]]:
        style, options = screen.style, page["options"]
        if page["kind"] == "write":
            value = given or ""
            return [[layout.text_field(style, "entry", page["topic"], 60, value=value, caret=len(value))]]
        if page["kind"] == "pick":
            buttons = [layout.button(style, f"option_{each}", shown(each)) for each in options]
            return [[button] for button in buttons]
        radios = [layout.radio(style, f"option_{each}", shown(each), "options") for each in options]
        for radio in radios:
            radio.chosen = radio.name == f"option_{given}"
        return [[radio] for radio in radios]

    def advance(self, screen: Screen, goal: Goal) -> None:
        """Note what is given, and turn the pages."""
        number, pages = screen.memory["page"], goal.facts["pages"]
        if number < len(pages):
            self._note(screen, pages[number], number)
        for name, kind in screen.events:
            if kind == "press" and (name == "next" or name.startswith("option_")):
                return self._turn_to(screen, goal, number + 1)
            if kind == "press" and name == "back":
                return self._turn_to(screen, goal, number - 1)

    def _note(self, screen: Screen, page: dict[str, Any], number: int) -> None:
        given = screen.memory["given"]
        for name, _ in screen.events:
            if name == "entry":
                given[number] = screen.find("entry").value
            elif name.startswith("option_"):
                given[number] = name.removeprefix("option_")

    def success(self, screen: Screen, goal: Goal) -> bool:
        """Finish has just been pressed, and every page has what it wants."""
        return screen.happened("finish", "press") and self._first_wrong(screen, goal) is None

    def _first_wrong(self, screen: Screen, goal: Goal) -> int | None:
        """The first page that has not what it wants."""
        for number, (page, given) in enumerate(zip(goal.facts["pages"], screen.memory["given"], strict=True)):
            if given != page["wanted"]:
                return number
        return None

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """Go to the first page that is wrong, set it right, and on; then finish."""
        number, wrong = screen.memory["page"], self._first_wrong(screen, goal)
        if wrong is not None and wrong < number:
            return hands.click(screen, "back")
        if number == len(goal.facts["pages"]):
            return hands.click(screen, "finish")
        page = goal.facts["pages"][number]
        if page["kind"] == "write":
            return hands.fill(screen, "entry", page["wanted"]) or hands.click(screen, "next")
        if page["kind"] == "choose" and screen.memory["given"][number] == page["wanted"]:
            return hands.click(screen, "next")
        return hands.click(screen, f"option_{page['wanted']}")


def _late(kinds: list[str]) -> tuple[int, ...]:
    """The pages that a note can be for: later ones that have options."""
    return tuple(number for number, kind in enumerate(kinds) if number and kind != "write")
