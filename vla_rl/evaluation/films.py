"""Which episodes are shown as films, and those again in better pictures."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from itertools import islice

import gymnasium
import numpy as np

from vla_rl.envs import steps, succeeded
from vla_rl.evaluation.outcome import EvalResult, Outcome
from vla_rl.media.images import look_alike
from vla_rl.registry import ConfigError


def keep_films(result: EvalResult, total: int) -> EvalResult:
    """At most `total` films, half of them failures where there are enough of both kinds."""
    successes, failures = result.films(True), result.films(False)
    lost = failures[: max(total // 2, total - len(successes))]
    kept = {outcome.seed for outcome in (*lost, *successes[: total - len(lost)])}
    outcomes = (o if o.seed in kept else dataclasses.replace(o, frames=None, sight=None) for o in result.outcomes)
    return dataclasses.replace(result, outcomes=tuple(outcomes))


def refilmed(result: EvalResult, make_env: Callable[[], gymnasium.Env]) -> EvalResult:
    """The films again in better pictures: the decisions of each repeated in an environment that renders.

    A film stays as it is where the environment does not render, does not repeat the episode, or breaks down.
    """
    if not any(outcome.frames for outcome in result.outcomes):
        return result
    try:
        env = make_env()
    except (ConfigError, ValueError):
        return result
    try:
        outcomes = tuple(_refilm(outcome, env) if outcome.frames else outcome for outcome in result.outcomes)
    except Exception as error:  # of somebody's environment, when all episodes are over
        warnings.warn(f"{result.env}: no better films: {type(error).__name__}: {error}", stacklevel=2)
        return result
    finally:
        env.close()
    return dataclasses.replace(result, outcomes=outcomes)


def _refilm(outcome: Outcome, env: gymnasium.Env) -> Outcome:
    if env.render_mode != "rgb_array":
        return outcome
    observation, info = env.reset(seed=outcome.seed)
    frames, total, decided, hand = [_picture(env)], 0.0, iter(outcome.tokens), [_hand(env)]
    for step in islice(steps(env, lambda seen: next(decided), observation), len(outcome.tokens)):
        total, info = total + step.reward, step.info
        frames.append(_picture(env))
        hand.append(_hand(env))
    same = len(frames) == len(outcome.tokens) + 1 and total == outcome.sum_reward
    if not same or succeeded(info) != outcome.success:
        return outcome
    sight = outcome.sight
    if sight is not None:
        known = [place for place in hand if place is not None]
        same_view = look_alike(sight.pictures[0], frames[0])
        sight = dataclasses.replace(
            sight,
            same_view=same_view,
            hand=tuple(known) if same_view and len(known) == len(frames) else (),
            action_names=tuple(map(str, getattr(env.unwrapped, "action_names", ()))),
        )
    return dataclasses.replace(outcome, frames=tuple(frames), sight=sight)


def _hand(env: gymnasium.Env) -> tuple[float, float] | None:
    """Where the rendered picture shows the hand, x and y in [-1, 1]; None where the environment does not say.

    One that knows has a method `hand_in_picture()`.
    """
    ask = getattr(env.unwrapped, "hand_in_picture", None)
    return None if ask is None else ask()


def _picture(env: gymnasium.Env) -> np.ndarray:
    return np.array(env.render(), np.uint8)
