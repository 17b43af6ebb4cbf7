"""Tools that are given as text: what they are called, what they do, what a call costs, and what is wrong with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sims.gui import decisions

TEXTS: dict[str, tuple[tuple[str, str], ...]] = {
    "translate": (
        ("decode", "tells what a code means"), ("gloss", "tells the name of a code"),
        ("legend", "turns a code into a name"), ("cipher", "says what codes stand for"),
        ("glossary", "gives the name for a code"), ("reader", "says which name a code has"),
        ("keybook", "has names for all codes"), ("solve", "knows what a code means"),
        ("lexicon", "knows the names of codes"), ("rosetta", "says what a code is"),
    ),
    "find": (
        ("locate", "says where a file is"), ("index", "tells the row of a file"), ("spot", "points at the file"),
        ("scout", "looks for the file"), ("finder", "shows where the file is"), ("seek", "gives the row of the file"),
        ("tracker", "knows where a file is"), ("pilot", "shows the way to the row"),
        ("compass", "shows the way to a file"), ("beacon", "tells where the file is"),
    ),
    "check": (
        ("verify", "says if this is the file"), ("peek", "looks if it is this one"), ("probe", "tests one file"),
        ("confirm", "says yes or no of a file"), ("inspect", "tells if this file is it"),
        ("judge", "says if one file is it"), ("assay", "tests if this is the one"),
        ("tester", "says yes if this is it"), ("sounder", "tells of one file if it is it"),
        ("gauge", "looks at one, says yes or no"),
    ),
    "idle": (
        ("oracle", "says how the day will be"), ("clerk", "tells of the weather"), ("chime", "says what day it is"),
        ("echo", "says something kind"), ("herald", "tells what is new today"), ("jester", "tells a kind joke"),
        ("sundial", "says how late it is"), ("barometer", "says how warm it will be"),
        ("almanac", "foretells the weather"), ("bard", "says something of the day"),
    ),
}  # fmt: skip
"""By kind: names and what is said of them. Those of kind `idle` are of no use."""
HELD_OUT_TOOLS = frozenset(name for texts in TEXTS.values() for name, _ in texts[-(len(texts) // 5) :])
"""Names, and what is said of them, that the split `train` never shows."""
ODDS = (4, 2)
"""One call in so many fails, or `find` lies in one episode of so many, where a tool has that flaw."""
SLOW = 3
"""Turns that a slow tool takes."""


@dataclass(frozen=True)
class ToolText:
    """A tool of an episode.

    price: cents of a call. fails, lies: once in so many calls or episodes; 0 for never. turns: until it answers.
    """

    kind: str
    name: str
    does: str
    price: int
    fails: int = 0
    lies: int = 0
    turns: int = 1

    @property
    def said(self) -> str:
        """Its text."""
        flaws = [f"fails 1 in {self.fails}"] * (self.fails > 0) + [f"lies 1 in {self.lies}"] * (self.lies > 0)
        flaws += [f"takes {self.turns} turns"] * (self.turns > 1)
        return ", ".join([f"{self.name}: {self.does}", f"{self.price} cents", *flaws])

    @property
    def offer(self) -> decisions.Offer:
        """As numbers."""
        return decisions.Offer(self.price, _share(self.fails), _share(self.lies))

    def plain(self) -> dict[str, Any]:
        """Of JSON's types."""
        return asdict(self)


def draw(kind: str, prices: tuple[float, ...], flawed: float, rng: np.random.Generator) -> ToolText:
    """A tool of a kind: one of its texts and of the prices; with probability `flawed` it fails, lies or is slow."""
    name, does = TEXTS[kind][int(rng.integers(len(TEXTS[kind])))]
    price = round(prices[int(rng.integers(len(prices)))] / decisions.CENT)
    flaws = ("fails", "turns", "lies") if kind == "find" else ("fails", "turns")
    flaw, odds = flaws[int(rng.integers(len(flaws)))], ODDS[int(rng.integers(len(ODDS)))]
    if rng.random() >= flawed:
        return ToolText(kind, name, does, price)
    return ToolText(kind, name, does, price, **{flaw: SLOW if flaw == "turns" else odds})


def _share(odds: int) -> float:
    return 1 / odds if odds else 0.0
