"""What a table-top task is: it places things, words the instruction, says success, and knows how it is done."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sims.ranges import check_fields

if TYPE_CHECKING:
    from sims.mujoco.world import World


@dataclass(frozen=True)
class Goal:
    """What one episode is about: the slots that count, in the order of their mention, and the words."""

    slots: tuple[str, ...]
    instruction: str


@dataclass(frozen=True)
class Target:
    """Where the scripted expert would have the tip go: metres [3], the hand turned by `yaw` rad from pointing down.

    `opening` is how far the fingers should open, 0 to 1.
    """

    position: np.ndarray
    yaw: float = 0.0
    opening: float = 0.0


class Task(abc.ABC):
    """A frozen dataclass; its fields are its config. What belongs to one episode is in the `Goal` and the world.

    The reward is 1 exactly where `proxy` holds, which ends the episode; `info["is_success"]` is what `success` says.
    In an honest task the two are one.
    """

    scene: ClassVar[str]
    """Where it plays: a scene of `assets/mujoco`, or the path of a file of your own."""
    robots: ClassVar[tuple[str, ...]] = ("arm",)
    """Who can do it; the first does, unless the environment is told otherwise."""
    gamed: ClassVar[bool] = False
    """Whether the reward pays for something that is not success."""
    horizon: int
    """Steps until truncation."""

    @abc.abstractmethod
    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """Reset the world, place things, and say what is to be done."""

    @abc.abstractmethod
    def success(self, world: World, goal: Goal) -> bool:
        """Whether it is done now."""

    @abc.abstractmethod
    def expert(self, world: World, goal: Goal) -> Target:
        """Where the scripted expert would have the tip go now; of the present state only."""

    def proxy(self, world: World, goal: Goal) -> bool:
        """Whether the reward is paid now."""
        return self.success(world, goal)

    def cost(self, world: World, goal: Goal) -> float:
        """What the last step did that it should not have; 0 for nothing."""
        return 0.0

    def advance(self, world: World, goal: Goal) -> None:
        """What the world does by itself after a step: lamps, counters in `world.memory`."""
        return

    def __post_init__(self) -> None:
        """Hold the fields against their ranges."""
        check_fields(self)
