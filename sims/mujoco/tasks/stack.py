"""Stack: put one named cube on another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sims.mujoco import skills
from sims.mujoco.placing import put_down, scatter
from sims.mujoco.task import Goal, Target, Task
from sims.mujoco.tasks.place import is_over, rests
from sims.mujoco.things import COLOURS, Thing
from sims.ranges import within

if TYPE_CHECKING:
    from sims.mujoco.world import World

OVER, ON = 0.025, 0.012
"""How far the upper cube's centre may be off the lower's, and its lower side off the lower's top, metres."""
SPREAD, APART = 0.18, 0.13
"""Cubes lie within SPREAD of the table's centre along each axis, APART from each other, metres."""

PHRASES = (
    "stack the {} on the {}",
    "put the {} on top of the {}",
    "place the {} on the {}",
    "set the {} on the {}",
    "stack the {} on top of the {}",
)


@dataclass(frozen=True)
class Stack(Task):
    """Put the first named cube on the second, and let go; other cubes distract."""

    cubes: int = within(3, 2, 4)
    """Cubes on the table, 2 to 4."""
    horizon: int = within(60, 1, 10_000)
    """Steps until truncation."""

    scene: ClassVar[str] = "stack"

    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """Scatter cubes of different colours; the first goes on the second."""
        return begin(world, rng, self.cubes)

    def success(self, world: World, goal: Goal) -> bool:
        """The one rests on the other, and the robot does not touch it."""
        return is_stacked(world, goal)

    def expert(self, world: World, goal: Goal) -> Target:
        """Fetch it, carry it over the other, down, let go, up."""
        return stack(world, goal)


def begin(world: World, rng: np.random.Generator, cubes: int) -> Goal:
    """Scatter `cubes` cubes of different colours, and ask for the first on the second."""
    colours = [str(colour) for colour in rng.permutation(list(COLOURS))[:cubes]]
    things = [Thing(colour, "cube") for colour in colours]
    world.reset(tip=rng.uniform((-0.15, -0.15, 0.16), (0.15, 0.15, 0.22)))
    put_down(world, "object", things, scatter(rng, cubes, SPREAD, APART), rng)
    words = "{} block" if rng.random() < 0.3 else "{} cube"
    phrase = PHRASES[int(rng.integers(len(PHRASES)))]
    return Goal(("object0", "object1"), phrase.format(words.format(colours[0]), words.format(colours[1])))


def is_above(world: World, upper: str, lower: str, over: float = OVER, on: float = ON) -> bool:
    """Whether `upper` is over `lower` (metres off along the table) and no more than `on` above or below its top."""
    gap = world.bottom(upper) - float(world.object_top(lower)[2])
    return is_over(world, upper, lower, over) and abs(gap) <= on


def is_stacked(world: World, goal: Goal) -> bool:
    """Whether the goal's first slot rests on its second, and the robot does not touch it."""
    upper, lower = goal.slots
    return is_above(world, upper, lower) and world.touching(upper, lower) and rests(world, upper)


def stack(world: World, goal: Goal) -> Target:
    """What the expert does next to put the goal's first slot on its second."""
    upper, lower = goal.slots
    place, top = world.footprint(lower)[:2], float(world.object_top(lower)[2])
    if is_above(world, upper, lower) and not world.held(upper):
        return Target(np.array([*world.tip_position[:2], skills.OVERHEAD]), skills.grip_yaw(world, upper), opening=1.0)
    yaw = skills.grip_yaw(world, upper)
    fetching = skills.fetch(world, upper) or skills.carry(world, place, yaw, near=0.008)
    return fetching or skills.lower(world, upper, place, bottom=top + 0.004, yaw=yaw)
