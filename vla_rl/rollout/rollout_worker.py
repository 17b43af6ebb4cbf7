"""Some of a run's environments and a copy of its policy, in a process anywhere, which acts and hands over what came.

Nothing here knows how it is called: `rollout.ray_fleet` makes it an actor of Ray.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import numpy as np

import vla_rl
from vla_rl.algorithms.acting import Explorer
from vla_rl.algorithms.actor_critic_config import AlgorithmConfig
from vla_rl.algorithms.algorithm import Decision
from vla_rl.envs.hosts import Make
from vla_rl.envs.vector import VectorEnvs
from vla_rl.rollout import weights
from vla_rl.rollout.collector import Collector
from vla_rl.rollout.parcel import Outbox, Parcel
from vla_rl.rollout.weights import Files
from vla_rl.runtime.learner import Learner
from vla_rl.specs import POLICY_VERSION, Signal


@dataclass(frozen=True)
class Assignment:
    """What a worker does.

    first: the number of its first lane among all of the run. makers, seeds: of its environments. spare: seeds for lanes
    that lose an episode. batch: decisions of each lane in a parcel. processes, timeout, restarts, groups: as
    `train.workers`, `step_timeout`, `restarts` and `groups` say. stack, signals, caches: of the replay. noise: seed of
    what it draws. release: of the package that sends this.
    """

    first: int
    makers: list[Make]
    seeds: list[int]
    spare: list[int]
    batch: int
    processes: int
    timeout: float | None
    restarts: int
    groups: int
    stack: int
    signals: tuple[Signal, ...]
    caches: bool
    algorithm: AlgorithmConfig
    plugins: list[str]
    device: str
    mixed_precision: str
    noise: int
    release: str = vla_rl.__version__


@dataclass(frozen=True)
class Greeting:
    """A worker that is ready, and where it is."""

    host: str
    pid: int


class RolloutWorker:
    """Acts in its environments; see `Assignment`. Every method is to be called by one caller, one after another."""

    def begin(self, given: Assignment, version: int, policy: Files) -> Greeting:
        """Make the environments and the policy's copy, and begin an episode in each lane.

        Raises:
            RuntimeError: this package is of another version than the sender's. Whatever making the environments raises.
        """
        if given.release != vla_rl.__version__:
            raise RuntimeError(
                f"vla_rl is {vla_rl.__version__} on {socket.gethostname()}, and {given.release} where the run was "
                "started; install the same version on all nodes"
            )
        self._given, self._version = given, version
        learner = Learner(given.device, given.mixed_precision, given.noise)
        self._policy = learner.prepare(weights.policy_of(policy, given.plugins))
        self._explore = given.algorithm.explorer(self._policy, learner)
        if isinstance(self._explore, Explorer):
            self._explore.keeps_features = given.caches
        limits = given.processes, given.timeout, given.restarts, cycle(given.spare)
        envs = VectorEnvs(given.makers, len(given.makers), *limits)
        self._outbox = Outbox(given.stack, given.signals, given.caches)
        self._collector = Collector(envs, self._outbox, given.seeds, given.groups)
        self._turns = given.batch * min(given.groups, len(given.makers))
        return Greeting(socket.gethostname(), os.getpid())

    def collect(self, version: int, trained: np.ndarray | None, whole: Mapping[str, np.ndarray] | None) -> Parcel:
        """Take `Assignment.batch` decisions in each lane, by the policy as it was after `version` updates.

        trained: what training has changed, where it is known; whole: all of it, where more than that has changed.

        Raises:
            FaultError, LostError: see `Collector`.
        """
        self._take_in(version, trained, whole)
        collector, counts, unseen = self._collector, replace(self._collector.counts), Untimed()
        made = sum(collector.step(self._act, unseen) for _ in range(self._turns))
        made += collector.settle(unseen)  # so that every row was acted by this version
        now = collector.counts
        return self._outbox.sealed(
            version,
            decisions=made,
            valid=now.episodes - counts.episodes,
            invalid=now.invalid_episodes - counts.invalid_episodes,
            error=now.last_error,
            tallies=collector.tallies.drain(),
        )

    def close(self) -> None:
        """End the environments."""
        self._collector.close()

    def _take_in(self, version: int, trained: np.ndarray | None, whole: Mapping[str, np.ndarray] | None) -> None:
        if whole is not None:
            weights.replace_whole(self._policy, whole)
        if trained is not None and version != self._version:
            weights.replace_trained(self._policy, trained)
        self._version = version

    def _act(self, observation: dict[str, Any]) -> Decision:
        turn, first = self._collector.turn, self._given.first
        decision = self._explore(observation, slice(first + turn.start, first + turn.stop))
        version = np.full(len(decision.tokens), self._version, POLICY_VERSION.dtype)
        return replace(decision, extras=decision.extras | {POLICY_VERSION.name: version})


class Untimed:
    """Times nothing: whoever waits for this worker counts how long that is."""

    def timed(self, part: str) -> AbstractContextManager[None]:
        return nullcontext()
