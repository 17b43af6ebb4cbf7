"""Environments stepped together, some of them while others are acted for; here or in worker processes, K in each."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space, iterate

from vla_rl.buffer_pool import Recycler
from vla_rl.envs.hosts import GRACE, About, Hosting, Local, Make, Remote
from vla_rl.envs.supervision import LOST, RESET, STEP, Supervisor
from vla_rl.envs.worker import (
    OUTCOME,
    RESTORE,
    REWARD,
    SNAPSHOT,
    TERMINATED,
    TRUNCATED,
    Failure,
    Shown,
    mapped,
    padded,
    sizes,
)

Lanes = slice | Sequence[int]
SHARED = Path("/dev/shm")
"""A folder in memory, where the system has it."""


def spare_cores(sharing: int = 1) -> int:
    """This process's part of the cores that so many processes share, but for one of its own."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(len(usable) // sharing - 1, 0)


@dataclass(frozen=True)
class Steps:
    """What B lanes showed: observation, arrays [B, ...] and lists of B texts by key; reward float64 [B]; terminated,
    truncated bool [B]; infos, a dict of each."""

    observation: dict[str, Any]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    infos: list[dict[str, Any]]


@dataclass
class _Asked:
    """What some of a host's lanes were asked for. reasons: why lanes have lost their episodes; where all have, the host
    does not answer. answered: whether it has been received."""

    host: Hosting
    method: str
    lanes: list[int]
    reasons: dict[int, str] = field(default_factory=dict)
    answered: bool = False


