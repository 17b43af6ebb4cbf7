"""Asking the scripted expert of an environment, whatever is wrapped around it."""

from __future__ import annotations

from typing import Any

import gymnasium

from vla_rl.actions.fit import fitted
from vla_rl.registry import ConfigError

EXPERT = "expert_action"
"""The method of `specs.Expert`."""
_KEEP_ACTIONS = (gymnasium.wrappers.ClipAction, gymnasium.wrappers.StickyAction)
"""Wrappers of actions to which the actions inside mean what they mean there."""


def without_expert(env: gymnasium.Env) -> str:
    """Why `expert_action` has nobody to ask, in words; "" where it has."""
    layer, changed = env, list[gymnasium.Wrapper]()
    while isinstance(layer, gymnasium.Wrapper) and not hasattr(layer, EXPERT):
        if _changes_actions(layer):
            changed.append(layer)
        layer = layer.env
    if not hasattr(layer, EXPERT):
        return f"it has no scripted expert (a method `{EXPERT}()`)"
    if not changed:
        return ""
    wrapper, inner = type(changed[0]).__name__, type(layer).__name__
    return (
        f"its wrapper {wrapper} changes the actions, and the scripted expert of {inner} answers with those of {inner}; "
        f"give {wrapper} a method `{EXPERT}()` that makes an action of {changed[0].action_space} of what "
        f"`self.env.get_wrapper_attr({EXPERT!r})()` returns"
    )


def expert_action(env: gymnasium.Env) -> Any:
    """What the scripted expert would do now, an action of `env.action_space`; of several the outermost is asked.

    Raises:
        ConfigError: there is none, one inside a wrapper that changes the actions, or one whose answer is no action.
    """
    why = without_expert(env)
    if why:
        raise ConfigError(f"env: {type(env.unwrapped).__name__}: {why}")
    action = env.get_wrapper_attr(EXPERT)()
    try:
        return fitted(action, env.action_space)
    except ValueError as error:
        raise ConfigError(f"env: the answer of its `{EXPERT}()` is no action of the environment: {error}") from error


def _changes_actions(layer: gymnasium.Wrapper) -> bool:
    if isinstance(layer, _KEEP_ACTIONS):
        return False
    if isinstance(layer, gymnasium.ActionWrapper):
        return True
    return layer.action_space is not layer.env.action_space and layer.action_space != layer.env.action_space
