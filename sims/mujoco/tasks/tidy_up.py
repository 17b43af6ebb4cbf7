"""Tidy up: open the drawer, put the named thing into it, press the named button; a long task made of three."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sims.mujoco import skills
from sims.mujoco.placing import assortment, describe, put_down, scatter_between
from sims.mujoco.task import Goal, Target, Task
from sims.mujoco.tasks.open_drawer import is_hooked, outwards, pull
from sims.mujoco.tasks.place import rests
from sims.mujoco.tasks.press_in_order import DOWN
from sims.mujoco.things import COLOURS, DARK, Thing
from sims.ranges import within

if TYPE_CHECKING:
    from sims.mujoco.world import World

SHAPES = ("cube", "cylinder")
"""Things that fit into the drawer."""
OPEN, WIDE_OPEN = 0.06, 0.085
"""How far the drawer must be pulled out, and how far the expert pulls it, metres."""
INSIDE = (0.055, 0.05)
"""How far the thing's centre may be off the drawer's middle, across and along it, metres."""
APART = 0.115
"""Things and buttons are so far from each other, metres."""

PHRASES = (
    "open the {} drawer, put the {} into it and press the {} button",
    "open the {} drawer, place the {} inside, then push the {} button",
    "pull the {} drawer open, drop the {} in, then press the {} button",
)


@dataclass(frozen=True)
class TidyUp(Task):
    """Open the drawer, put the named thing into it, and then press the named button, in this order."""

    things: int = within(2, 1, 3)
    """Things on the table, 1 to 3."""
    horizon: int = within(140, 1, 10_000)
    """Steps until truncation."""

    scene: ClassVar[str] = "tidy_up"

    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """The cabinet on one side, things and two buttons on the other."""
        colours = tuple(str(colour) for colour in rng.permutation(list(COLOURS)))
        things = assortment(rng, self.things, SHAPES, colours[3:], 0.0)
        side = 1 if rng.random() < 0.5 else -1
        places = scatter_between(rng, self.things + 2, (-0.2, -0.2), (-0.01, 0.2), APART)
        places[:, 0] *= side
        world.reset(tip=rng.uniform((-0.12, -0.15, 0.17), (0.12, 0.0, 0.22)))
        cabinet = (side * rng.uniform(0.13, 0.15), rng.uniform(0.1, 0.16))
        world.place("cabinet0", Thing(colours[0], "cabinet"), cabinet, COLOURS[colours[0]], rng.uniform(-0.2, 0.2))
        put_down(world, "object", things, places[2:], rng)
        put_down(world, "button", [Thing(colour, "button") for colour in colours[1:3]], places[:2])
        world.memory = {"pressed": False}
        phrase = PHRASES[int(rng.integers(len(PHRASES)))]
        words = phrase.format(colours[0], describe(things[0], things, rng, "object"), colours[1])
        return Goal(("cabinet0", "object0", "button0"), words)

    def advance(self, world: World, goal: Goal) -> None:
        """The button's lamp goes out when it is pressed after the thing was put away, not before."""
        cabinet, thing, button = goal.slots
        if world.travel(button) > DOWN and is_in_drawer(world, thing, cabinet) and rests(world, thing):
            world.memory["pressed"] = True
            world.paint(button, DARK)

    def success(self, world: World, goal: Goal) -> bool:
        """The thing lies in the open drawer, and the button was pressed since."""
        cabinet, thing, _ = goal.slots
        put_away = world.travel(cabinet) >= OPEN and is_in_drawer(world, thing, cabinet)
        return bool(world.memory["pressed"]) and put_away

    def expert(self, world: World, goal: Goal) -> Target:
        """Pull the drawer open, fetch the thing, set it down inside, press the button."""
        cabinet, thing, button = goal.slots
        inside, held = is_in_drawer(world, thing, cabinet), world.held(thing)
        if inside and not held:
            if world.robot.opening > 0.5 and world.tip_position[2] < skills.OVERHEAD - 0.05:
                return Target(skills.above(world.tip_position, 0.04), world.object_yaw(cabinet), opening=1.0)
            return skills.press(world, button)
        hooked = is_hooked(world, cabinet)
        # A drawer that was opened is not pulled again because a leaving hand nudged it.
        if world.travel(cabinet) < (WIDE_OPEN if hooked else OPEN + 0.01) and not held:
            return pull(world, cabinet)
        if hooked:
            return Target(skills.above(world.tip_position, 0.04), world.object_yaw(cabinet))
        yaw = world.object_yaw(cabinet)
        place = exposed(world, cabinet)
        fetching = skills.fetch(world, thing) or skills.carry(world, place, yaw, near=0.008)
        return fetching or skills.lower(world, thing, place, bottom=0.02, yaw=yaw)


def exposed(world: World, cabinet: str) -> np.ndarray:
    """The middle of what the drawer shows in front of its cabinet [2], metres."""
    outward = outwards(world, cabinet)
    front = float((world.part_position(cabinet, "front") - world.footprint(cabinet))[:2] @ outward)
    return world.footprint(cabinet)[:2] + (0.06 + front) / 2 * outward


def is_in_drawer(world: World, thing: str, cabinet: str) -> bool:
    """Whether the centre of what `thing` shows is inside the drawer, below the cabinet's top."""
    yaw = world.object_yaw(cabinet)
    x, y, z = world.object_position(thing) - world.part_position(cabinet, "trim_floor")
    across, along = math.cos(yaw) * x + math.sin(yaw) * y, math.cos(yaw) * y - math.sin(yaw) * x
    return abs(across) <= INSIDE[0] and abs(along) <= INSIDE[1] and bool(z < 0.055)
