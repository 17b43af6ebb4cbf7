"""Pick: grip the thing that the instruction names and lift it off the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sims.mujoco import skills
from sims.mujoco.placing import assortment, describe, put_down, scatter
from sims.mujoco.task import Goal, Target, Task
from sims.mujoco.things import COLOURS
from sims.ranges import check_range, within

if TYPE_CHECKING:
    from sims.mujoco.world import World

SHAPES = ("cube", "cylinder", "bar")
"""Shapes that stay where they are put."""
LIFTED = 0.06
"""How high above the table the thing's lower side must be, metres."""
SPREAD, APART = 0.18, 0.13
"""Things lie within SPREAD of the table's centre along each axis, APART from each other, metres."""

PHRASES = ("pick up the {}", "pick the {}", "grasp the {}", "grab the {}", "lift the {}", "take the {}", "raise the {}")


@dataclass(frozen=True)
class Pick(Task):
    """Grip the named one of several things and lift it."""

    fewest: int = 2
    """Things on the table, at least."""
    most: int = within(4, 1, 4)
    """Things on the table, at most."""
    twin: float = within(0.3, 0, 1)
    """How often a distractor has the target's colour, so that the shape decides."""
    horizon: int = within(40, 1, 10_000)
    """Steps until truncation."""

    scene: ClassVar[str] = "pick"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("fewest", self.fewest, 1, self.most)

    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """Scatter things; the first is the target. The hand starts anywhere above them."""
        count = int(rng.integers(self.fewest, self.most + 1))
        things = assortment(rng, count, SHAPES, tuple(COLOURS), self.twin)
        world.reset(tip=rng.uniform((-0.15, -0.15, 0.14), (0.15, 0.15, 0.22)))
        put_down(world, "object", things, scatter(rng, count, SPREAD, APART), rng)
        phrase = PHRASES[int(rng.integers(len(PHRASES)))]
        return Goal(("object0",), phrase.format(describe(things[0], things, rng, "object")))

    def success(self, world: World, goal: Goal) -> bool:
        """Both fingers hold it, LIFTED above the table."""
        slot = goal.slots[0]
        return world.held(slot) and world.bottom(slot) > LIFTED

    def expert(self, world: World, goal: Goal) -> Target:
        """Over it, down, close, up; again where it was lost."""
        slot = goal.slots[0]
        return skills.fetch(world, slot) or Target(
            np.array([*world.tip_position[:2], skills.OVERHEAD]), skills.grip_yaw(world, slot)
        )
