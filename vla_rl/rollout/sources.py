"""The source of a run's rows, made from its config: environments here, or on other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from vla_rl import registry
from vla_rl.config import RunConfig
from vla_rl.envs import Lane
from vla_rl.envs.given import GivenEnvs
from vla_rl.envs.vector import VectorEnvs, spare_cores
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError, SetupError
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout.collector import Collector
from vla_rl.rollout.remote import Fleet, RemoteCollector
from vla_rl.rollout.rollout_worker import Assignment
from vla_rl.rollout.source import Source
from vla_rl.runtime.learner import Learner


@dataclass(frozen=True)
class Lanes:
    """The lanes of this process. seeds: that they begin with. spare: for those that begin anew after a loss."""

    each: Sequence[Lane]
    seeds: list[int]
    spare: Iterator[int]

    @property
    def tasks(self) -> list[str]:
        """The name of each one's task."""
        return [lane.task for lane in self.each]


def make_source(
    run: RunConfig,
    name: str,
    lanes: Lanes,
    replay: ReplayBuffer,
    policy: Policy,
    learner: Learner,
    updates: Callable[[], int],
    given: tuple[VectorEnv, Any] | None = None,
) -> Source:
    """What fills the replay of a run. name: of the run. updates: how many there were. given: environments to act in, in
    place of those that the config makes, and the action space that they take.

    Raises:
        ConfigError: environments on other machines cannot do what the run asks for.
        SetupError: Ray is not installed, or no cluster can be reached. What making environments raises.
    """
    train = run.train
    if run.distributed is not None:
        _check(run, policy, learner, given is not None)
        return _remote(run, name, lanes, replay, policy, updates)
    if given is not None:
        return Collector(GivenEnvs(*given), replay, lanes.seeds, train.groups, tasks=lanes.tasks)
    workers = spare_cores(learner.processes) if train.workers == "auto" else train.workers
    makers = [lane.make for lane in lanes.each]
    envs = VectorEnvs(makers, len(makers), workers, train.step_timeout, train.restarts, lanes.spare)
    return Collector(envs, replay, lanes.seeds, train.groups, tasks=lanes.tasks)


def _check(run: RunConfig, policy: Policy, learner: Learner, given: bool) -> None:
    """Hold a run against what environments on other machines can do. given: whether somebody gave it environments.

    Raises:
        ConfigError: it asks for more.
    """
    if not hasattr(run.algorithm, "explorer"):
        raise ConfigError(
            f"distributed: {type(run.algorithm).__name__} does not say how a copy of the policy alone explores; give "
            "its config a method `explorer(policy, learner)`, see vla_rl.algorithms.actor_critic_config.AlgorithmConfig"
        )
    run.algorithm.explorer(policy, learner)
    credit = run.algorithm.needs.credit
    wrong = {
        "environments that the run makes; these were given to it": given,
        f"one process that learns, not {learner.processes}": learner.processes > 1,
        "another algorithm.credit: resets go back to states of environments here": credit is not None and credit.acted,
    }
    needed = next((what for what, is_wrong in wrong.items() if is_wrong), None)
    if needed:
        raise ConfigError(f"distributed: needs {needed}; or set distributed=null")


def _remote(
    run: RunConfig, name: str, lanes: Lanes, replay: ReplayBuffer, policy: Policy, updates: Callable[[], int]
) -> RemoteCollector:
    """What collects by actors of Ray. Raises SetupError: Ray is not installed, or no cluster can be reached."""
    settings, train = run.distributed, run.train
    assert settings is not None, "it is asked for"
    assignments = [
        Assignment(
            first=int(some[0]),
            makers=[lanes.each[lane].make for lane in some],
            seeds=[lanes.seeds[lane] for lane in some],
            spare=[],
            batch=settings.batch,
            processes=0 if train.workers == "auto" else train.workers,
            timeout=train.step_timeout,
            restarts=train.restarts,
            groups=train.groups,
            stack=replay.stack,
            signals=replay.signals,
            caches=replay.caches,
            algorithm=run.algorithm,
            plugins=run.plugins,
            device="cuda" if settings.gpus_per_actor else "cpu",
            mixed_precision=run.mixed_precision,
            noise=run.seed,
        )
        for some in np.array_split(np.arange(len(lanes.each)), settings.actors)
    ]
    try:
        fleet: Fleet = registry.named("vla_rl.rollout.ray_fleet:RayFleet")(settings, name, train.step_timeout)
    except ImportError as error:
        raise SetupError(f"distributed: Ray is not installed ({error}); pip install 'vla-rl[ray]'") from error
    return RemoteCollector(
        fleet,
        assignments,
        replay,
        policy,
        updates,
        spare=lanes.spare,
        restarts=train.restarts,
        tasks=lanes.tasks,
        ahead=settings.ahead,
        max_lag=settings.max_lag,
        publish_every=settings.publish_every,
        per_decision=train.updates_per_step,
    )
