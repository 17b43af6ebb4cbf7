"""Reach: bring the gripper's tip to the one thing that the instruction names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sims.mujoco.placing import assortment, describe, put_down, scatter
from sims.mujoco.task import Goal, Target, Task
from sims.mujoco.things import COLOURS, SHAPES
from sims.ranges import check_range, within

if TYPE_CHECKING:
    from sims.mujoco.world import World

RADIUS = 0.03
"""How near the tip must come to the middle of the thing's upper side, metres."""
SPREAD, APART = 0.21, 0.12
"""Things lie within SPREAD of the table's centre along each axis, APART from each other, metres."""
OVERHEAD = 0.11
"""Tip height that clears every thing, metres."""

PHRASES = (
    "reach the {}",
    "reach for the {}",
    "touch the {}",
    "move to the {}",
    "go to the {}",
    "approach the {}",
    "get to the {}",
)


@dataclass(frozen=True)
class Reach(Task):
    """Bring the gripper's tip to the named one of several coloured things; the others distract."""

    fewest: int = 3
    """Things on the table, at least."""
    most: int = within(5, 1, 5)
    """Things on the table, at most."""
    twin: float = within(0.3, 0, 1)
    """How often a distractor has the target's colour, so that the shape decides."""
    horizon: int = within(20, 1, 10_000)
    """Steps until truncation."""

    scene: ClassVar[str] = "reach"
    robots: ClassVar[tuple[str, ...]] = ("gripper", "arm")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("fewest", self.fewest, 1, self.most)

    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """Scatter things; the first is the target. The tip starts anywhere above them."""
        count = int(rng.integers(self.fewest, self.most + 1))
        things = assortment(rng, count, SHAPES, tuple(COLOURS), self.twin)
        places = scatter(rng, count, SPREAD, APART)
        world.reset(tip=rng.uniform((-0.2, -0.2, 0.12), (0.2, 0.2, 0.22)))
        put_down(world, "thing", things, places, rng)
        phrase = PHRASES[int(rng.integers(len(PHRASES)))]
        return Goal(("thing0",), phrase.format(describe(things[0], things, rng, "object")))

    def success(self, world: World, goal: Goal) -> bool:
        """The tip is within RADIUS of the target's upper side."""
        return math.dist(world.object_top(goal.slots[0]), world.tip_position) <= RADIUS

    def expert(self, world: World, goal: Goal) -> Target:
        """Straight there along the table, staying overhead until the target is below."""
        top = world.object_top(goal.slots[0])
        away = float(np.linalg.norm(top[:2] - world.tip_position[:2]))
        # A cone over the target: descend while closing in, and never through a neighbour.
        height = np.clip(top[2] + 0.005 + 1.5 * (away - 0.03), top[2] + 0.005, OVERHEAD)
        return Target(np.array([top[0], top[1], height]))
