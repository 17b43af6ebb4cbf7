"""A drawn screen for a hand that presses things by their name, as a program does that reads a page's elements."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from sims.gui.env import GuiEnv
from sims.screen.interaction import Gesture
from vla_rl.specs import Observation

WAIT = 0
"""The action that does nothing."""


class NamedScreen(gymnasium.Wrapper):
    """A task on a drawn screen whose actions are the things that its instruction names: eyes decide nothing.

    Action i = 1, 2, ... presses the thing that the instruction names i-th, or looks it up where it is no thing and the
    task has a table; where neither can be done, and for 0, it waits. What is left to learn is when to press what.

    Args:
        task: as `GuiEnv` takes it, and so are all other settings.
        named: so many things of an instruction can be pressed.
        starts: episodes begin in one of so many ways, always the same ones, so that states occur again; 0: in any.

    Raises:
        ValueError: counts out of their range.
    """

    def __init__(self, task: Any, named: int = 8, starts: int = 0, **settings: Any) -> None:
        if named < 1 or starts < 0:
            raise ValueError(f"named: at least 1, starts: at least 0; got {named}, {starts}")
        self.screen = GuiEnv(task, **settings)
        super().__init__(self.screen)
        self.starts = starts
        self.action_space = spaces.Discrete(named + 1)
        self._draws = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; of few `starts`, one that is drawn."""
        if not self.starts:
            return self.screen.reset(seed=seed, options=options)
        if seed is not None:
            self._draws = np.random.default_rng(seed)
        return self.screen.reset(seed=int(self._draws.integers(self.starts)), options=options)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Press, look up or wait."""
        words, chosen = self.screen.goal.words, int(action) - 1
        word = words[chosen] if 0 <= chosen < len(words) else ""
        return self.screen.step(self._pressing(word))

    def _pressing(self, word: str) -> dict[str, Any]:
        """The action of the screen that a word stands for."""
        pressed = next((action for text, action in self.screen.things() if text == word), None) if word else None
        if pressed is not None:
            return pressed
        looked_up = word and any(tool.name == "lookup" for tool in self.screen.tools)
        return self.screen.action(Gesture("lookup", text=word) if looked_up else Gesture("wait"))

    def expert_action(self) -> np.int64:
        """What the scripted expert would do now; it waits where no name says it."""
        wanted, words = self.screen.expert_action(), self.screen.goal.words
        for number, word in enumerate(words[: int(self.action_space.n) - 1]):  # type: ignore[attr-defined]
            if _alike(self._pressing(word), wanted):
                return np.int64(number + 1)
        return np.int64(WAIT)

    def snapshot(self) -> dict[str, Any]:
        """See `GuiEnv.snapshot`."""
        return {"screen": self.screen.snapshot(), "draws": self._draws.bit_generator.state}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """See `GuiEnv.restore`."""
        self.screen.restore(snapshot["screen"])
        self._draws.bit_generator.state = snapshot["draws"]


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(value, other[name]) for name, value in one.items())
