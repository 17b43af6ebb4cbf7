"""What a table-top task is: it places things, words the instruction, says success, and knows how it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from sims.mujoco.world import World


@dataclass(frozen=True)
class Goal:
    """What one episode is about: the slots that count, in the order of their mention, and the words."""

    slots: tuple[str, ...]
    instruction: str


class Task(Protocol):
    """A frozen dataclass; its fields are its config. What belongs to one episode is in the `Goal`."""

    @property
    def scene(self) -> str:
        """The scene of `assets/mujoco` that it plays in."""

    @property
    def horizon(self) -> int:
        """Steps until truncation."""

    def begin(self, world: World, rng: np.random.Generator) -> Goal:
        """Place things in a world that was just reset, and say what is to be done."""

    def success(self, world: World, goal: Goal) -> bool:
        """Whether it is done now."""

    def expert(self, world: World, goal: Goal) -> np.ndarray:
        """Where the scripted expert would have the commanded position go now [3], metres; of the present state only."""


def check_count(field: str, value: int, low: int, high: int) -> None:
    """Raise ValueError unless `low` <= `value` <= `high`."""
    if not low <= value <= high:
        raise ValueError(f"{field} must lie in [{low}, {high}], got {value}")
