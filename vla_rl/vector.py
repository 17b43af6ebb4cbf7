"""Environments stepped together, some of them while others are acted for; here or in worker processes, K in each."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space, iterate

from vla_rl.env_worker import OUTCOME, REWARD, TERMINATED, TRUNCATED, Failure, Host, Shown, mapped, padded, sizes
from vla_rl.replay.recycle import Recycler

SHARED = Path("/dev/shm")
"""A folder in memory, where the system has it."""
GRACE = 5.0
"""Seconds that a worker has to close its environments."""


def spare_cores(sharing: int = 1) -> int:
    """This process's part of the cores that so many processes share, but for one of its own."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(len(usable) // sharing - 1, 0)


@dataclass(frozen=True)
class Steps:
    """What B lanes showed: observation, arrays [B, ...] and lists of B texts by key; reward float32 [B]; terminated,
    truncated bool [B]; infos, a dict of each."""

    observation: dict[str, Any]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    infos: list[dict[str, Any]]


class VectorEnvs:
    """`count` environments of one kind, each a lane, with Dict observations.

    The step after an episode's end resets, and its action is ignored (Gymnasium's `AutoresetMode.NEXT_STEP`).

    make: makes one; picklable where there are workers. workers: processes that they are dealt out to; 0 for this one.
    Any number of workers gives the same observations.

    Attributes:
        observation_space, action_space: of one environment.

    Raises:
        ValueError: observations that are no Dict. Whatever making an environment raises.
    """

    def __init__(self, make: Callable[[], gymnasium.Env], count: int, workers: int = 0) -> None:
        self.count = count
        hosts = min(workers, count)
        dealt = [range(i, count, max(hosts, 1)) for i in range(max(hosts, 1))]
        self._hosts: list[_Host] = []
        self._sent: deque[tuple[slice, list[tuple[_Host, list[int]]]]] = deque()
        self._recycler = Recycler()
        try:
            for lanes in dealt:
                self._hosts.append(_Remote(lanes, make) if hosts else _Local(lanes, make))
            self.observation_space, self.action_space = self._spaces()
            if not isinstance(self.observation_space, gymnasium.spaces.Dict):
                raise ValueError(f"expected a Dict observation space, got {self.observation_space}")
            self._actions = batch_space(self.action_space, count)
            self._columns = self._allocate(self.observation_space)
        except BaseException:
            self.close()
            raise

    def describe(self) -> str:
        """How many there are, and where, in a line for people."""
        workers = sum(isinstance(host, _Remote) for host in self._hosts)
        where = f"in {workers} worker process{'es' * (workers > 1)}" if workers else "in this process"
        return f"environments: {self.count} {where}"

    def reset(self, seed: int | Sequence[int]) -> Steps:
        """Begin an episode in every lane, of its own of `count` seeds; or of `seed`, one more, and so on."""
        assert not self._sent, "receive what was sent first"
        seeds = range(seed, seed + self.count) if isinstance(seed, int) else seed
        if len(seeds) != self.count:
            raise ValueError(f"seed: {len(seeds)} seeds for {self.count} environments")
        return self._all("reset", np.asarray(seeds, np.int64))

    def step(self, actions: Any) -> Steps:
        """One step in every lane; actions batched, [count, ...]."""
        assert not self._sent, "receive what was sent first"
        return self._all("step", self._split(actions))

    def send(self, actions: Any, lanes: slice) -> None:
        """Have `lanes`, as many as there are batched `actions`, take a step; `receive` says what came of it."""
        self._send("step", self._split(actions), lanes)

    def receive(self) -> Steps:
        """What came of the oldest step that was sent and not received yet.

        Raises:
            RuntimeError: a worker is gone; its lanes are named. Whatever an environment raised. All is closed then.
        """
        lanes, shares = self._sent.popleft()
        shown: dict[int, Shown] = {}
        try:
            for host, mine in shares:
                shown |= zip(mine, host.receive(), strict=True)
        except BaseException:
            self.close()
            raise
        rest = [shown[lane] for lane in range(self.count)[lanes]]
        columns = {name: self._copied(column[lanes]) for name, column in self._columns.items()}
        reward, terminated, truncated = (columns.pop(name) for name in (REWARD, TERMINATED, TRUNCATED))
        texts = {key: [said[key] for said, _ in rest] for key in rest[0][0]}
        return Steps(columns | texts, reward, terminated, truncated, [info for _, info in rest])

    def close(self) -> None:
        """End all environments and processes."""
        for host in self._hosts:
            host.close()
        self._hosts = []

    def _copied(self, column: np.ndarray) -> np.ndarray:
        copy = self._recycler.empty(column.shape, column.dtype)
        np.copyto(copy, column)
        return copy

    def _spaces(self) -> tuple[gymnasium.Space, gymnasium.Space]:
        """Those of one environment, once every host has made its own."""
        first, *_ = [host.spaces() for host in self._hosts]
        return first

    def _split(self, actions: Any) -> np.ndarray:
        """Batched actions by lane: as they are, or as objects where an action has parts."""
        return actions if isinstance(actions, np.ndarray) else np.fromiter(iterate(self._actions, actions), object)

    def _all(self, method: str, given: np.ndarray) -> Steps:
        self._send(method, given, slice(0, self.count))
        return self.receive()

    def _send(self, method: str, given: np.ndarray, lanes: slice) -> None:
        """Ask for `method` with what is `given` to each of `lanes`."""
        begin = range(self.count)[lanes].start
        shares = self._share(lanes)
        try:
            for host, mine in shares:
                host.send(method, mine, given[np.array(mine) - begin])
        except BaseException:
            self.close()
            raise
        self._sent.append((lanes, shares))

    def _share(self, lanes: slice) -> list[tuple[_Host, list[int]]]:
        """The hosts of these lanes, and which of them each has."""
        wanted = range(self.count)[lanes]
        shares = [(host, [lane for lane in host.lanes if lane in wanted]) for host in self._hosts]
        return [(host, mine) for host, mine in shares if mine]

    def _allocate(self, space: gymnasium.spaces.Dict) -> dict[str, np.ndarray]:
        """The columns that every host writes into."""
        boxes = {key: part for key, part in space.items() if isinstance(part, gymnasium.spaces.Box)}
        layout = {key: (part.shape, str(part.dtype)) for key, part in boxes.items()} | OUTCOME
        size = sum(map(padded, sizes(self.count, layout).values()))
        in_memory = SHARED.is_dir() and shutil.disk_usage(SHARED).free > 2 * size
        with tempfile.NamedTemporaryFile(prefix="vla_rl_envs_", dir=SHARED if in_memory else None) as file:
            file.truncate(size)
            for host in self._hosts:
                host.attach(file.name, self.count, layout)
            return mapped(file.name, self.count, layout)  # lives on in memory once the file is gone


