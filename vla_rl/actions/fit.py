"""Whether actions are those of a space, and whether an action space carries out what it encodes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from gymnasium import spaces

from vla_rl.actions.tokens import allowed, check_tokens, compressed, horizon, uniform
from vla_rl.specs import ActionSpace

SAMPLES = 32
"""Random decisions, and random actions, that `prove` tries."""


def fitted(action: Any, space: spaces.Space) -> Any:
    """`action` with its numbers in the dtypes of the space, as an array where that is a Box.

    Raises:
        ValueError: it does not lie in the space.
    """
    try:
        found = _cast(action, space)
        if space.contains(found):
            return found
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{shown(action)} does not lie in {space}: {type(error).__name__} {error}") from error
    raise ValueError(f"{shown(action)} does not lie in {space}")


def prove(action_space: ActionSpace, space: spaces.Space) -> None:
    """Hold a bound action space against the environment's: does it carry out what it encodes?

    Random decisions must mean actions of the space, which are encoded as decisions of the same action. Random actions
    that can be encoded must come back as they were, but for the numbers of a Box, of which a decision has near ones;
    encoded again, those are the same decision. An action that is not encoded but refused does no harm. Where tokens are
    compressed, of all actions near ones come back.

    Raises:
        ValueError: it does not; the first such action is named.
    """
    name, own = type(action_space).__name__, copy.deepcopy(space)
    whole = spaces.Tuple([own] * horizon(action_space)) if horizon(action_space) > 1 else own
    whole.seed(0)
    near = compressed(action_space)

    def encoded(action: Any) -> np.ndarray:
        tokens = check_tokens(action_space.encode(action), action_space.slots)
        if not allowed(action_space, tokens):
            raise ValueError(f"{name}: {shown(action)} is encoded as {tokens.tolist()}, which its mask forbids")
        return tokens

    def meant(tokens: np.ndarray) -> Any:
        try:
            return fitted(action_space.decode(tokens), whole)
        except ValueError as error:
            raise ValueError(f"{name}: tokens {tokens.tolist()} mean no action: {error}") from error

    for tokens in uniform(action_space, np.random.default_rng(0), SAMPLES):
        action = meant(tokens)
        again = meant(encoded(action))
        if not _same(action, again, whole, near):
            raise ValueError(f"{name}: {shown(action)}, which tokens {tokens.tolist()} mean, becomes {shown(again)}")
    for _ in range(SAMPLES):
        action = whole.sample()
        try:
            tokens = encoded(action)
        except ValueError:
            continue
        again = meant(tokens)
        if not (_same(action, again, whole, near=True) and (near or np.array_equal(tokens, encoded(again)))):
            raise ValueError(
                f"{name}: the action {shown(action)} of {whole} would be carried out as {shown(again)}; choose an "
                "action space that tells them apart (`vla-rl list action_spaces`)"
            )


def shown(action: Any) -> str:
    """An action in an error, in short."""
    if isinstance(action, dict):
        return "{" + ", ".join(f"{key}: {shown(part)}" for key, part in action.items()) + "}"
    if isinstance(action, tuple):
        return f"({', '.join(map(shown, action))})"
    text = str(action.tolist() if isinstance(action, (np.ndarray, np.generic)) else action)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _cast(action: Any, space: spaces.Space) -> Any:
    if isinstance(space, spaces.Dict):
        return {**action, **{key: _cast(action[key], part) for key, part in space.items()}}
    if isinstance(space, spaces.Tuple):
        return tuple(_cast(each, space[i]) for i, each in enumerate(action))
    if isinstance(space, spaces.OneOf):
        kind = int(action[0])
        return (kind, _cast(action[1], space[kind]))
    if not isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        return action
    given = np.asarray(action)
    found = given.astype(space.dtype)
    # What a float is rounded to is what it says; anything else would be another action.
    return found if np.issubdtype(found.dtype, np.floating) or np.array_equal(found, given) else given


def _same(mine: Any, theirs: Any, space: spaces.Space, near: bool = False) -> bool:
    """Whether two actions of a space are one; with `near`, whatever numbers a Box holds."""
    if isinstance(space, spaces.Dict):
        return all(_same(mine[key], theirs[key], part, near) for key, part in space.items())
    if isinstance(space, spaces.Tuple):
        return all(_same(mine[i], theirs[i], part, near) for i, part in enumerate(space))
    if isinstance(space, spaces.OneOf):
        return mine[0] == theirs[0] and _same(mine[1], theirs[1], space[mine[0]], near)
    return (near and isinstance(space, spaces.Box)) or np.array_equal(mine, theirs)
