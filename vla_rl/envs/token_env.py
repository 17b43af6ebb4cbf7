"""Environments that take decisions: the K tokens of one become an action, or a chunk of actions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from vla_rl import registry
from vla_rl.actions import Commands, horizon
from vla_rl.actions.fit import prove
from vla_rl.envs.make import earned, spent
from vla_rl.registry import ConfigError
from vla_rl.specs import COST, ActionSpace

SUITS: dict[type[gymnasium.Space], str] = {
    Commands: "command",
    gymnasium.spaces.Box: "binned",
    gymnasium.spaces.Discrete: "choice",
    gymnasium.spaces.MultiDiscrete: "choice",
    gymnasium.spaces.MultiBinary: "choice",
    gymnasium.spaces.Dict: "compose",
    gymnasium.spaces.Tuple: "compose",
    gymnasium.spaces.OneOf: "variant",
}
"""The action space to try first for each kind of Gymnasium's; commands are a Dict of their own."""


class TokenEnv(gymnasium.Wrapper):
    """Takes decisions (tokens int64 [K]) and carries out the action, or the chunk of actions, behind them.

    The reward of a chunk is the undiscounted sum over its steps; it ends early with the episode.
    `info["steps"]` counts the simulator steps of the decision, and `info["cost"]`, where there is one, sums up theirs.
    """

    def __init__(self, env: gymnasium.Env, tokens: ActionSpace) -> None:
        super().__init__(env)
        self.tokens = tokens
        self.action_space = gymnasium.spaces.MultiDiscrete([slot.choices for slot in tokens.slots])

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        decoded = self.tokens.decode(np.array(action, np.int64))  # the environment may change what it is given
        total, cost, steps = 0.0, 0.0, 0
        for primitive in decoded if horizon(self.tokens) > 1 else (decoded,):
            observation, reward, terminated, truncated, info = self.env.step(primitive)
            total, cost, steps = total + earned(reward, info), cost + spent(info), steps + 1
            if terminated or truncated:
                break
        told = {COST: cost} if COST in info else {}
        return observation, total, terminated, truncated, {**info, **told, "steps": steps}


def token_factory(make: partial[gymnasium.Env], tokens: ActionSpace) -> partial[gymnasium.Env]:
    """A picklable maker of what `make` makes, taking decisions."""
    return partial(_token_env, make, tokens)


def _token_env(make: partial[gymnasium.Env], tokens: ActionSpace) -> gymnasium.Env:
    return TokenEnv(make(), tokens)


def bind_tokens(config: Any, space: gymnasium.Space, plugins: Sequence[str] = ()) -> ActionSpace:
    """The action space of the config, fitted to the environment's, and proven to carry out what it encodes.

    Raises:
        ConfigError: unknown component, or one that does not fit.
    """
    component = registry.build("action_spaces", config, plugins, path="action_space")
    try:
        bound = component.bind(space)
        prove(bound, space)
        return bound
    except ValueError as error:
        fits = next((name for kind, name in SUITS.items() if isinstance(space, kind)), None)
        given = registry.describe(component, "action_spaces")["type"]
        hint = f"; for a {type(space).__name__} there is action_space.type={fits}" if fits not in (None, given) else ""
        raise ConfigError(f"action_space: {error}{hint}") from error
