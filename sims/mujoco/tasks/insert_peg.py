"""Insert peg: put the peg that the instruction names into the socket that it names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sims.mujoco import skills
from sims.mujoco.placing import put_down, scatter
from sims.mujoco.task import Goal, Target, Task
from sims.mujoco.things import COLOURS, Thing
from sims.ranges import within

if TYPE_CHECKING:
    from sims.mujoco.world import World

CENTRED, DEEP, UPRIGHT = 0.008, 0.012, 0.95
"""In its socket a peg is so far off its middle at most (metres), its lower end so far above the table, so upright."""
CLEAR = 0.075
"""The lower end of a carried peg passes over the sockets at this height, metres."""
GRIP = 0.06
"""How high on the standing peg the tip grips, metres."""
CLOSE, RIM = 0.004, 0.045
"""So near the socket's middle the peg is lowered, from above the height of its walls, metres."""
SPREAD, APART = 0.17, 0.13
"""Pegs and sockets stand within SPREAD of the table's centre along each axis, APART from each other, metres."""

PHRASES = (
    "insert the {} peg into the {} socket",
    "put the {} peg into the {} socket",
    "plug the {} peg into the {} socket",
    "fit the {} peg in the {} socket",
)


@dataclass(frozen=True)
class InsertPeg(Task):
    """Put the named one of two pegs into the named one of two sockets, with 4 mm of room on each side."""

    pegs: int = within(2, 1, 2)
    """Pegs on the table, 1 or 2."""
    sockets: int = within(2, 1, 2)
    """Sockets on the table, 1 or 2."""
    horizon: int = within(60, 1, 10_000)
    """Steps until truncation."""

    scene: ClassVar[str] = "insert_peg"

    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """Stand pegs and sockets about; the first of each counts. All have different colours."""
        colours = [str(colour) for colour in rng.permutation(list(COLOURS))[: self.pegs + self.sockets]]
        places = scatter(rng, self.pegs + self.sockets, SPREAD, APART)
        world.reset(tip=rng.uniform((-0.15, -0.15, 0.19), (0.15, 0.15, 0.23)))
        put_down(world, "peg", [Thing(colour, "peg") for colour in colours[: self.pegs]], places[: self.pegs], rng)
        sockets = [Thing(colour, "socket") for colour in colours[self.pegs :]]
        put_down(world, "socket", sockets, places[self.pegs :])
        phrase = PHRASES[int(rng.integers(len(PHRASES)))]
        return Goal(("peg0", "socket0"), phrase.format(colours[0], sockets[0].colour))

    def success(self, world: World, goal: Goal) -> bool:
        """The peg stands in the socket."""
        peg, socket = goal.slots
        foot, middle = world.footprint(peg), world.footprint(socket)
        centred = math.dist(foot[:2], middle[:2]) <= CENTRED
        return centred and bool(foot[2] <= DEEP) and world.upright(peg) >= UPRIGHT

    def expert(self, world: World, goal: Goal) -> Target:
        """Fetch the peg by its upper half, carry it over the socket, and lower it in."""
        peg, socket = goal.slots
        fetching = skills.fetch(world, peg, height=float(world.footprint(peg)[2]) + GRIP)
        if fetching:
            return fetching
        place, foot, tip = world.footprint(socket)[:2], world.footprint(peg), world.tip_position
        # The peg's lower end is what must meet the socket, wherever it was gripped.
        aim = place + (tip[:2] - foot[:2])
        away = math.dist(foot[:2], place)
        if away > 0.02:
            lifted = foot[2] > CLEAR - 0.015
            return Target(np.array([*(aim if lifted else tip[:2]), tip[2] + CLEAR - foot[2]]))
        # Slowly, since a hand that moves is a few millimetres off.
        return Target(np.array([*aim, tip[2] - (0.0 if away > CLOSE and foot[2] > RIM else 0.012)]))
