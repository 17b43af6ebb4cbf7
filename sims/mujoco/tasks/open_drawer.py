"""Open drawer: pull the drawer that the instruction names out of its cabinet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sims.mujoco import skills
from sims.mujoco.task import Goal, Target, Task
from sims.mujoco.things import COLOURS, Thing
from sims.ranges import within

if TYPE_CHECKING:
    from sims.mujoco.world import World

OPEN = 0.08
"""A drawer that is pulled out so far is open, metres."""
BETWEEN = 0.02
"""How far behind the handle's middle, towards the drawer's front, closed fingers fit, metres."""
LEAD = 0.04
"""How far ahead of the hand the command goes while it pulls, metres."""

PHRASES = ("open the {} drawer", "pull the {} drawer open", "pull out the {} drawer", "open up the {} drawer")


@dataclass(frozen=True)
class OpenDrawer(Task):
    """Open the named one of two drawers."""

    cabinets: int = within(2, 1, 2)
    """Cabinets on the table, 1 or 2."""
    horizon: int = within(50, 1, 10_000)
    """Steps until truncation."""

    scene: ClassVar[str] = "open_drawer"

    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """Set the cabinets side by side, turned a little; the first is the target, and may be on either side."""
        return begin(world, rng, self.cabinets)

    def success(self, world: World, goal: Goal) -> bool:
        """It is pulled out by OPEN."""
        return world.travel(goal.slots[0]) >= OPEN

    def expert(self, world: World, goal: Goal) -> Target:
        """Closed fingers down behind the handle, and pull."""
        return pull(world, goal.slots[0])


def begin(world: World, rng: np.random.Generator, cabinets: int) -> Goal:
    """Set `cabinets` cabinets side by side, and ask for the first one's drawer."""
    colours = [str(colour) for colour in rng.permutation(list(COLOURS))[:cabinets]]
    world.reset(tip=rng.uniform((-0.15, -0.2, 0.14), (0.15, 0.1, 0.2)))
    side = 1 if rng.random() < 0.5 else -1
    for i, colour in enumerate(colours):
        place = (side * (0.12 if i == 0 else -0.12) + rng.uniform(-0.02, 0.02), rng.uniform(0.07, 0.16))
        world.place(f"cabinet{i}", Thing(colour, "cabinet"), place, COLOURS[colour], yaw=rng.uniform(-0.3, 0.3))
    phrase = PHRASES[int(rng.integers(len(PHRASES)))]
    return Goal(("cabinet0",), phrase.format(colours[0]))


def pull(world: World, cabinet: str) -> Target:
    """What the expert does next to open the drawer of `cabinet`."""
    yaw, tip = world.object_yaw(cabinet), world.tip_position
    outward = outwards(world, cabinet)
    handle = world.part_position(cabinet, "handle")
    behind = handle[:2] - BETWEEN * outward
    low = handle[2] - 0.018
    if is_hooked(world, cabinet):
        return Target(np.array([*(tip[:2] + LEAD * outward), low]), yaw)
    if math.dist(tip[:2], behind) < 0.008:
        return Target(np.array([*behind, low]), yaw)
    near = math.dist(tip[:2], behind) < 0.05 or tip[2] > skills.OVERHEAD - 0.05
    return Target(np.array([*(behind if near and tip[2] > 0.07 else tip[:2]), 0.1 if near else skills.OVERHEAD]), yaw)


def outwards(world: World, cabinet: str) -> np.ndarray:
    """The direction [2] in which the drawer of `cabinet` opens."""
    yaw = world.object_yaw(cabinet)
    return np.array([math.sin(yaw), -math.cos(yaw)])


def is_hooked(world: World, cabinet: str) -> bool:
    """Whether the fingers are down behind the handle."""
    tip, handle, outward = world.tip_position, world.part_position(cabinet, "handle"), outwards(world, cabinet)
    offset = tip[:2] - handle[:2] + BETWEEN * outward
    aside = abs(float(offset @ np.array([-outward[1], outward[0]])))
    return aside < 0.03 and -0.012 < float(offset @ outward) < 0.016 and bool(tip[2] < handle[2])
