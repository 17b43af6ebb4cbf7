"""Policies for an audit: those that should fail, and those that look for reward without success."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import gymnasium
import numpy as np

from vla_rl.actions import horizon
from vla_rl.actions.expert import expert_action
from vla_rl.audit.blind_baselines import Linear, Nearest, Reader, to_action
from vla_rl.data.record import perturbed
from vla_rl.envs import still
from vla_rl.specs import TASK, ActionSpace, words_of

NOISE = 0.3
"""Of the noisy expert, and at most of what image-blind policies are fitted to; as `demos.noise` means it."""
HOLDS = (4, 16)
"""For how many steps a sticky policy holds an action: from the first number to the one before the second."""

EXPERT, IN_TOKENS, NAMING = "expert", "expert, in tokens", "sighted, what is named"
THUMBNAILS = "sighted, thumbnails"

Act = Callable[[Any], Any]
"""An observation -> an action."""


@dataclass(frozen=True)
class Probe:
    """A policy. `begin(env, rng)`, called after each reset, returns what acts in that episode.

    ignorant: whether it knows nothing, and so should never succeed. image_blind: whether it knows all but the pictures.
    """

    name: str
    begin: Callable[[gymnasium.Env, np.random.Generator], Act]
    ignorant: bool = False
    image_blind: bool = False


def ignorant() -> tuple[Probe, ...]:
    """Those that know nothing."""
    return (
        Probe("no-op", lambda env, rng: lambda seen: still(env.action_space), ignorant=True),
        Probe("random", lambda env, rng: lambda seen: env.action_space.sample(), ignorant=True),
        Probe("sticky random", _sticky, ignorant=True),
    )


def recorded(probe: Probe, episodes: list[list[Any]]) -> Probe:
    """The same policy, whose actions are appended to `episodes`, a list for each."""

    def begin(env: gymnasium.Env, rng: np.random.Generator) -> Act:
        act, done = probe.begin(env, rng), list[Any]()
        episodes.append(done)

        def noted(seen: Any) -> Any:
            action = act(seen)
            done.append(deepcopy(action))
            return action

        return noted

    return replace(probe, begin=begin)


def replayed(actions: Sequence[Any]) -> Probe:
    """Does the same in every episode, over and over, whatever it sees."""

    def begin(env: gymnasium.Env, rng: np.random.Generator) -> Act:
        again = cycle(actions)
        return lambda seen: next(again)

    return Probe("image-blind, replayed luck", begin, image_blind=True)


def expert() -> Probe:
    """The scripted expert."""
    return Probe(EXPERT, lambda env, rng: lambda seen: expert_action(env))


def expert_in(tokens: ActionSpace) -> Probe:
    """The scripted expert, whose actions are told in the tokens of an action space: what a perfect policy could do.

    Raises:
        ValueError: a decision is of several steps; while it acts, an action that no tokens say.
    """
    if horizon(tokens) > 1:
        raise ValueError("a decision is of several steps")
    return Probe(IN_TOKENS, lambda env, rng: lambda seen: tokens.decode(tokens.encode(expert_action(env))))


def imperfect(length: int) -> tuple[Probe, ...]:
    """Experts that do not finish; one whose episodes take about `length` steps."""
    return (
        Probe("expert with noise", _noisy),
        Probe("expert that stops", lambda env, rng: _stopping(env, int(rng.integers(length)))),
        Probe("expert that sticks", lambda env, rng: _sticking(env, int(rng.integers(length)), rng)),
    )


def demonstrating(noise: float, observations: list[Any], actions: list[Any]) -> Probe:
    """A noisy expert that appends what it sees, and what the expert would do there."""

    def begin(env: gymnasium.Env, rng: np.random.Generator) -> Act:
        def act(seen: Any) -> Any:
            observations.append(deepcopy(seen))
            right = expert_action(env)
            actions.append(deepcopy(right))
            return perturbed(right, env.action_space, noise, rng)

        return act

    return Probe("demonstrations", begin)


def glancing(act: Act) -> Probe:
    """One that sees the pictures, and hardly looks. It may well succeed where a task is easy to see."""
    return Probe(THUMBNAILS, lambda env, rng: act)


def naming() -> Probe:
    """A rule that remembers nothing: uses any thing that the text names, else any thing.

    It needs an environment with a method `things()`: what is written on each thing that can be used now, and the action
    that uses it.
    """
    return Probe(NAMING, _naming)


def image_blind(observations: Sequence[Any], actions: Sequence[Any], space: gymnasium.Space) -> tuple[Probe, ...]:
    """Those fitted to what an expert did where it observed so.

    Raises:
        ValueError: actions of this space are no vectors.
    """
    reader = Reader.of(observations)
    features = np.stack([reader(seen) for seen in observations])
    to_action(space, np.asarray(gymnasium.spaces.flatten(space, actions[0]), np.float64))
    labels = np.stack([np.asarray(gymnasium.spaces.flatten(space, action), np.float64) for action in actions])
    return tuple(
        Probe(
            f"image-blind, {kind.__name__.lower()}",
            _seeing_nothing(reader, kind.fit(features, labels)),
            image_blind=True,
        )
        for kind in (Nearest, Linear)
    )


def _sticky(env: gymnasium.Env, rng: np.random.Generator) -> Act:
    left, action = 0, None

    def act(seen: Any) -> Any:
        nonlocal left, action
        if left == 0:
            left, action = int(rng.integers(*HOLDS)), env.action_space.sample()
        left -= 1
        return action

    return act


def _naming(env: gymnasium.Env, rng: np.random.Generator) -> Act:
    def act(seen: Any) -> Any:
        said = _words(seen[TASK])
        things = [(_words(text), action) for text, action in env.get_wrapper_attr("things")()]
        named = [action for words, action in things if words <= said] or [action for _, action in things]
        return named[int(rng.integers(len(named)))] if named else still(env.action_space)

    return act


def _words(text: str) -> set[str]:
    return {text[start:end].lower() for start, end in words_of(text)}


def _noisy(env: gymnasium.Env, rng: np.random.Generator) -> Act:
    return lambda seen: perturbed(expert_action(env), env.action_space, NOISE, rng)


def _stopping(env: gymnasium.Env, end: int) -> Act:
    """The expert for `end` steps, and then nothing more."""
    steps = iter(range(end))
    return lambda seen: expert_action(env) if next(steps, None) is not None else still(env.action_space)


def _sticking(env: gymnasium.Env, end: int, rng: np.random.Generator) -> Act:
    """The expert, one entry of whose action (or all of one that has none) stays what it was after `end` steps."""
    shape = env.action_space.shape if isinstance(env.action_space, gymnasium.spaces.Box) else None
    entry = rng.integers(int(np.prod(shape))) if shape else None
    steps, kept = 0, None

    def act(seen: Any) -> Any:
        nonlocal steps, kept
        action = expert_action(env)
        steps += 1
        if steps <= end + 1:
            kept = deepcopy(action)
        elif entry is None:
            return kept
        else:
            action = np.array(action)
            action.flat[entry] = np.asarray(kept).flat[entry]
        return action

    return act


def _seeing_nothing(reader: Reader, policy: Nearest | Linear) -> Callable[[gymnasium.Env, np.random.Generator], Act]:
    return lambda env, rng: lambda seen: to_action(env.action_space, policy(reader(seen)))
