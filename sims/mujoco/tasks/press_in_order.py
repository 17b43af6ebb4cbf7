"""Press in order: push the buttons that the instruction names down, one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sims.mujoco import skills
from sims.mujoco.placing import put_down, scatter
from sims.mujoco.task import Goal, Target, Task
from sims.mujoco.things import COLOURS, DARK, Thing
from sims.ranges import check_range, within

if TYPE_CHECKING:
    from sims.mujoco.world import World

DOWN = 0.009
"""A cap that has gone so far is pressed, metres."""
SPREAD, APART = 0.19, 0.11
"""Buttons stand within SPREAD of the table's centre along each axis, APART from each other, metres."""

FIRST = ("press the {}", "push the {}", "hit the {}")
NEXT = (", then the {}", " and then the {}", ", next the {}")


@dataclass(frozen=True)
class PressInOrder(Task):
    """Press the named buttons in the named order. A pressed button goes dark; a wrong one lights all of them again."""

    presses: int = within(3, 1, 4)
    """Buttons to press, 1 to 4."""
    buttons: int = 4
    """Buttons on the table, up to 5."""
    horizon: int = within(60, 1, 10_000)
    """Steps until truncation."""

    scene: ClassVar[str] = "press_in_order"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("buttons", self.buttons, self.presses, 5)

    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """Scatter buttons of different colours; the first ones are to be pressed, in their order."""
        colours = [str(colour) for colour in rng.permutation(list(COLOURS))[: self.buttons]]
        world.reset(tip=rng.uniform((-0.15, -0.15, 0.12), (0.15, 0.15, 0.2)))
        buttons = [Thing(colour, "button") for colour in colours]
        put_down(world, "button", buttons, scatter(rng, self.buttons, SPREAD, APART))
        world.memory = {"pressed": []}
        first, then = FIRST[int(rng.integers(len(FIRST)))], NEXT[int(rng.integers(len(NEXT)))]
        named = [f"{colour} button" if rng.random() < 0.7 else f"{colour} one" for colour in colours[: self.presses]]
        words = first.format(f"{colours[0]} button") + "".join(then.format(each) for each in named[1:])
        return Goal(tuple(f"button{i}" for i in range(self.presses)), words)

    def advance(self, world: World, goal: Goal) -> None:
        """Put the lamp of a button out that is pressed in its turn; light all of them after one that is not."""
        pressed: list[str] = world.memory["pressed"]
        for slot in world.shown:
            if world.travel(slot) <= DOWN or slot in pressed:
                continue
            if len(pressed) < len(goal.slots) and slot == goal.slots[len(pressed)]:
                pressed.append(slot)
                world.paint(slot, DARK)
            else:
                for lit in pressed:
                    world.paint(lit, COLOURS[world.shown[lit].colour])
                pressed.clear()

    def success(self, world: World, goal: Goal) -> bool:
        """All are pressed, in their order."""
        return world.memory["pressed"] == list(goal.slots)

    def expert(self, world: World, goal: Goal) -> Target:
        """Over the next one, and down."""
        following = goal.slots[len(world.memory["pressed"]) % len(goal.slots)]
        return skills.press(world, following)
