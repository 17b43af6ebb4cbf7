"""Episodes that begin where an earlier one, which failed, stood: what comes late in a long task is met more often.

The distribution of starts becomes (1 - share) of the environment's own, and share of states on the way to failures
(VRRL, arXiv 2607.02490).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from vla_rl.envs.make import spoilt, succeeded
from vla_rl.envs.snapshots import restore_to, snapshot_of
from vla_rl.registry import ConfigError

_OWN = ("starts", "passed", "step", "done", "fresh")
KEPT = 8
"""So many starts of the latest failures are kept."""
STARTED = "failed_start"
"""In the `info` of a reset: whether the episode begins where a failed one stood."""


class FailedStarts(gymnasium.Wrapper):
    """Begins a share of its episodes where one of its latest failed episodes stood, at a step of that drawn evenly.

    Such an episode has the steps left that the failed one had, and is no start of others. What the environment draws
    from then on is new.
    The first episode after `reset(seed=...)` is always the seed's own.

    Raises:
        ConfigError: the environment cannot tell where it stands.
    """

    def __init__(self, env: gymnasium.Env, share: float) -> None:
        super().__init__(env)
        self.share = share
        self._rng = np.random.default_rng()
        self._starts: list[dict[str, Any]] = []
        self._passed: dict[str, Any] | None = None
        self._step, self._done, self._fresh = 0, False, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._passed, self._step, self._done, self._fresh = None, 0, False, True
        if seed is not None or not self._starts or self._rng.random() >= self.share:
            return observation, {**info, STARTED: False}
        self._fresh = False
        start = copy.deepcopy(self._starts[int(self._rng.integers(len(self._starts)))])
        generator = self.env.unwrapped.np_random
        drawn = copy.deepcopy(generator.bit_generator.state)
        restore_to(self.env, start["env"])
        # Else the episodes after this one would be those that came after the failed one, once more.
        self.env.unwrapped.np_random.bit_generator.state = drawn
        return start["observation"], {**start["info"], STARTED: True}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._done = self._done or succeeded(info)
        if terminated or truncated:
            if self._passed is not None and not self._done and not spoilt(info):
                self._starts = [*self._starts, self._passed][-KEPT:]
            self._passed = None
            return observation, reward, terminated, truncated, info
        self._step += 1
        # In the end, each step is as likely as another to be the one that is kept.
        if self._fresh and self._rng.random() < 1 / self._step:
            state = snapshot_of(self.env)
            if state is None:
                raise ConfigError("train.failed_starts: the environment cannot tell where it stands, so use 0")
            kinds = bool | int | float | str
            told = {key: value for key, value in info.items() if isinstance(value, kinds)}
            self._passed = copy.deepcopy({"env": state, "observation": observation, "info": told})
        return observation, reward, terminated, truncated, info

    def snapshot(self) -> dict[str, Any]:
        """Where it stands, and the starts that it keeps."""
        state = snapshot_of(self.env)
        if state is None:
            raise ValueError("the environment cannot tell where it stands")
        return {
            "env": state,
            "rng": self._rng.bit_generator.state,
            **{name: getattr(self, f"_{name}") for name in _OWN},
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a `snapshot`."""
        restore_to(self.env, snapshot["env"])
        self._rng.bit_generator.state = snapshot["rng"]
        for name in _OWN:
            setattr(self, f"_{name}", copy.deepcopy(snapshot[name]))


def with_failed_starts(make: Callable[[], gymnasium.Env], share: float) -> partial[gymnasium.Env]:
    """A picklable maker of what `make` makes, which begins a share of its episodes so."""
    return partial(_made, make, share)


def _made(make: Callable[[], gymnasium.Env], share: float) -> gymnasium.Env:
    return FailedStarts(make(), share)
