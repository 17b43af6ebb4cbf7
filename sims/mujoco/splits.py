"""Which combinations training may show, and which are kept to see whether a policy generalises.

The target of an episode is the first slot of its goal. A pair of colour and shape is held out where the sum of their
numbers is a multiple of PERIOD, so that every colour and every shape is seen in training, but not together; and so is
an area of the table.

| split | the target is |
|---|---|
| any | anything anywhere |
| train | of a familiar pair, outside the held-out area |
| combination | of a held-out pair, outside the held-out area |
| position | of a familiar pair, inside the held-out area |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sims.mujoco.things import COLOURS, Thing
from vla_rl.registry import nearest

if TYPE_CHECKING:
    from sims.mujoco.world import World

SPLITS = ("any", "train", "combination", "position")
PERIOD = 5
HELD_OUT_AREA = ((0.03, 0.14), (0.03, 0.14))
"""Ranges of x and y, metres: a patch right of the middle and behind it."""
_SHAPES = ("cube", "ball", "cylinder", "bar", "tray", "plate", "button", "cabinet", "peg", "socket", "mark")


def check(split: str) -> str:
    """`split` itself. Raises ValueError, naming the nearest, for one that does not exist."""
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is unknown; {nearest(split, SPLITS)}")
    return split


def is_held_out(thing: Thing) -> bool:
    """Whether the pair of colour and shape is kept from training."""
    return (list(COLOURS).index(thing.colour) + _SHAPES.index(thing.shape)) % PERIOD == 0


def in_held_out_area(place: np.ndarray) -> bool:
    """Whether a place [2 or 3], metres, lies in the area kept from training."""
    return all(low <= value <= high for value, (low, high) in zip(place[:2], HELD_OUT_AREA, strict=True))


def holds(split: str, world: World, slot: str) -> bool:
    """Whether an episode about what `slot` shows belongs to `split`."""
    if split == "any":
        return True
    pair, area = is_held_out(world.shown[slot]), in_held_out_area(world.footprint(slot))
    return (pair, area) == {"train": (False, False), "combination": (True, False), "position": (False, True)}[split]
