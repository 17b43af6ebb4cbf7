"""Which words and pairs of colour and shape training may name, and which are kept to see whether a policy generalises.

| split | what the instruction names |
|---|---|
| any | anything |
| train | familiar words and pairs only |
| words | a held-out word at least, and familiar pairs |
| combination | a held-out pair of colour and shape at least, and familiar words |
| tools | a held-out tool at least, and familiar words |

Held-out themes are asked for by `theme`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sims.gui.offers import HELD_OUT_TOOLS
from sims.gui.words import HELD_OUT_WORDS
from sims.vocabulary import HELD_OUT_COMBINATIONS
from vla_rl.registry import nearest

if TYPE_CHECKING:
    from sims.gui.task import Goal

SPLITS = ("any", "train", "words", "combination", "tools")


def check(split: str, known: tuple[str, ...] = SPLITS) -> str:
    """`split` itself. Raises ValueError, naming the nearest, for one that there is not."""
    if split not in known:
        raise ValueError(f"split: there is no {split!r} here; {nearest(split, known)}")
    return split


def holds(split: str, goal: Goal) -> bool:
    """Whether an episode of this goal belongs to `split`."""
    if split == "any":
        return True
    words = not HELD_OUT_WORDS.isdisjoint(goal.words)
    pairs = not HELD_OUT_COMBINATIONS.isdisjoint(goal.pairs)
    tools = not HELD_OUT_TOOLS.isdisjoint(goal.words)
    return {name for name, held in (("words", words), ("combination", pairs), ("tools", tools)) if held} == (
        {split} - {"train"}
    )
