"""When to call which tool before acting: the decision problem of a desk of files, solved exactly.

One file is wanted, each as likely. What its name is, the instruction says; or a table, which is out of date with
probability `stale` and then gives the name of another file on the desk, each as likely. Names that are not read yet are
read one by one, or folder by folder. Opening the wanted file pays 1 and ends the problem; opening another costs, and
tells no more than that it is wrong. Stopping is free.

The belief is over pairs of the wanted file and the file that has the name looked for. Files that are alike in a folder,
and folders that are alike, may be exchanged: `Knowledge.canonical` makes the states few.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

CALLS = ("zoom", "read", "lookup")
"""The tools, as acts. The other acts are `open` and `stop`."""
EXACT = 1e-9
"""Two returns that are nearer than this are equal."""


class File(NamedTuple):
    """What is known of one file: whether its name was read, is the one looked for, and whether it was opened."""

    read: bool = False
    named: bool = False
    opened: bool = False


Folders = tuple[tuple[File, ...], ...]


class Act(NamedTuple):
    """What can be done: `kind`, and the numbers of the files, folder after folder, that it reads or opens."""

    kind: str
    files: tuple[int, ...] = ()


STOP = Act("stop")


@dataclass(frozen=True)
class Costs:
    """Of a call of each tool and of opening a wrong file; stale: probability that the table is out of date."""

    zoom: float
    read: float
    lookup: float
    wrong: float
    stale: float


@dataclass(frozen=True)
class Knowledge:
    """What is known on the way. coded: whether the name has to be looked up. known: whether it is known by now."""

    folders: Folders
    coded: bool = False
    known: bool = True

    @property
    def files(self) -> tuple[File, ...]:
        """All of them, folder after folder."""
        return tuple(file for folder in self.folders for file in folder)

    @property
    def numbers(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of the files of each folder."""
        counts = iter(range(len(self.files)))
        return tuple(tuple(next(counts) for _ in folder) for folder in self.folders)

    def canonical(self) -> Knowledge:
        """The same but for the order of files in folders, and of folders."""
        return replace(self, folders=tuple(sorted(tuple(sorted(folder)) for folder in self.folders)))

    def change(self, files: tuple[int, ...], **news: bool) -> Knowledge:
        """With this news of some files."""
        made = tuple(
            tuple(file._replace(**news) if number in files else file for number, file in zip(row, folder, strict=True))
            for row, folder in zip(self.numbers, self.folders, strict=True)
        )
        return replace(self, folders=made)


@lru_cache(maxsize=2**14)
def beliefs(costs: Costs, now: Knowledge) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """For each file the probability that it is wanted, and that it has the name looked for."""
    files = now.files
    count, stale = len(files), costs.stale if now.coded and len(files) > 1 else 0.0
    wanted, named = [0.0] * count, [0.0] * count
    for one, file in enumerate(files):
        if file.opened:
            continue
        for other in range(count):
            if _possible(now, files, other):
                weight = 1 - stale if other == one else stale / (count - 1)
                wanted[one] += weight
                named[other] += weight
    total = sum(wanted)
    return tuple(each / total for each in wanted), tuple(each / total for each in named)


def _possible(now: Knowledge, files: tuple[File, ...], number: int) -> bool:
    """Whether this file can have the name looked for."""
    if not now.known:
        return True
    return files[number].named if any(file.named for file in files) else not files[number].read


@lru_cache(maxsize=2**16)
def _value(costs: Costs, now: Knowledge) -> float:
    return max(worth(costs, now, act) for act in options(now))


def value(costs: Costs, now: Knowledge) -> float:
    """The largest return that can be expected from here on: 1 for the wanted file, less what is paid."""
    return _value(costs, now.canonical())


def best(costs: Costs, now: Knowledge) -> Act:
    """An act of that value: the first of `options`."""
    most = value(costs, now)
    return next(act for act in options(now) if worth(costs, now, act) > most - EXACT)


def options(now: Knowledge) -> list[Act]:
    """All acts that tell something new, and to stop."""
    files = now.files
    opening = [Act("open", (number,)) for number, file in enumerate(files) if not file.opened]
    opening.sort(key=lambda act: not files[act.files[0]].named)  # of two as good, the one that was looked for
    folders = [Act("zoom", row) for row in now.numbers if not all(files[number].read for number in row)]
    reading = [Act("read", (number,)) for number, file in enumerate(files) if not file.read]
    asking = [] if now.known else [Act("lookup")]
    return [*opening, *asking, *folders, *reading, STOP]


def worth(costs: Costs, now: Knowledge, act: Act) -> float:
    """The return that can be expected of an act, and of the best ones after it."""
    if act.kind == "stop":
        return 0.0
    if act.kind == "open":
        return _opening(costs, now, act.files[0])
    follows = _asked(costs, now) if act.kind == "lookup" else _read(costs, now, act.files)
    return sum(chance * value(costs, then) for chance, then in follows) - float(getattr(costs, act.kind))


def _opening(costs: Costs, now: Knowledge, number: int) -> float:
    if now.files[number].opened:
        return value(costs, now) - costs.wrong
    right = beliefs(costs, now)[0][number]
    if right > 1 - EXACT:
        return 1.0
    return right + (1 - right) * (value(costs, now.change((number,), opened=True)) - costs.wrong)


def _read(costs: Costs, now: Knowledge, files: tuple[int, ...]) -> list[tuple[float, Knowledge]]:
    """What may be known, and how likely, after these names were read."""
    before, after = now.files, now.change(files, read=True)
    if not now.known or any(file.named for file in before):
        return [(1.0, after)]
    return _found(beliefs(costs, now)[1], after, tuple(number for number in files if not before[number].read))


def _asked(costs: Costs, now: Knowledge) -> list[tuple[float, Knowledge]]:
    """The same after the table was asked."""
    if now.known:
        return [(1.0, now)]
    read = tuple(number for number, file in enumerate(now.files) if file.read)
    return _found(beliefs(costs, now)[1], replace(now, known=True), read)


def _found(named: tuple[float, ...], after: Knowledge, among: tuple[int, ...]) -> list[tuple[float, Knowledge]]:
    """The name looked for is that of one of these files, or of none of them."""
    follows = [(named[number], after.change((number,), named=True)) for number in among]
    follows.append((1 - sum(named[number] for number in among), after))
    return [(chance, then) for chance, then in follows if chance > EXACT]
