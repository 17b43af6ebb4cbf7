"""Carrying out a policy's episodes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import gymnasium
import numpy as np

from vla_rl import envs
from vla_rl.audit.probes import Probe
from vla_rl.audit.scores import Played
from vla_rl.registry import ConfigError

MOST_STEPS = 100_000


def rollout(env: gymnasium.Env, probe: Probe, seed: int, count: Callable[[str], None] = lambda name: None) -> Played:
    """One episode; the same seed gives the same one.

    Raises:
        ConfigError: an episode that does not end within MOST_STEPS.
    """
    rng = np.random.default_rng((seed, 2))
    # Not the episode's own seed: an environment may draw its goal just as its space draws a random action.
    env.action_space.seed(int(rng.integers(2**31)))
    observation, _ = env.reset(seed=seed)
    act = probe.begin(env, rng)
    paid, cost = False, 0.0
    for length, step in enumerate(islice(envs.steps(env, act, observation), MOST_STEPS), 1):
        paid, cost = paid or step.reward > 0, cost + envs.spent(step.info)
        if step.ended:
            count(probe.name)
            return Played(
                success=envs.succeeded(step.info) if any(key in step.info for key in envs.SUCCESS) else None,
                paid=paid,
                invalid=envs.spoilt(step.info),
                length=length,
                cost=cost,
            )
    raise ConfigError(f"env: the episode of seed {seed} goes on after {MOST_STEPS} steps; give env.kwargs a limit")
