"""Push: move the block that the instruction names onto the mark that it names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sims.mujoco.placing import assortment, describe, put_down, scatter
from sims.mujoco.task import Goal, Target, Task
from sims.mujoco.things import COLOURS, MARK, Thing
from sims.ranges import within

if TYPE_CHECKING:
    from sims.mujoco.world import World

RADIUS = 0.04
"""How near the block's centre must come to the mark's centre, metres."""
SHAPES = ("cube", "cylinder")
"""Blocks that stay put where they are left."""

PHRASES = (
    "push the {} to the {} mark",
    "push the {} onto the {} mark",
    "move the {} to the {} mark",
    "slide the {} to the {} mark",
    "slide the {} onto the {} mark",
)

BLOCK_SPREAD, MARK_SPREAD, APART = 0.15, 0.2, 0.11
"""Blocks and marks lie within these of the table's centre along each axis, APART from each other, metres."""
FAR, CORRIDOR = 0.13, 0.1
"""The block starts FAR from its mark at least; other blocks stay out of the CORRIDOR between, metres."""


@dataclass(frozen=True)
class Push(Task):
    """Push the named block onto the named mark; other blocks and marks distract."""

    blocks: int = within(2, 1, 3)
    """Blocks on the table, 1 to 3."""
    marks: int = within(2, 1, 2)
    """Marks on the table, 1 or 2."""
    twin: float = within(0.3, 0, 1)
    """How often another block has the target's colour, so that the shape decides."""
    horizon: int = within(50, 1, 10_000)
    """Steps until truncation."""

    scene: ClassVar[str] = "push"
    robots: ClassVar[tuple[str, ...]] = ("gripper", "arm")

    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """Scatter blocks and marks; the first of each counts. No mark has the colour of a block."""
        colours = tuple(str(colour) for colour in rng.permutation(list(COLOURS)))
        marks, rest = colours[: self.marks], colours[self.marks :]
        blocks = assortment(rng, self.blocks, SHAPES, rest, self.twin)
        block_places, mark_places = self._places(rng)
        world.reset(tip=rng.uniform((-0.2, -0.2, 0.12), (0.2, 0.2, 0.2)))
        put_down(world, "mark", [Thing(colour, MARK) for colour in marks], mark_places)
        put_down(world, "block", blocks, block_places, rng)
        phrase = PHRASES[int(rng.integers(len(PHRASES)))]
        return Goal(("block0", "mark0"), phrase.format(describe(blocks[0], blocks, rng, "block"), marks[0]))

    def _places(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Where blocks [blocks, 2] and marks [marks, 2] lie: the first mark away from the first block, the way free."""
        while True:
            places = scatter(rng, self.blocks + self.marks, MARK_SPREAD, APART)
            blocks, marks = places[: self.blocks], places[self.blocks :]
            way = marks[0] - blocks[0]
            length = float(np.linalg.norm(way))
            # The way begins behind the block, where the gripper goes down.
            start = blocks[0] - 0.07 * way / length
            clear = all(_distance_to_way(other, start, marks[0]) > CORRIDOR for other in blocks[1:])
            if clear and length >= FAR and np.all(np.abs(blocks) <= BLOCK_SPREAD):
                return blocks, marks

    def success(self, world: World, goal: Goal) -> bool:
        """The block's centre is within RADIUS of the mark's."""
        block, mark = (world.object_position(slot)[:2] for slot in goal.slots)
        return math.dist(block, mark) <= RADIUS

    def expert(self, world: World, goal: Goal) -> Target:
        """Go over everything to behind the block, go down, push; start again when the block slips away."""
        block, mark = (world.object_position(slot)[:2] for slot in goal.slots)
        return Target(push_along(world.tip_position, block, mark))


LOW, IS_LOW, OVERHEAD = 0.02, 0.06, 0.12
"""Tip heights for pushing, below which it counts as low, and for passing over every block, metres."""
BEHIND, NEAR = 0.065, 0.035
"""The tip goes down BEHIND the block's centre, give or take NEAR, metres."""
AHEAD, BACK_TO_LINE = 0.05, 2.0
"""While pushing, the command leads the tip by AHEAD metres, and undoes BACK_TO_LINE times its error aside."""


def push_along(tip: np.ndarray, block: np.ndarray, mark: np.ndarray) -> np.ndarray:
    """Where the tip [3] should be told to go so that the block [2] comes to the mark [2]: [3], metres."""
    way = (mark - block) / max(float(np.linalg.norm(mark - block)), 1e-9)
    across = np.array([-way[1], way[0]])
    offset = tip[:2] - block
    along, aside = float(offset @ way), float(offset @ across)
    behind = block - BEHIND * way
    is_low = tip[2] < IS_LOW
    if is_low and along < -0.02 and abs(aside) < -along:
        return np.array([*(tip[:2] + AHEAD * way - BACK_TO_LINE * aside * across), LOW])
    if np.linalg.norm(tip[:2] - behind) < NEAR:
        return np.array([*behind, LOW])
    # Straight up first, then over.
    return np.array([*(tip[:2] if is_low else behind), OVERHEAD])


def _distance_to_way(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    way = end - start
    share = np.clip((point - start) @ way / (way @ way), 0, 1)
    return float(np.linalg.norm(start + share * way - point))