class _Host(Protocol):
    """Where some lanes' environments are."""

    lanes: Sequence[int]

    def spaces(self) -> tuple[gymnasium.Space, gymnasium.Space]: ...
    def attach(self, path: str, count: int, layout: dict[str, Any]) -> None: ...
    def send(self, method: str, lanes: list[int], given: np.ndarray) -> None: ...
    def receive(self) -> list[Shown]: ...
    def close(self) -> None: ...


class _Local:
    """This process, which does what was sent when it is asked for."""

    def __init__(self, lanes: Sequence[int], make: Callable[[], gymnasium.Env]) -> None:
        self.lanes = lanes
        self._host = Host(lanes, make)
        self._sent: deque[tuple[str, list[int], np.ndarray]] = deque()

    def spaces(self) -> tuple[gymnasium.Space, gymnasium.Space]:
        return self._host.spaces

    def attach(self, path: str, count: int, layout: dict[str, Any]) -> None:
        self._host.columns = mapped(path, count, layout)

    def send(self, method: str, lanes: list[int], given: np.ndarray) -> None:
        self._sent.append((method, lanes, given))

    def receive(self) -> list[Shown]:
        return self._host.work(*self._sent.popleft())

    def close(self) -> None:
        self._host.close()


class _Remote:
    """A process that does what was sent at once.

    It is a program of its own, not a fork: the trainer's threads, device and main script do not come along.
    """

    def __init__(self, lanes: Sequence[int], make: Callable[[], gymnasium.Env]) -> None:
        self.lanes = lanes
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vla_rl.env_worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Every process has a core's work as it is.
                env={"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._connection = Connection(ours.detach())
        self._tell((lanes, make))

    def spaces(self) -> tuple[gymnasium.Space, gymnasium.Space]:
        return self._answer()

    def attach(self, path: str, count: int, layout: dict[str, Any]) -> None:
        self._tell((path, count, layout))
        self._answer()

    def send(self, method: str, lanes: list[int], given: np.ndarray) -> None:
        self._tell((method, lanes, given))

    def receive(self) -> list[Shown]:
        return self._answer()

    def close(self) -> None:
        self._connection.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except ConnectionError as error:
            raise self._gone() from error

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._gone() from error
        if not isinstance(answer, Failure):
            return answer
        raised = answer.error or RuntimeError("an environment raised an error that cannot be passed on")
        raised.add_note(f"in a worker process:\n{answer.text}")
        raise raised

    def _gone(self) -> RuntimeError:
        self.close()
        code = self._process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return RuntimeError(f"the worker process of environments {', '.join(map(str, self.lanes))} ended: {how}")
