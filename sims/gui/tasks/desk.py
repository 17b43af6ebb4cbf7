"""Desk: open the named file, with tools that are given as text, and that cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sims.gui import decisions, hands, offers
from sims.gui.decisions import CENT, EXACT, RULES, Act, Knowledge, Problem, Said
from sims.gui.files import File, folder, folder_height, line, name_begins
from sims.gui.offers import ToolText
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.tools import Call, Tool
from sims.gui.words import ENTRIES, HELD_OUT_WORDS, LABELS, one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture, Interaction

NAMED = ("open the file {}", "open {}", "select {} and press enter", "find {} and open it", "open the document {}")
CODED = ("open the file with the code {}", "open the document coded {}", "find the file of code {} and open it")
KEYS = ("Enter", "Tab", "Escape", "ArrowUp", "ArrowDown")
"""So many that chance seldom opens a file."""
SAMPLES = 200
"""Drawn problems that tell which fixed rule is the best one on average."""
BUSY, VAIN, FAILED, DEAR, UNKNOWN = "working", "which name?", "no answer", "too dear", "no such tool"
"""What is answered where there is nothing to tell."""


@dataclass(frozen=True)
class Desk(Task):
    """Open the named file of a folder: a click selects it, Enter opens it. A wrong one costs; the search goes on.

    The instruction lists the tools of the episode: name, what it does, price, and flaw. The gesture `call` takes a
    name, a word of the text, and a place, the file to check. Answers build on each other: what a code means, then which
    file has that name. A slow tool answers some turns later, and until then nothing else can be done.

    What is best to do, and what an episode lost beside it, is known: see `sims.gui.decisions`. The return is the reward
    less the costs; steps are free. `info`: `calls` so far; `over_calls`, those that were not worth their price or less
    than something else; `under_calls`, files that were opened where a call would have been better; `regret`, the return
    that was to be expected of the best acts less that of those that were done, and of those that were left undone at
    the end; `fixed_regret`, what is lost in this episode by the fixed rule that is the best on average, which looks at
    no price and no flaw; `optimal_return`, what was to be expected at first.
    """

    files: int = within(4, 3, 6)
    """In the folder."""
    unreadable: float = within(0.85, 0, 1)
    """Probability that the names are too fine for the screen."""
    coded: float = within(0.5, 0, 1)
    """Probability that the instruction says a code in place of the name."""
    prices: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.4)
    """Those of a call that are drawn from, in whole cents of 0.01, for each tool and episode."""
    flawed: float = within(0.5, 0, 1)
    """Probability that a tool fails now and then, lies or is slow."""
    idle: bool = True
    """Whether a tool that is of no use is listed, too."""
    budgeted: float = within(0.3, 0, 1)
    """Probability that the instruction says what calls may cost together; others are then refused."""
    budgets: tuple[float, ...] = (0.1, 0.3, 0.6)
    """Those that are drawn from."""
    shift: int = within(0, 0, 5)
    """By how many rows the answers of tools that find a file are off, which nothing says; the exact rule knows."""
    wrong: float = within(0.25, 0, 0.4)
    """Cost of opening a wrong file."""
    horizon: int = within(16, 1, 10_000)
    """Steps until truncation."""

    interaction = Interaction(("click", "scroll_up", "scroll_down", "type", "key"), keys=KEYS, words=64)
    splits = ("any", "train", "words", "tools")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prices", "budgets"):
            values = getattr(self, name)
            object.__setattr__(self, name, tuple(values))
            if not values or min(values) < 0:
                raise ValueError(f"{name}: at least one, none below 0; got {values}")

    @property
    def tools(self) -> tuple[Tool, ...]:
        """See `Task`."""
        return (Call(),)

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """A folder, and the tools of the episode; files are counted from the top."""
        coded, fine, listed, budget = self.draw(rng)
        facts = self._facts(rng, self._put_folder(screen, rng, fine, coded), coded, listed) | {"legible": not fine}
        screen.memory = {
            **dict.fromkeys(("slips", "calls", "over_calls", "under_calls", "paid", "busy"), 0),
            **{"regret": 0.0, "done": False, "answer": ""},
            **{"known": not coded, "said": None, "out": [False] * self.files, "left": budget},
        }
        if not fine and not coded:
            self._settle(screen, facts["wanted"])
        limit = [] if budget is None else [f"pay at most {budget} cents"]
        parts = [one_of(rng, CODED if coded else NAMED).format(facts["word"]), *limit, *(tool.said for tool in listed)]
        goal = Goal("; ".join(parts), facts, words=(facts["word"], *(tool.name for tool in listed)))
        problem, now = self.problem(goal), self.knowledge(screen)
        facts["optimal_return"] = decisions.value(problem, now)
        facts["fixed_regret"] = facts["optimal_return"] - decisions.value(problem, now, best_rule(self))
        return goal

    def _facts(self, rng: np.random.Generator, names: list[str], coded: bool, listed: list[ToolText]) -> dict[str, Any]:
        """What is wanted, under which word and name; the tools, and which file those that find one tell of."""
        wanted = int(rng.integers(self.files))
        lies = next(tool.offer.lies for tool in listed if tool.kind == "find")
        aside = int(rng.integers(1, self.files)) if rng.random() < lies else 0
        return {
            "wanted": wanted,
            "name": names[wanted],
            "word": pick(rng, 1, ENTRIES)[0] if coded else names[wanted],
            "tools": [tool.plain() for tool in listed],
            "told": (wanted + aside) % self.files,
            "seed": int(rng.integers(2**31)),
        }

    def draw(self, rng: np.random.Generator) -> tuple[bool, bool, list[ToolText], int | None]:
        """Whether there is a code, whether names are too fine, the tools in any order, and the cents of the budget."""
        coded, fine = bool(rng.random() < self.coded), bool(rng.random() < self.unreadable)
        kinds = [kind for kind in offers.TEXTS if self.idle or kind != "idle"]
        listed = [offers.draw(kinds[i], self.prices, self.flawed, rng) for i in rng.permutation(len(kinds))]
        limited, budget = rng.random() < self.budgeted, self.budgets[int(rng.integers(len(self.budgets)))]
        return coded, fine, listed, round(budget / CENT) if limited else None

    def _put_folder(self, screen: Screen, rng: np.random.Generator, fine: bool, coded: bool) -> list[str]:
        """The files' names."""
        style = screen.style
        wide, high = screen.size[0] // 2, folder_height(style, self.files)
        room = wide - 2 * style.px(2) - name_begins(line(style))
        # A code hides the name that it stands for, so that the split could not tell it.
        fits = tuple(
            name for name in LABELS if style.width(shown(name)) <= room and not (coded and name in HELD_OUT_WORDS)
        )
        names = pick(rng, self.files, fits)
        short = tuple(name for name in fits if style.width(shown(name)) <= wide - style.px(18) and name not in names)
        files = [
            File(f"file{number}", (0, 0, 0, 0), shown(name), fine=1.5 * style.scale if fine else 0.0)
            for number, name in enumerate(names)
        ]
        place = (int(rng.integers(screen.size[0] - wide + 1)), int(rng.integers(screen.size[1] - high + 1)))
        screen.widgets.append(folder(style, "folder", shown(one_of(rng, short)), place, wide, files))
        screen.change()
        return names

    def problem(self, goal: Goal) -> Problem:
        """What is stated, as numbers."""
        return _problem(self, goal.facts["legible"], [ToolText(**tool) for tool in goal.facts["tools"]])

    def knowledge(self, screen: Screen) -> Knowledge:
        """What who remembers everything knows now."""
        memory, said = screen.memory, screen.memory["said"]
        possible = [number for number, out in enumerate(memory["out"]) if not out and number != said]
        status: Said = "none" if said is None else "out" if memory["out"][said] else "in"
        return Knowledge(len(possible), memory["known"], status, memory["left"])

    def advance(self, screen: Screen, goal: Goal) -> None:
        """Carry out a call, note what it told or which file was opened, and what that lost."""
        memory, gesture = screen.memory, screen.gestures[-1]
        memory["slips"] = memory["paid"] = 0
        if memory["busy"]:
            memory["busy"] -= 1
            screen.answer = BUSY if memory["busy"] else memory["answer"]
        elif gesture.kind == "call":
            screen.answer = self._call(screen, goal, gesture)
        else:
            opened = next((i for i in range(self.files) if screen.happened(f"file{i}", "open")), None)
            if opened is not None:
                self._open(screen, goal, opened)

    def _open(self, screen: Screen, goal: Goal, number: int) -> None:
        memory = screen.memory
        memory["done"] = number == goal.facts["wanted"]
        self._judge(screen, goal, None if memory["out"][number] else Act("open", number == memory["said"]), self.wrong)
        if not memory["done"]:
            memory["slips"] = 1
            memory["out"][number] = screen.find(f"file{number}").opened = True
            screen.change()

    def _call(self, screen: Screen, goal: Goal, gesture: Gesture) -> str:
        """The answer. Luck is drawn anew in each call."""
        memory, number = screen.memory, self._at(screen, gesture)
        tool = next((ToolText(**tool) for tool in goal.facts["tools"] if tool["name"] == gesture.text.lower()), None)
        if tool is None:
            return UNKNOWN
        if memory["left"] is not None and tool.price > memory["left"]:
            return DEAR
        self._judge(screen, goal, self._act(screen, goal, tool, number), CENT * tool.price)
        rng = np.random.default_rng((goal.facts["seed"], memory["calls"]))
        memory["calls"], memory["paid"] = memory["calls"] + 1, tool.price
        memory["left"] = self.knowledge(screen).less(tool.price).left
        failed = rng.random() < tool.offer.fails
        memory["answer"] = FAILED if failed else self._answer(screen, goal, tool, number)
        memory["busy"] = tool.turns - 1
        return BUSY if memory["busy"] else memory["answer"]

    def _at(self, screen: Screen, gesture: Gesture) -> int | None:
        """The file that a gesture points at."""
        files = (i for i in range(self.files) if gesture.at and screen.where(f"file{i}").holds(*gesture.at))
        return next(files, None)

    def _act(self, screen: Screen, goal: Goal, tool: ToolText, number: int | None) -> Act | None:
        """What a call is; None where it can tell nothing new."""
        if tool.kind == "check" and (number is None or screen.memory["out"][number]):
            return None
        act = Act(tool.kind, tool.kind == "check" and number == screen.memory["said"])
        return act if act in decisions.options(self.problem(goal), self.knowledge(screen)) else None

    def _answer(self, screen: Screen, goal: Goal, tool: ToolText, number: int | None) -> str:
        """What a tool says, and what is known from then on."""
        memory, facts = screen.memory, goal.facts
        if tool.kind == "idle":
            return "a fine day"
        if tool.kind == "translate":
            memory["known"] = True
            if facts["legible"]:
                self._settle(screen, facts["wanted"])
            return f"{facts['word']} is {facts['name']}"
        if not memory["known"]:
            return VAIN
        if tool.kind == "find":
            memory["said"] = facts["told"] if sum(memory["out"]) < self.files - 1 else memory["said"]
            screen.set_focus(f"file{(facts['told'] + self.shift) % self.files}")
            return f"{facts['name']} is in row {(facts['told'] + self.shift) % self.files + 1}"
        if number is None:
            return "no file there"
        if number == facts["wanted"]:
            self._settle(screen, number)
        memory["out"][number] = number != facts["wanted"]
        return f"{'yes' if number == facts['wanted'] else 'no'}, row {number + 1}"

    def _settle(self, screen: Screen, number: int) -> None:
        """It is this file for sure."""
        screen.memory["out"] = [other != number for other in range(self.files)]

    def _judge(self, screen: Screen, goal: Goal, act: Act | None, cost: float) -> None:
        """Count what an act lost beside the best one; None, which costs too, tells nothing."""
        memory, problem, now = screen.memory, self.problem(goal), self.knowledge(screen)
        calling = screen.gestures[-1].kind == "call"
        most = decisions.value(problem, now)
        if act is not None:
            got = decisions.worth(problem, now, act)
        else:
            got = decisions.value(problem, now.less(round(cost / CENT) if calling else 0)) - cost
        if most - got > EXACT:
            memory["regret"] += most - got
            memory["over_calls"] += calling
            memory["under_calls"] += not calling and decisions.best(problem, now).kind != "open"

    def report(self, screen: Screen, goal: Goal) -> dict[str, Any]:
        """See the class."""
        kept = {name: screen.memory[name] for name in ("calls", "over_calls", "under_calls", "regret")}
        if len(screen.gestures) >= self.horizon and not self.success(screen, goal):
            kept["regret"] += decisions.value(self.problem(goal), self.knowledge(screen))
        return kept | {name: goal.facts[name] for name in ("fixed_regret", "optimal_return")}

    def success(self, screen: Screen, goal: Goal) -> bool:
        """The wanted file has just been opened."""
        return bool(screen.memory["done"])

    def cost(self, screen: Screen, goal: Goal) -> float:
        """Of a call, and of a wrong file that has just been opened."""
        return CENT * screen.memory["paid"] + self.wrong * screen.memory["slips"]

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """The best act."""
        memory, problem, now = screen.memory, self.problem(goal), self.knowledge(screen)
        if memory["busy"]:
            return hands.WAIT
        act = decisions.best(problem, now)
        possible = [number for number, out in enumerate(memory["out"]) if not out and number != memory["said"]]
        file = screen.where(f"file{memory['said'] if act.said else possible[0]}")
        if act.kind == "open":
            focused = screen.focus == file.widget.name
            return Gesture("key", key="Enter") if focused else Gesture("click", at=file.middle)
        name = next(tool["name"] for tool in goal.facts["tools"] if tool["kind"] == act.kind)
        return Gesture("call", at=file.middle, text=name)


def _problem(task: Desk, legible: bool, listed: list[ToolText]) -> Problem:
    found = {tool.kind: tool.offer for tool in listed if tool.kind in decisions.CALLS}
    return Problem(task.files, task.wrong, legible, **found)


@lru_cache(maxsize=16)
def best_rule(task: Desk) -> tuple[str, ...]:
    """The one of the fixed rules that gets the most on average over what the task draws."""
    regrets = rule_regrets(task)
    return min(regrets, key=lambda rule: regrets[rule])


def rule_regrets(task: Desk, samples: int = SAMPLES) -> dict[tuple[str, ...], float]:
    """What each of the fixed rules loses, on average over so many problems that the task draws."""
    rng, lost = np.random.default_rng(0), np.zeros(len(RULES))
    for _ in range(samples):
        coded, fine, listed, budget = task.draw(rng)
        sure = not coded and not fine
        problem, now = _problem(task, not fine, listed), Knowledge(1 if sure else task.files, not coded, left=budget)
        lost += [decisions.value(problem, now) - decisions.value(problem, now, rule) for rule in RULES]
    return dict(zip(RULES, (lost / samples).tolist(), strict=True))
