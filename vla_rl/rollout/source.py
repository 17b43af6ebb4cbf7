"""Where the rows of a training come from, as its loop sees it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from vla_rl.algorithms.algorithm import Decision
from vla_rl.rollout.episode_counts import EpisodeCounts

Act = Callable[[dict[str, Any]], Decision]
"""Decides for a batch of observations."""


class Timer(Protocol):
    """Counts where the time goes; `runtime.logger.Log` is one."""

    def timed(self, part: str) -> AbstractContextManager[None]: ...


class Source(Protocol):
    """Fills a replay: a `Collector`, which acts here, or a `RemoteCollector`, whose workers act elsewhere.

    Attributes:
        counts: of the episodes that ended. episodes: the valid ones.
    """

    counts: EpisodeCounts

    @property
    def episodes(self) -> int: ...

    @property
    def success_rate(self) -> float:
        """Share of successes among the latest episodes; NaN before the first."""

    def step(self, act: Act, log: Timer) -> int:
        """Write some transitions to replay; how many. act: decides, where that is done here."""

    def settle(self, log: Timer) -> int:
        """Write what is under way, so that nothing is; how many transitions that made."""

    def check(self, over: bool = False) -> None:
        """Raise FaultError where there is nothing to learn from; over: whether the run is."""

    def statistics(self) -> dict[str, float]:
        """What the log shows of it."""

    def describe(self) -> str:
        """Where the environments are, in a line for people."""

    def state_dict(self, log: Timer) -> dict[str, Any]:
        """Where the lanes stand, with `snapshots` of their environments."""

    def load_state_dict(self, state: dict[str, Any], log: Timer) -> tuple[int, dict[int, str]]:
        """Go on from that; how many transitions it made, and why lanes begin anew, by their number."""

    def close(self) -> None:
        """End the environments."""
