"""Desk: open the named file, whose name may have to be enlarged, read or looked up first, and that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sims.gui import decisions, hands
from sims.gui.decisions import CALLS, EXACT, STOP, Act, Costs, Knowledge
from sims.gui.files import File, folder, folder_height, line, name_begins
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.gui.tools import TABLE, Lookup, Read, Tool, Zoom
from sims.gui.words import ENTRIES, HELD_OUT_WORDS, LABELS, one_of, pick, shown
from sims.ranges import within
from sims.screen.interaction import Gesture, Interaction

NAMED = ("open the file {}", "open {}", "select {} and press enter", "find {} and open it", "open the document {}")
CODED = (
    "open the file with the code {}",
    "open the document that the table calls {}",
    "look up the code {} and open its file",
    "find the file for the code {} and open it",
)
FOLDERS = 2
"""Side by side, so far apart that no enlarged part of the screen shows files of both."""


@dataclass(frozen=True)
class Desk(Task):
    """Open the named file of two folders: a click selects it, Enter opens it. A wrong one costs; the search goes on.

    Tools: `zoom` makes the names of a folder readable, `read` says what is written at a place, `lookup` what a code
    stands for. What is best to do, and what an episode lost beside it, is known: see `sims.gui.decisions`.

    `info`: `calls` of tools so far; `over_calls`, those that were not worth their cost or less than something else;
    `under_calls`, files that were opened where a call would have been better; `regret`, the return that was to be
    expected of the best acts less that of those that were done, and of those that were left undone at the end;
    `optimal_return`, what was to be expected at first. The return is the reward less the costs; steps are free.
    """

    files: int = within(2, 1, 3)
    """In each folder."""
    unreadable: float = within(0.5, 0, 1)
    """Probability that the names are too fine for the screen."""
    coded: float = within(0.3, 0, 1)
    """Probability that the instruction says a code in place of the name."""
    stale: float = within(0.1, 0, 1)
    """Probability that the table is out of date, and a code stands for another file than it says."""
    zoom: float = within(0.04, 0, 10)
    """Cost of a call; `read` and `lookup` likewise."""
    read: float = within(0.03, 0, 10)
    lookup: float = within(0.05, 0, 10)
    wrong: float = within(0.25, 0, 10)
    """Cost of opening a wrong file."""
    horizon: int = within(12, 1, 10_000)
    """Steps until truncation."""

    interaction = Interaction(("click", "scroll_up", "scroll_down", "type", "key"), keys=("Enter", "Escape"))

    @property
    def tools(self) -> tuple[Tool, ...]:
        """See `Task`."""
        return Zoom(self.zoom), Read(self.read), Lookup(self.lookup)

    @property
    def costs(self) -> Costs:
        """Of the decision problem."""
        return Costs(self.zoom, self.read, self.lookup, self.wrong, self.stale)

    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """Two folders and a table; the facts are numbers of files, folder after folder."""
        count = FOLDERS * self.files
        fine, coded, stale = (bool(rng.random() < chance) for chance in (self.unreadable, self.coded, self.stale))
        names = self._put_folders(screen, rng, fine, coded)
        wanted = int(rng.integers(count))
        named = (wanted + int(rng.integers(1, count))) % count if coded and stale else wanted
        codes = pick(rng, 3, ENTRIES)
        others = pick(rng, 2, tuple(name for name in LABELS if name not in names))
        memory: dict[str, Any] = {"read": [not fine] * count, "opened": [False] * count, "known": not coded}
        counts = {"slips": 0, "calls": 0, "over_calls": 0, "under_calls": 0, "regret": 0.0}
        screen.memory = {**memory, **counts, TABLE: dict(zip(codes, (names[named], *others), strict=True))}
        word = codes[0] if coded else names[wanted]
        facts: dict[str, Any] = {"wanted": wanted, "named": named, "coded": coded, "word": word}
        goal = Goal(one_of(rng, CODED if coded else NAMED).format(word), facts, words=(word,))
        facts["optimal_return"] = decisions.value(self.costs, self.knowledge(screen, goal))
        return goal

    def _put_folders(self, screen: Screen, rng: np.random.Generator, fine: bool, coded: bool) -> list[str]:
        """The files' names."""
        style, half = screen.style, screen.size[0] // FOLDERS
        wide, high = half - style.px(2), folder_height(style, self.files)
        room = wide - 2 * style.px(2) - name_begins(line(style))
        # A code hides the name that it stands for, so that the split could not tell it.
        fits = tuple(
            name for name in LABELS if style.width(shown(name)) <= room and not (coded and name in HELD_OUT_WORDS)
        )
        names = pick(rng, FOLDERS * self.files, fits)
        short = tuple(name for name in fits if style.width(shown(name)) <= wide - style.px(18) and name not in names)
        titles = pick(rng, FOLDERS, short)
        files = [
            File(f"file{number}", (0, 0, 0, 0), shown(name), fine=1.5 * style.scale if fine else 0.0)
            for number, name in enumerate(names)
        ]
        for number, title in enumerate(titles):
            place = (number * half + int(rng.integers(style.px(2) + 1)), int(rng.integers(screen.size[1] - high + 1)))
            own = files[number * self.files : (number + 1) * self.files]
            screen.widgets.append(folder(style, f"folder{number}", shown(title), place, wide, own))
        screen.change()
        return names

    def knowledge(self, screen: Screen, goal: Goal) -> Knowledge:
        """What who remembers everything knows now."""
        memory, named = screen.memory, goal.facts["named"]
        files = [
            decisions.File(read, read and memory["known"] and number == named, opened)
            for number, (read, opened) in enumerate(zip(memory["read"], memory["opened"], strict=True))
        ]
        folders = tuple(tuple(files[i : i + self.files]) for i in range(0, len(files), self.files))
        return Knowledge(folders, goal.facts["coded"], memory["known"])

    def optimal(self, screen: Screen, goal: Goal) -> Act:
        """What is best to do now."""
        return decisions.best(self.costs, self.knowledge(screen, goal))

    def advance(self, screen: Screen, goal: Goal) -> None:
        """Note what was read, looked up and opened, and what it lost."""
        memory, act = screen.memory, self._done(screen, goal)
        if act.kind != "stop":
            self._judge(screen, goal, act)
        memory["slips"] = int(act.kind == "open" and act.files[0] != goal.facts["wanted"])
        if act.kind != "open":
            for number in act.files:
                memory["read"][number] = True
        elif memory["slips"]:
            memory["opened"][act.files[0]] = screen.find(f"file{act.files[0]}").opened = True
            screen.change()
        asked = act.kind == "lookup" and screen.gestures[-1].text.lower() == goal.facts["word"]
        memory["known"] = memory["known"] or asked

    def _done(self, screen: Screen, goal: Goal) -> Act:
        """What the last gesture was; STOP for one that does nothing."""
        gesture = screen.gestures[-1]
        opened = tuple(number for number in self._numbers() if screen.happened(f"file{number}", "open"))
        if opened:
            return Act("open", opened)
        if gesture.kind == "zoom" and screen.view is not None:
            left, top, wide, high = screen.view
            return Act(
                "zoom", tuple(i for i in self._numbers() if _inside(screen, i, left, top, left + wide, top + high))
            )
        if gesture.kind == "read" and gesture.at is not None:
            return Act("read", tuple(i for i in self._numbers() if screen.where(f"file{i}").holds(*gesture.at)))
        return Act("lookup") if gesture.kind == "lookup" else STOP

    def _numbers(self) -> range:
        return range(FOLDERS * self.files)

    def _judge(self, screen: Screen, goal: Goal, act: Act) -> None:
        """Count a call, and what the act lost beside the best one."""
        memory, now = screen.memory, self.knowledge(screen, goal)
        in_vain = act.kind == "lookup" and screen.gestures[-1].text.lower() != goal.facts["word"]
        most = decisions.value(self.costs, now)
        got = most - self.lookup if in_vain else decisions.worth(self.costs, now, act)
        memory["calls"] += act.kind in CALLS
        if most - got > EXACT:
            memory["regret"] += most - got
            memory["over_calls"] += act.kind in CALLS
            memory["under_calls"] += act.kind == "open" and decisions.best(self.costs, now).kind in CALLS

    def report(self, screen: Screen, goal: Goal) -> dict[str, Any]:
        """See the class."""
        kept = {name: screen.memory[name] for name in ("calls", "over_calls", "under_calls", "regret")}
        if len(screen.gestures) >= self.horizon and not self.success(screen, goal):
            kept["regret"] += decisions.value(self.costs, self.knowledge(screen, goal))
        return {**kept, "optimal_return": goal.facts["optimal_return"]}

    def success(self, screen: Screen, goal: Goal) -> bool:
        """The wanted file has just been opened."""
        return screen.happened(f"file{goal.facts['wanted']}", "open")

    def cost(self, screen: Screen, goal: Goal) -> float:
        """For a wrong file that has just been opened."""
        return self.wrong * screen.memory["slips"]

    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """The best act; where an enlarged part of the screen does not show its place, wait until all is shown."""
        act = self.optimal(screen, goal)
        if act.kind == "stop":
            return hands.WAIT
        if act.kind == "lookup":
            return Gesture("lookup", text=goal.facts["word"])
        first, last = (screen.where(f"file{number}") for number in (act.files[0], act.files[-1]))
        if act.kind == "open" and screen.focus == first.widget.name:
            return Gesture("key", key="Enter")
        x, y = first.middle[0], (first.middle[1] + last.middle[1]) / 2
        made = Gesture("click" if act.kind == "open" else act.kind, at=(x, y))
        return made if screen.view is None or _shows(screen, x, y) else hands.WAIT


def _inside(screen: Screen, number: int, left: int, top: int, right: int, bottom: int) -> bool:
    """Whether a file lies in a box as a whole."""
    file = screen.where(f"file{number}")
    wide, high = file.widget.box[2:]
    return left <= file.x and file.x + wide <= right and top <= file.y and file.y + high <= bottom


def _shows(screen: Screen, x: float, y: float) -> bool:
    """Whether the enlarged part shows a place."""
    assert screen.view is not None
    left, top, wide, high = screen.view
    return left <= x < left + wide and top <= y < top + high
