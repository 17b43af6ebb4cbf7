"""Where an environment stands in the middle of an episode, as far as it can tell: taken, and gone on from.

An environment that can has two methods: `snapshot()` gives arrays and values of JSON's types, lists, tuples and dicts
of them, and `restore(snapshot)` has one that was made with the same arguments go on from there bit by bit.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from vla_rl.envs.token_env import TokenEnv

FORGETFUL = (OrderEnforcing, PassiveEnvChecker, TokenEnv)
"""Wrappers that know nothing of an episode, once it has begun."""


def snapshot_of(env: gymnasium.Env) -> dict[str, Any] | None:
    """What `restore_to` goes on from; None where the environment cannot tell, or a wrapper may remember something."""
    limits, inner = _split(env)
    if inner is None:
        return None
    return {"state": inner.snapshot(), "elapsed": [limit._elapsed_steps for limit in limits]}


def restore_to(env: gymnasium.Env, snapshot: dict[str, Any]) -> None:
    """Have an environment that has begun an episode go on from what `snapshot_of` gave.

    Raises:
        ValueError: it cannot. What the environment itself raises is of any kind.
    """
    limits, inner = _split(env)
    if inner is None or len(limits) != len(snapshot["elapsed"]):
        raise ValueError("the snapshot is of another environment")
    inner.restore(snapshot["state"])
    for limit, elapsed in zip(limits, snapshot["elapsed"], strict=True):
        limit._elapsed_steps = elapsed


def _split(env: gymnasium.Env) -> tuple[list[TimeLimit], Any]:
    """The limits of steps around what can tell where it stands; None for that where there is no such thing."""
    limits = list[TimeLimit]()
    while not (callable(getattr(type(env), "snapshot", None)) and callable(getattr(type(env), "restore", None))):
        if isinstance(env, TimeLimit):
            limits.append(env)
        elif not isinstance(env, FORGETFUL):
            return limits, None
        env = env.env
    return limits, env
