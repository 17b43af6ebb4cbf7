"""From Python: an environment by its name, and a policy on held-out seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium

from vla_rl import Verb, config, envs
from vla_rl import eval as _eval
from vla_rl.envs import shorthand
from vla_rl.evaluation.episodes import evaluate as _episodes
from vla_rl.evaluation.outcome import EvalResult
from vla_rl.registry import ConfigError
from vla_rl.rollout.actor import Actor, load
from vla_rl.specs import HELD_OUT_SEEDS

Make = Callable[[], gymnasium.Env]


def make_env(*words: str, render_mode: str | None = None) -> gymnasium.Env:
    """A plain Gymnasium environment by name, with the sensors of its config and its own actions.

    words: a file of `configs/env` (`reach`), or a Gymnasium id, then overrides: `make_env("pick",
    "env.kwargs.horizon=30")`. render_mode: None or "rgb_array".

    Raises:
        ConfigError: no such environment (the nearest one is named), or settings that it does not take.
        SetupError: its package is not installed.
    """
    return envs.factory(config.load(shorthand.overrides_of(words), command="play").only("make_env"), render_mode)()


def evaluate(
    policy: Actor | str | Path, *overrides: str, env: Make | None = None, episodes: int = 100, num_envs: int = 8
) -> EvalResult:
    """The success of a policy on held-out seeds: `evaluate("outputs/run").pc_success`.

    Args:
        policy: a checkpoint by any name, or a hub id, or an actor, which needs `env`.
        overrides: of a checkpoint without `env`, as on the command line, such as "eval.episodes=20". Then a report,
            films and `eval_info.json` go into `run_dir`, as with `vla-rl eval`.
        env: makes an environment of your own, which shows what the policy was trained on; nothing is written.
        episodes: with `env`, how many, each on its own seed. num_envs: with `env`, how many run together.

    Raises:
        ConfigError: an actor without `env`; overrides with `env`; a run in several environments (`evaluate_tasks`).
        ValueError: the policy was made for other cameras, state or actions.
        FileNotFoundError: there is no such checkpoint.
    """
    if env is None:
        if isinstance(policy, Actor):
            raise ConfigError("evaluate: an actor knows no environment; give env=, a function that makes one")
        run = config.load([f"eval.checkpoint={policy}", *overrides], command="eval")
        return _eval.evaluate_checkpoint(run)
    if overrides:
        raise ConfigError(f"evaluate: overrides {list(overrides)} are of a checkpoint's own environment; leave out env")
    actor = policy if isinstance(policy, Actor) else load(policy)
    own = actor.policy
    looked_at = env()
    try:
        shape = envs.ObservationShape.of(looked_at.observation_space)
        own.check_fits(own.action_space.bind(looked_at.action_space), shape.images, shape.state)
    finally:
        looked_at.close()
    seeds = HELD_OUT_SEEDS[:episodes]
    return _episodes(actor, lambda: envs.TokenEnv(env(), own.action_space), seeds, num_envs, stack=own.settings.stack)


def evaluate_checkpoint(*given: Any, **named: Any) -> Any:
    """The old place of `vla_rl.eval.evaluate_checkpoint`, for one release more."""
    warnings.warn(
        "vla_rl.evaluate.evaluate_checkpoint is vla_rl.eval.evaluate_checkpoint by now; the old name goes next release",
        DeprecationWarning,
        stacklevel=2,
    )
    return _eval.evaluate_checkpoint(*given, **named)


Verb.make(__name__)
