"""Who shows how it is done in another package's environment. They see more than the policy does."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from sims.adapters.world import ForeignWorld


class Expert(Protocol):
    """A frozen dataclass; its fields are its config."""

    def action(self, world: ForeignWorld) -> np.ndarray:
        """What to do now, of the environment's action space; it depends on the present state only."""


@dataclass(frozen=True)
class ToGoal:
    """Moves straight at the goal of a goal-conditioned arm, such as Fetch's: `gain` of the action a metre, clipped."""

    gain: float = 10.0

    def action(self, world: ForeignWorld) -> np.ndarray:
        """The first numbers of the action go from `achieved_goal` to `desired_goal`; the others are 0."""
        way = world.observation["desired_goal"] - world.observation["achieved_goal"]
        action = np.zeros(world.env.action_space.shape or (), np.float32)
        action[: len(way)] = np.clip(self.gain * way, -1, 1)
        return action


@dataclass(frozen=True)
class MetaWorldPolicy:
    """The scripted policy that Meta-World ships for the task."""

    def action(self, world: ForeignWorld) -> np.ndarray:
        """Its action, within the bounds. Raises ValueError where it has no policy for the task."""
        name = world.kwargs.get("env_name")
        policies = importlib.import_module("metaworld.policies").ENV_POLICY_MAP
        if name not in policies:
            raise ValueError(f"Meta-World ships no scripted policy for env_name={name!r}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that what it asks for is too much, which is clipped here
            wanted = policies[name]().get_action(world.observation)
        return np.clip(wanted, -1, 1).astype(np.float32)
