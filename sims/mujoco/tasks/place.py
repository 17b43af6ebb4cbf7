"""Place: put the thing that the instruction names into the container that it names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sims.mujoco import skills
from sims.mujoco.placing import assortment, describe, put_down, scatter
from sims.mujoco.task import Goal, Target, Task
from sims.mujoco.tasks.pick import SHAPES
from sims.mujoco.things import COLOURS, Thing
from sims.ranges import within

if TYPE_CHECKING:
    from sims.mujoco.world import World

CONTAINERS = ("tray", "plate")
FLOOR = {"tray": 0.006, "plate": 0.01}
"""How high above the table things lie in a container, metres."""
INSIDE = 0.045
"""How near the thing's centre must come to the container's along the table, metres."""
STILL = 0.05
"""A thing that is slower lies, m/s."""
SPREAD, APART = 0.185, 0.135
"""Things and containers lie within SPREAD of the table's centre along each axis, APART from each other, metres."""

PHRASES = ("put the {} {} the {}", "place the {} {} the {}", "drop the {} {} the {}", "lay the {} {} the {}")


@dataclass(frozen=True)
class Place(Task):
    """Put the named one of several things into the named one of several containers, and let go."""

    things: int = within(2, 1, 3)
    """Things on the table, 1 to 3."""
    containers: int = within(2, 1, 3)
    """Containers on the table, 1 to 3."""
    twin: float = within(0.3, 0, 1)
    """How often another thing, or container, has the target's colour, so that the shape decides."""
    horizon: int = within(60, 1, 10_000)
    """Steps until truncation."""

    scene: ClassVar[str] = "place"

    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """Scatter things and containers; the first of each counts. No container has the colour of a thing."""
        colours = tuple(str(colour) for colour in rng.permutation(list(COLOURS)))
        things = assortment(rng, self.things, SHAPES, colours[:4], self.twin)
        containers = assortment(rng, self.containers, CONTAINERS, colours[4:], self.twin)
        places = scatter(rng, self.things + self.containers, SPREAD, APART)
        world.reset(tip=rng.uniform((-0.15, -0.15, 0.14), (0.15, 0.15, 0.22)))
        put_down(world, "object", things, places[: self.things], rng)
        put_down(world, "container", containers, places[self.things :])
        phrase = PHRASES[int(rng.integers(len(PHRASES)))]
        named = (describe(things[0], things, rng, "object"), preposition(containers[0]), containers[0])
        return Goal(("object0", "container0"), phrase.format(*named))

    def success(self, world: World, goal: Goal) -> bool:
        """It lies in the container, low and still, and the robot does not touch it."""
        thing, container = goal.slots
        return is_over(world, thing, container, INSIDE) and rests(world, thing) and world.touching(thing, container)

    def expert(self, world: World, goal: Goal) -> Target:
        """Fetch it, carry it over the container, down, let go, up."""
        thing, container = goal.slots
        place = world.footprint(container)[:2]
        if is_over(world, thing, container, INSIDE) and not world.held(thing):
            return Target(np.array([*world.tip_position[:2], skills.OVERHEAD]), opening=1.0)
        floor = FLOOR[world.shown[container].shape] + 0.003
        return skills.fetch(world, thing) or skills.carry(world, place) or skills.lower(world, thing, place, floor)


def preposition(container: Thing) -> str:
    """One puts things into a tray and onto a plate."""
    return "into" if container.shape == "tray" else "onto"


def is_over(world: World, thing: str, other: str, radius: float) -> bool:
    """Whether, seen from above, the centre of `thing` is within `radius` (metres) of the footprint of `other`."""
    return math.dist(world.object_position(thing)[:2], world.footprint(other)[:2]) <= radius


def rests(world: World, thing: str) -> bool:
    """Whether the robot has let go of what `thing` shows and it lies still."""
    return not world.touched(thing) and world.speed(thing) < STILL