class VectorEnvs:
    """`count` environments, each a lane, whose Dict observations and actions are alike.

    The step after an episode's end resets, and its action is ignored (Gymnasium's `AutoresetMode.NEXT_STEP`).

    An environment that raises an error loses its episode, and a worker that ends, or takes too long, those of all its
    lanes. A lost episode is truncated, with `info["invalid"]`, and why in `info["error"]`; one that was lost at its
    reset says that there, and again in the step that truncates it. What has failed is started anew.

    make: makes one; or the makers of each, in order; picklable where there are workers. workers: processes that they
    are dealt out to; 0 for this one.
    Any number of workers gives the same observations. timeout: seconds that a worker has for its environments' step
    or reset, and for making each; None for any. restarts: episodes that a lane may lose in a row. spare_seeds: what a
    lane begins with after it has lost one, a seed each.

    Attributes:
        observation_space, action_space, name: of one environment.

    Raises:
        ValueError: observations that are no Dict. Whatever making an environment raises.
        RuntimeError: a worker cannot be started, or ended. TimeoutError: it took too long, and was ended.
    """

    def __init__(
        self,
        make: Make | Sequence[Make],
        count: int,
        workers: int = 0,
        timeout: float | None = None,
        restarts: int = 0,
        spare_seeds: Iterable[int] | None = None,
    ) -> None:
        self.count = count
        makers = [make] * count if callable(make) else list(make)
        if len(makers) != count:
            raise ValueError(f"make: {len(makers)} makers for {count} environments")
        hosts = min(workers, count)
        dealt = [range(i, count, max(hosts, 1)) for i in range(max(hosts, 1))]
        self._hosts: list[Hosting] = []
        self._sent: deque[tuple[Lanes, list[_Asked]]] = deque()
        self._recycler = Recycler()
        self._memory: BinaryIO | None = None
        self._supervisor = Supervisor(count, restarts, spare_seeds)
        try:
            for lanes in dealt:
                mine = [makers[lane] for lane in lanes]
                self._hosts.append(Remote(lanes, mine, timeout) if hosts else Local(lanes, mine))
            self.observation_space, self.action_space, self.name = self._about()
            if not isinstance(self.observation_space, gymnasium.spaces.Dict):
                raise ValueError(f"expected a Dict observation space, got {self.observation_space}")
            self._actions = batch_space(self.action_space, count)
            self._columns = self._allocate(self.observation_space)
            none = {key: "" for key in self.observation_space if key not in self._columns}
            self._texts = [none] * count
        except BaseException:
            self.close()
            raise

    def describe(self) -> str:
        """How many there are, and where, in a line for people."""
        workers = sum(isinstance(host, Remote) for host in self._hosts)
        where = f"in {workers} worker process{'es' * (workers > 1)}" if workers else "in this process"
        return f"environments: {self.count} {where}"

    def reset(self, seed: int | Sequence[int]) -> Steps:
        """Begin an episode in every lane, of its own of `count` seeds; or of `seed`, one more, and so on."""
        assert not self._sent, "receive what was sent first"
        seeds = range(seed, seed + self.count) if isinstance(seed, int) else seed
        if len(seeds) != self.count:
            raise ValueError(f"seed: {len(seeds)} seeds for {self.count} environments")
        return self._all(RESET, np.asarray(seeds, np.int64))

    def step(self, actions: Any) -> Steps:
        """One step in every lane; actions batched, [count, ...]."""
        assert not self._sent, "receive what was sent first"
        return self._all(STEP, self._split(actions))

    def send(self, actions: Any, lanes: Lanes) -> None:
        """Have `lanes`, as many as there are batched `actions`, take a step; `receive` says what came of it."""
        self._send(STEP, self._split(actions), lanes)

    def send_seeds(self, seeds: Sequence[int], lanes: Lanes) -> None:
        """Have `lanes` begin an episode each, of their `seeds`; `receive` says what they show."""
        self._send(RESET, np.asarray(seeds, np.int64), lanes)

    def send_anew(self, lanes: Lanes) -> None:
        """Have `lanes` begin an episode each, whatever became of the last; their seeds are the next spare ones."""
        self.send_seeds(self._supervisor.spare_seeds(self._numbers(lanes)).tolist(), lanes)

    def receive(self) -> Steps:
        """What came of the oldest step, or reset, that was sent and not received yet.

        Raises:
            RuntimeError: a worker is gone; its lanes are named. TimeoutError: it took too long. ValueError: what an
                environment shows cannot be learned from. Whatever an environment raised. With `restarts`, LostError in
                their place, once there were more in a row; a fault of the settings at once. All is closed then.
        """
        lanes, asked = self._sent[0]
        shown: dict[int, Shown] = {}
        try:
            for each in asked:
                shown |= self._answers(each)
            self._supervisor.wait()
        except BaseException:
            self.close()
            raise
        self._sent.popleft()
        rest = [shown[lane] for lane in self._numbers(lanes)]
        columns = {name: self._copied(column, lanes) for name, column in self._columns.items()}
        reward, terminated, truncated = (columns.pop(name) for name in (REWARD, TERMINATED, TRUNCATED))
        texts = {key: [said[key] for said, _ in rest] for key in rest[0][0]}
        return Steps(columns | texts, reward, terminated, truncated, [info for _, info in rest])

    def snapshot(self) -> list[dict[str, Any] | None]:
        """What each lane goes on from when it is to `restore` that; None where it cannot tell, or lost its episode.

        Raises:
            LostError: as `receive`.
        """
        found = self._ask_all(SNAPSHOT, dict.fromkeys(range(self.count)))
        told = [found[lane] for lane in range(self.count)]
        return [
            None if isinstance(each, Exception) or self._supervisor.is_lost(i) else each for i, each in enumerate(told)
        ]

    def restore(self, snapshots: Mapping[int, dict[str, Any]]) -> dict[int, Exception]:
        """Have lanes go on from what `snapshot` gave; why some do not, which must be reset."""
        found = self._ask_all(RESTORE, snapshots)
        failed = {lane: error for lane, error in found.items() if isinstance(error, Exception)}
        for lane in snapshots.keys() - failed.keys():
            self._supervisor.go_on(lane, *(snapshots[lane][name] for name in ("seed", "later", "over")))
        return failed

    def _ask_all(self, method: str, given: Mapping[int, Any]) -> dict[int, Any]:
        """What each lane answers to what it is given; the error of one that fails, or whose worker does."""
        assert not self._sent, "receive what was sent first"
        shares, found = self._share(sorted(given)), dict[int, Any]()
        for host, lanes in shares:
            with contextlib.suppress(Exception):  # which is met again where it is to answer
                host.send(method, lanes, [given[lane] for lane in lanes])
        for host, lanes in shares:
            try:
                answers = host.receive()
            except Exception as error:
                self._replace(host, error)
                answers = [error] * len(lanes)
            found |= {
                lane: answer.error if isinstance(answer, Failure) else answer
                for lane, answer in zip(lanes, answers, strict=True)
            }
        return found

    def close(self) -> None:
        """End all environments and processes."""
        for host in self._hosts:
            host.leave()
        until = time.monotonic() + GRACE
        for host in self._hosts:
            host.close(until)
        self._hosts = []
        if self._memory is not None:
            self._memory.close()

    def _answers(self, asked: _Asked) -> dict[int, Shown]:
        """What each lane has shown; where its episode is lost, that it is."""
        shown: dict[int, Any] = {}
        if not asked.reasons:
            try:
                shown = dict(zip(asked.lanes, asked.host.receive(), strict=True))
            except Exception as error:
                self._replace(asked.host, error)
        asked.answered = True
        for lane, answer in shown.items():
            if isinstance(answer, Failure):
                asked.reasons[lane] = self._supervisor.bear(answer.error, [lane])
            else:
                self._texts[lane] = answer[0]
        well = [lane for lane in asked.lanes if lane not in asked.reasons]
        self._supervisor.went_on(well, self._columns[TERMINATED][well] | self._columns[TRUNCATED][well])
        return shown | {lane: self._lose(lane, asked.method, reason) for lane, reason in asked.reasons.items()}

    def _replace(self, host: Hosting, error: Exception) -> None:
        """Start a host anew, which is gone; what it was asked for is lost, and so is what else its lanes were at."""
        reason = self._supervisor.bear(error, host.lanes)
        unanswered = [each for _, parts in self._sent for each in parts if each.host is host and not each.answered]
        for each in unanswered:
            each.reasons = each.reasons or dict.fromkeys(each.lanes, reason)
        for lane in set(host.lanes).difference(*(each.lanes for each in unanswered)):
            self._supervisor.interrupt(lane, reason)
        self._supervisor.wait()
        host.start_anew()

    def _lose(self, lane: int, method: str, reason: str) -> Shown:
        """What a lane shows that has lost its episode: as before, but for numbers, which may be half written."""
        begins = method == RESET or (method == STEP and bool(self._supervisor.over[lane]))
        for name, column in self._columns.items():
            if name in OUTCOME or column.dtype.kind == "f":
                column[lane] = 0
        self._columns[TRUNCATED][lane] = not begins
        self._supervisor.tell(lane, begins, reason)
        return self._texts[lane], {"invalid": True, "error": reason}

    def _numbers(self, lanes: Lanes) -> Sequence[int]:
        return range(self.count)[lanes] if isinstance(lanes, slice) else lanes

    def _copied(self, column: np.ndarray, lanes: Lanes) -> np.ndarray:
        if not isinstance(lanes, slice):
            return column[list(lanes)]
        shown = column[lanes]
        copy = self._recycler.empty(shown.shape, shown.dtype)
        np.copyto(copy, shown)
        return copy

    def _about(self) -> About:
        """Spaces and name of one environment, once every host has made its own."""
        first, *_ = [host.about() for host in self._hosts]
        return first

    def _split(self, actions: Any) -> np.ndarray:
        """Batched actions by lane: as they are, or as objects where an action has parts."""
        return actions if isinstance(actions, np.ndarray) else np.fromiter(iterate(self._actions, actions), object)

    def _all(self, method: str, given: np.ndarray) -> Steps:
        self._send(method, given, slice(0, self.count))
        return self.receive()

    def _send(self, method: str, given: np.ndarray, lanes: Lanes) -> None:
        """Ask for `method` with what is `given` to each of `lanes`."""
        numbers, parts = self._numbers(lanes), list[_Asked]()
        place = {lane: i for i, lane in enumerate(numbers)}
        if method == RESET:
            self._supervisor.begin(numbers, given)
        self._sent.append((lanes, parts))
        try:
            for host, mine in self._share(numbers):
                for part, some in self._supervisor.parts(method, mine):
                    parts.append(_Asked(host, part, some))
                    self._ask(parts[-1], given[[place[lane] for lane in some]], anew=part != method)
        except BaseException:
            self.close()
            raise

    def _ask(self, asked: _Asked, given: np.ndarray, anew: bool) -> None:
        """Have the host work; `anew`: with what is to be done instead of what is `given`."""
        if asked.method == LOST:
            asked.reasons = {lane: self._supervisor.reason(lane) for lane in asked.lanes}
            return
        if anew:
            given = self._supervisor.spare_seeds(asked.lanes)
            self._supervisor.begin(asked.lanes, given)
        try:
            asked.host.send(asked.method, asked.lanes, given)
        except Exception as error:
            self._replace(asked.host, error)

    def _share(self, wanted: Sequence[int]) -> list[tuple[Hosting, list[int]]]:
        """The hosts of these lanes, and which of them each has."""
        shares = [(host, [lane for lane in host.lanes if lane in wanted]) for host in self._hosts]
        return [(host, mine) for host, mine in shares if mine]

    def _allocate(self, space: gymnasium.spaces.Dict) -> dict[str, np.ndarray]:
        """The columns that every host writes into."""
        boxes = {key: part for key, part in space.items() if isinstance(part, gymnasium.spaces.Box)}
        layout = {key: (part.shape, str(part.dtype)) for key, part in boxes.items()} | OUTCOME
        size = sum(map(padded, sizes(self.count, layout).values()))
        in_memory = SHARED.is_dir() and shutil.disk_usage(SHARED).free > 2 * size
        number, path = tempfile.mkstemp(prefix="vla_rl_envs_", dir=SHARED if in_memory else None)
        try:
            self._memory = open(number, "r+b")  # noqa: SIM115 (a worker that is started anew attaches it, too)
            self._memory.truncate(size)
            for host in self._hosts:
                host.attach(path, number, self.count, layout)
            return mapped(path, self.count, layout)
        finally:
            os.unlink(path)  # it lives on in memory
