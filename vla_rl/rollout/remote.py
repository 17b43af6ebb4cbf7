"""Rows from workers elsewhere: who acts by which weights, how old those may be, and what follows where a worker dies.

Workers are asked for parcels and give nothing unasked; each has at most `ahead` to give. So where the learner is slow
they rest, and nothing grows. A version of the weights is named by the number of updates that it comes after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np

from vla_rl.envs.supervision import Supervisor
from vla_rl.models.policy import Policy
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout import weights
from vla_rl.rollout.episode_counts import EpisodeCounts
from vla_rl.rollout.parcel import Parcel
from vla_rl.rollout.rollout_worker import Assignment, Greeting
from vla_rl.rollout.source import Act, Timer
from vla_rl.rollout.tallies import Tallies
from vla_rl.rollout.task_statistics import TaskStatistics
from vla_rl.rollout.weights import Files
from vla_rl.specs import EPISODE_TASK

PATIENCE = 0.5
"""Seconds that a step waits for a parcel before the loop looks whether it is to stop."""
SPARE_SEEDS = 8
"""That a worker has for lanes that lose an episode."""
ELSEWHERE = "it was elsewhere, and its worker has ended"


@dataclass(frozen=True)
class Arrival:
    """What came of a worker, by its number: that it is ready, a parcel, or the error by which it is lost."""

    number: int
    what: Greeting | Parcel | Exception


class Fleet(Protocol):
    """Workers by number, wherever they are."""

    def publish(self, version: int, trained: np.ndarray | None = None, whole: Files | None = None) -> None:
        """Have what is asked for from now on be done by these weights: see `RolloutWorker.collect`."""

    def begin(self, number: int, given: Assignment) -> None:
        """Start a worker, or another one in its place, by the newest whole policy; its `Greeting` arrives."""

    def ask(self, number: int) -> None:
        """Ask a worker for a parcel."""

    def receive(self, number: int | None, patience: float) -> Arrival | None:
        """What arrives next, of any worker or of one, each one's in order; None where nothing does for so many seconds.

        Raises:
            Whatever a worker raised that was told by its environments or its settings.
        """

    def describe(self) -> str:
        """Where it is, in a few words for people."""

    def close(self) -> None:
        """End all workers."""


@dataclass
class _Member:
    """A worker. begun: how often it was. ready: whether it has greeted. asked: the versions of what it was asked for,
    oldest first."""

    given: Assignment
    begun: int = 0
    ready: bool = False
    asked: deque[int] = field(default_factory=deque)

    @property
    def lanes(self) -> np.ndarray:
        """Their numbers among all, int64 [L]."""
        return self.given.first + np.arange(len(self.given.makers))


class RemoteCollector:
    """Fills a replay with what workers do; see `Source`.

    assignments: of the workers, by number; their lanes follow one another. policy: what is trained. updates: how many
    there were. spare: seeds for lanes that begin anew. restarts: how often in a row the same worker may be lost. tasks:
    the name of each lane's task. ahead, max_lag, publish_every: see `config.distributed.RayConfig`. per_decision:
    updates.
    """

    def __init__(
        self,
        fleet: Fleet,
        assignments: Sequence[Assignment],
        replay: ReplayBuffer,
        policy: Policy,
        updates: Callable[[], int],
        *,
        spare: Iterator[int],
        restarts: int,
        tasks: Sequence[str],
        ahead: int,
        max_lag: int,
        publish_every: int,
        per_decision: float,
        recent: int = 100,
    ) -> None:
        self.replay, self._fleet, self._policy, self._updates = replay, fleet, policy, updates
        self._ahead, self._max_lag, self._every, self._per_decision = ahead, max_lag, publish_every, per_decision
        self._members = [_Member(each) for each in assignments]
        self._lanes, self._spare = sum(len(each.lanes) for each in self._members), spare
        self._supervisor = Supervisor(self._lanes, restarts, spare)
        named = list(dict.fromkeys(tasks))
        self._told = {EPISODE_TASK: np.array([named.index(task) for task in tasks], np.int32)}
        self._latest, self._tallies = TaskStatistics(named, recent), Tallies(recent)
        replay.listen(self._latest)
        self.counts = EpisodeCounts()
        self._running, self._over = np.zeros(self._lanes, bool), np.zeros(self._lanes, bool)
        self._version = -1
        self._whole_due = True
        self._lags: list[int] = []
        self._losses = 0

    @property
    def episodes(self) -> int:
        """Valid ones that ended."""
        return self.counts.episodes

    @property
    def success_rate(self) -> float:
        """Share of successes among the latest episodes; NaN before the first."""
        return self._latest.success_rate

    def step(self, act: Act, log: Timer) -> int:
        """Take in a parcel, and those whose weights would be too old after the updates that are due then.

        Returns:
            How many transitions that made; none where nothing has arrived for a while.

        Raises:
            FaultError: see `EpisodeCounts`. LostError: a worker was lost too often in a row.
        """
        self.check()
        self._publish()
        self._ask()
        made = self._receive(None, log)
        while (late := self._late(made)) is not None:
            made += self._receive(late, log)
        return made

    def settle(self, log: Timer) -> int:
        """Take in all that workers were asked for; how many transitions that made.

        What never trains may be renewed after that (`Policy.renew`), so that the whole policy goes out next.
        """
        made = 0
        while (number := self._oldest()) is not None:
            made += self._receive(number, log)
        self._whole_due = self._whole_due or not self._policy.frozen_trunk
        return made

    def check(self, over: bool = False) -> None:
        """Raise FaultError where there is nothing to learn from; over: whether the run is."""
        self.counts.check(self._lanes, over)

    def statistics(self) -> dict[str, float]:
        """What the log shows; of the time since the last line, how many updates the weights were old that acted."""
        lags, self._lags = self._lags, []
        lag = {"actors/lag": float(np.mean(lags)), "actors/lag_max": float(max(lags))} if lags else {}
        return {
            **self.replay.statistics(),
            **self._tallies.statistics(),
            **self.counts.statistics(),
            **lag,
            "actors/ready": float(sum(each.ready for each in self._members)),
            "actors/lost": float(self._losses),
        }

    def describe(self) -> str:
        """Where the environments are, in a line for people."""
        return f"environments: {self._lanes} on {len(self._members)} actors {self._fleet.describe()}"

    def state_dict(self, log: Timer) -> dict[str, Any]:
        """The counts; nobody here knows where the environments stand."""
        return {"snapshots": [], "tallies": self._tallies.state_dict(), **self.counts.state_dict()}

    def load_state_dict(self, state: dict[str, Any], log: Timer) -> tuple[int, dict[int, str]]:
        """Go on with those counts. The episodes that were running end for replay where they stood: their lanes begin
        others, and why is said of each."""
        self.counts.load_state_dict(state)
        self._tallies.load_state_dict(state["tallies"])
        self.replay.interrupt()
        return 0, dict.fromkeys(range(self._lanes), ELSEWHERE)

    def close(self) -> None:
        """End all workers."""
        self._fleet.close()

    # Asking ---------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Send newer weights out, where there are such that are due, and begin the workers with the first ones."""
        now = self._updates()
        if self._whole_due:
            self._fleet.publish(now, whole=weights.whole(self._policy))
        elif now - self._version >= self._every:
            self._fleet.publish(now, trained=weights.trained(self._policy))
        else:
            return
        first, self._version, self._whole_due = self._version < 0, now, False
        if first:
            for number in range(len(self._members)):
                self._begin(number)

    def _begin(self, number: int) -> None:
        """Start a worker, in whose lanes episodes begin that were none before."""
        member = self._members[number]
        given, lanes = member.given, member.lanes
        seeds = given.seeds if not member.begun else self._supervisor.spare_seeds(lanes.tolist()).tolist()
        spare, noise = list(islice(self._spare, SPARE_SEEDS)), np.random.SeedSequence([given.noise, seeds[0]])
        self._supervisor.begin(lanes.tolist(), np.array(seeds))
        member.begun, member.ready, member.asked = member.begun + 1, False, deque()
        self._fleet.begin(number, replace(given, seeds=seeds, spare=spare, noise=int(noise.generate_state(1)[0])))

    def _ask(self) -> None:
        """Have every worker that is ready be at as much as it may, in turn."""
        for _ in range(self._ahead):
            for number, member in enumerate(self._members):
                if member.ready and len(member.asked) < self._ahead:
                    self._fleet.ask(number)
                    member.asked.append(self._version)

    def _oldest(self) -> int | None:
        """The worker that has been asked for something by the oldest weights of all; None where none is asked."""
        asked = {number: member.asked[0] for number, member in enumerate(self._members) if member.asked}
        return min(asked, key=asked.__getitem__) if asked else None

    def _late(self, made: int) -> int | None:
        """The worker whose weights would be too old once the updates are done that so many transitions allow for."""
        number = self._oldest()
        if number is None:
            return None
        then = self._updates() + int(made * self._per_decision) + 1
        return number if then - self._members[number].asked[0] > self._max_lag else None

    # Taking in ------------------------------------------------------------------------------------

    def _receive(self, number: int | None, log: Timer) -> int:
        """Wait a moment for what arrives; how many transitions that made."""
        with log.timed("step"):
            arrival = self._fleet.receive(number, PATIENCE)
        if arrival is None:
            return 0
        if isinstance(arrival.what, Exception):
            self._lose(arrival.number, arrival.what)
            return 0
        if isinstance(arrival.what, Greeting):
            self._members[arrival.number].ready = True
            return 0
        with log.timed("remember"):
            return self._take_in(arrival.number, arrival.what)

    def _take_in(self, number: int, parcel: Parcel) -> int:
        """Remember what a worker did."""
        member = self._members[number]
        asked = member.asked.popleft()
        assert parcel.version == asked, "a worker answers in order, by the weights that it was sent"
        self._lags.append(self._updates() - asked)
        parcel.deliver(self.replay, member.given.first, self._told)
        self._follow(member, parcel)
        self.counts.take(parcel.valid, parcel.invalid, parcel.error)
        self._tallies.extend(parcel.tallies)
        return parcel.decisions

    def _follow(self, member: _Member, parcel: Parcel) -> None:
        """Take note of where in their episodes the lanes stand."""
        begin = 0
        for forgotten, count in parcel.turns:
            lanes = member.given.first + np.array(forgotten, np.int64)
            self._running[lanes] = self._over[lanes] = False
            rows = slice(begin, begin + count)
            begin += count
            if not count:
                continue
            lanes, final = member.given.first + parcel.rows["lanes"][rows], parcel.rows["final"][rows]
            over = (parcel.rows["terminated"][rows] | parcel.rows["truncated"][rows]) & ~final
            self._running[lanes], self._over[lanes] = ~final, over
            self._supervisor.went_on(lanes.tolist(), over)

    def _lose(self, number: int, error: Exception) -> None:
        """Begin a worker anew, which is gone: replay forgets the episodes that it was at, and keeps those that ended.

        Raises:
            LostError: it was lost too often in a row. `error`: no loss is borne.
        """
        member = self._members[number]
        lanes = member.lanes
        over = lanes[self._over[lanes]]
        running = lanes[self._running[lanes] & ~self._over[lanes]]
        if len(over):
            self.replay.interrupt(over)
        if len(running):
            self.replay.discard(running)
        self._running[lanes] = self._over[lanes] = False
        member.ready, member.asked = False, deque()
        self._losses += 1
        reason = self._supervisor.bear(error, lanes.tolist())
        self.counts.take(0, len(running), reason)
        self._supervisor.wait()
        self._begin(number)
