"""The sets of questions on which a grounded backbone is scored, none of which training saw."""

from __future__ import annotations

from typing import Any

from sims.grounding.picture import Picture, Split
from sims.grounding.samples import SHARES, collate, draw, questions

FIRST_SEED = 1_000_000
"""Seeds from here on are for exams; training draws its pictures with smaller ones."""

EXAMS: dict[str, tuple[str, Split]] = {
    "table, front camera": ("table", Split(view="front")),
    "table, all cameras": ("table", Split()),
    "table, 96 pixels": ("table", Split(table_sides=(96,))),
    "table, twins, 96 pixels": ("table", Split(table_sides=(96,), twins=0.9, view="front")),
    "table, new combinations": ("table", Split(combinations=True)),
    "table, new cameras": ("table", Split(cameras=True)),
    "table, new backgrounds": ("table", Split(backgrounds=True)),
    "screen": ("screen", Split()),
    "screen, new combinations": ("screen", Split(combinations=True)),
    "screen, new looks and font": ("screen", Split(backgrounds=True)),
    "screen, new words": ("screen", Split(words=True)),
    "page": ("page", Split()),
    "page, new words": ("page", Split(words=True)),
    "sketch": ("sketch", Split()),
    "sketch, new combinations": ("sketch", Split(combinations=True)),
    "sketch, new background and font": ("sketch", Split(backgrounds=True)),
}
"""Name -> what is drawn, and how it departs from training."""


def exam(name: str, count: int = 500, seed: int = 0, processes: int = 1) -> dict[str, list[dict[str, Any]]]:
    """The batches of an exam by task, at most `count` questions each; the same for the same arguments.

    Raises:
        KeyError: no such exam.
    """
    kind, split = EXAMS[name]
    pictures = draw(kind, split, FIRST_SEED + seed, count, processes)
    return {task: paper(pictures, task, seed, split.combinations) for task in SHARES[pictures[0].kind]}


def paper(pictures: list[Picture], task: str, seed: int, held_out: bool, size: int = 100) -> list[dict[str, Any]]:
    """One task's questions on pictures, in batches."""
    rows = questions(pictures, task, seed, held_out)
    return [collate(rows[start : start + size]) for start in range(0, len(rows), size)]
