"""One environment that somebody acts in, up to its episode's end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium

from vla_rl.envs.make import earned


@dataclass(frozen=True)
class Step:
    """What came of an action. reward: see `earned`. ended: whether the episode is over."""

    observation: Any
    reward: float
    ended: bool
    info: dict[str, Any]


def steps(env: gymnasium.Env, act: Callable[[Any], Any], observation: Any) -> Iterator[Step]:
    """What comes of acting as `act(observation)` says, from an observation on, until the episode has ended."""
    ended = False
    while not ended:
        observation, reward, terminated, truncated, info = env.step(act(observation))
        ended = bool(terminated or truncated)
        yield Step(observation, earned(reward, info), ended, info)
