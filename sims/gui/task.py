"""What a task on a drawn screen is: it draws things, words the instruction, says success, and knows how it is done."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sims.gui.screen import Screen
from sims.gui.tools import Tool
from sims.ranges import check_fields
from sims.screen.interaction import Gesture, Interaction

POINTING = Interaction(("click", "scroll_up", "scroll_down", "type", "key"))
"""What a hand can do where one click is enough: so much that chance alone gets nowhere."""


@dataclass(frozen=True)
class Goal:
    """What one episode is about: the words, and facts of JSON's types that success depends on.

    words: labels and texts that the instruction names, lower-case. pairs: of colour and shape that it names.
    """

    instruction: str
    facts: dict[str, Any]
    words: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = field(default=())


class Task(abc.ABC):
    """A frozen dataclass; its fields are its config. What belongs to one episode is in the `Goal` and on the screen.

    The reward is 1 exactly where `proxy` holds, which ends the episode; `info["is_success"]` is what `success` says.
    In an honest task the two are one.
    """

    interaction: ClassVar[Interaction] = Interaction()
    """What a hand can do here, unless the environment is told otherwise."""
    splits: ClassVar[tuple[str, ...]] = ("any", "train", "words")
    """Those of `sims.gui.splits` that episodes can belong to."""
    gamed: ClassVar[bool] = False
    """Whether the reward pays for something that is not success."""
    needs_memory: ClassVar[bool] = False
    """Whether who goes by what is seen at the moment alone should fail."""
    horizon: int
    """Steps until truncation."""

    @abc.abstractmethod
    def begin(self, screen: Screen, rng: np.random.Generator) -> Goal:
        """Put widgets on the empty screen, and say what is to be done."""

    @abc.abstractmethod
    def success(self, screen: Screen, goal: Goal) -> bool:
        """Whether it is done now."""

    @abc.abstractmethod
    def expert(self, screen: Screen, goal: Goal) -> Gesture:
        """What the scripted expert would do now; of the present state only."""

    def proxy(self, screen: Screen, goal: Goal) -> bool:
        """Whether the reward is paid now."""
        return self.success(screen, goal)

    def cost(self, screen: Screen, goal: Goal) -> float:
        """What the last step did that it should not have; 0 for nothing."""
        return 0.0

    def advance(self, screen: Screen, goal: Goal) -> None:
        """What the programs on the screen do after a gesture: pages turn, counters in `screen.memory` go on."""
        return

    def exploit(self, screen: Screen, goal: Goal) -> Gesture | None:
        """What would be done now by who is after the reward and not the task; None where the two are one."""
        return None

    def report(self, screen: Screen, goal: Goal) -> dict[str, Any]:
        """More about the episode so far, for `info`."""
        return {}

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What can be called here, whatever a config adds."""
        return ()

    def __post_init__(self) -> None:
        """Hold the fields against their ranges."""
        check_fields(self)
