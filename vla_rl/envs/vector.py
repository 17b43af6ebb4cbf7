"""Environments stepped together, some of them while others are acted for; here or in worker processes, K in each."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space, iterate

from vla_rl.buffer_pool import Recycler
from vla_rl.envs.worker import OUTCOME, REWARD, TERMINATED, TRUNCATED, Failure, Host, Shown, mapped, padded, sizes

Lanes = slice | Sequence[int]
Make = Callable[[], gymnasium.Env]
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
    """What B lanes showed: observation, arrays [B, ...] and lists of B texts by key; reward float64 [B]; terminated,
    truncated bool [B]; infos, a dict of each."""

    observation: dict[str, Any]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    infos: list[dict[str, Any]]


class VectorEnvs:
    """`count` environments, each a lane, whose Dict observations and actions are alike.

    The step after an episode's end resets, and its action is ignored (Gymnasium's `AutoresetMode.NEXT_STEP`).

    make: makes one; or the makers of each, in order; picklable where there are workers. workers: processes that they
    are dealt out to; 0 for this one.
    Any number of workers gives the same observations. timeout: seconds that a worker has for its environments' step
    or reset, and for making each; None for any.

    Attributes:
        observation_space, action_space, name: of one environment.

    Raises:
        ValueError: observations that are no Dict. Whatever making an environment raises.
        RuntimeError: a worker cannot be started, or ended. TimeoutError: it took too long, and was ended.
    """

    def __init__(self, make: Make | Sequence[Make], count: int, workers: int = 0, timeout: float | None = None) -> None:
        self.count = count
        makers = [make] * count if callable(make) else list(make)
        if len(makers) != count:
            raise ValueError(f"make: {len(makers)} makers for {count} environments")
        hosts = min(workers, count)
        dealt = [range(i, count, max(hosts, 1)) for i in range(max(hosts, 1))]
        self._hosts: list[_Host] = []
        self._sent: deque[tuple[Lanes, list[tuple[_Host, list[int]]]]] = deque()
        self._recycler = Recycler()
        try:
            for lanes in dealt:
                mine = [makers[lane] for lane in lanes]
                self._hosts.append(_Remote(lanes, mine, timeout) if hosts else _Local(lanes, mine))
            self.observation_space, self.action_space, self.name = self._about()
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

    def send(self, actions: Any, lanes: Lanes) -> None:
        """Have `lanes`, as many as there are batched `actions`, take a step; `receive` says what came of it."""
        self._send("step", self._split(actions), lanes)

    def send_seeds(self, seeds: Sequence[int], lanes: Lanes) -> None:
        """Have `lanes` begin an episode each, of their `seeds`; `receive` says what they show."""
        self._send("reset", np.asarray(seeds, np.int64), lanes)

    def receive(self) -> Steps:
        """What came of the oldest step, or reset, that was sent and not received yet.

        Raises:
            RuntimeError: a worker is gone; its lanes are named. TimeoutError: it took too long. ValueError: what an
                environment shows cannot be learned from. Whatever an environment raised. All is closed then.
        """
        lanes, shares = self._sent.popleft()
        shown: dict[int, Shown] = {}
        try:
            for host, mine in shares:
                shown |= zip(mine, host.receive(), strict=True)
        except BaseException:
            self.close()
            raise
        rest = [shown[lane] for lane in self._numbers(lanes)]
        columns = {name: self._copied(column, lanes) for name, column in self._columns.items()}
        reward, terminated, truncated = (columns.pop(name) for name in (REWARD, TERMINATED, TRUNCATED))
        texts = {key: [said[key] for said, _ in rest] for key in rest[0][0]}
        return Steps(columns | texts, reward, terminated, truncated, [info for _, info in rest])

    def close(self) -> None:
        """End all environments and processes."""
        for host in self._hosts:
            host.close()
        self._hosts = []

    def _numbers(self, lanes: Lanes) -> Sequence[int]:
        return range(self.count)[lanes] if isinstance(lanes, slice) else lanes

    def _copied(self, column: np.ndarray, lanes: Lanes) -> np.ndarray:
        if not isinstance(lanes, slice):
            return column[list(lanes)]
        shown = column[lanes]
        copy = self._recycler.empty(shown.shape, shown.dtype)
        np.copyto(copy, shown)
        return copy

    def _about(self) -> tuple[gymnasium.Space, gymnasium.Space, str]:
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
        place = {lane: i for i, lane in enumerate(self._numbers(lanes))}
        shares = self._share(lanes)
        try:
            for host, mine in shares:
                host.send(method, mine, given[[place[lane] for lane in mine]])
        except BaseException:
            self.close()
            raise
        self._sent.append((lanes, shares))

    def _share(self, lanes: Lanes) -> list[tuple[_Host, list[int]]]:
        """The hosts of these lanes, and which of them each has."""
        wanted = self._numbers(lanes)
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

    def about(self) -> tuple[gymnasium.Space, gymnasium.Space, str]: ...
    def attach(self, path: str, count: int, layout: dict[str, Any]) -> None: ...
    def send(self, method: str, lanes: list[int], given: np.ndarray) -> None: ...
    def receive(self) -> list[Shown]: ...
    def close(self) -> None: ...


class _Local:
    """This process, which does what was sent when it is asked for."""

    def __init__(self, lanes: Sequence[int], makers: Sequence[Make]) -> None:
        self.lanes = lanes
        self._host = Host(lanes, makers)
        self._sent: deque[tuple[str, list[int], np.ndarray]] = deque()

    def about(self) -> tuple[gymnasium.Space, gymnasium.Space, str]:
        return self._host.about

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

    def __init__(self, lanes: Sequence[int], makers: Sequence[Make], timeout: float | None) -> None:
        self.lanes, self._timeout = lanes, timeout
        self._asked: deque[str] = deque(["start"])
        self._since = 0.0
        ours, theirs = socket.socketpair()
        # The socket's own limit costs nothing, where asking it for news before each answer would.
        limit = struct.pack("ll", int(timeout or 0), int((timeout or 0) % 1 * 1e6))
        for way in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, way, limit)
        self._connection = Connection(ours.detach())
        try:
            with theirs:
                self._process = self._start(theirs.fileno())
        except BaseException:
            self._connection.close()
            raise
        try:
            self._tell("make", lanes, (lanes, makers))
        except BaseException:
            self._process.kill()
            self.close()
            raise

    def _start(self, end: int) -> subprocess.Popen[bytes]:
        # -P: a file of the working folder must not stand in for a module that the trainer has from elsewhere.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        try:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "vla_rl.envs.worker", str(end)],
                pass_fds=[end],
                stdin=subprocess.DEVNULL,
                # Every process has a core's work as it is.
                env={"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": path},
            )
        except OSError as error:
            raise RuntimeError(
                f"no worker process for environments {_listed(self.lanes)} can be started with {sys.executable!r} "
                f"({error}); train.workers=0 and eval.workers=0 step them in the trainer's process"
            ) from error

    def about(self) -> tuple[gymnasium.Space, gymnasium.Space, str]:
        self._connection.poll(None)  # how long a program takes to start is the system's business
        self._answer()
        if self._timeout is not None and not self._connection.poll(self._timeout * len(self.lanes)):
            raise self._late()
        return self._answer()

    def attach(self, path: str, count: int, layout: dict[str, Any]) -> None:
        self._tell("attach", self.lanes, (path, count, layout))
        self._answer()

    def send(self, method: str, lanes: list[int], given: np.ndarray) -> None:
        self._tell(method, lanes, (method, lanes, given))

    def receive(self) -> list[Shown]:
        return self._answer()

    def close(self) -> None:
        self._connection.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, what: str, lanes: Sequence[int], message: Any) -> None:
        if not self._asked:
            self._since = time.monotonic()
        self._asked.append(f"{what} {_listed(lanes)}")
        try:
            self._connection.send(message)
        except BlockingIOError as error:
            raise self._late() from error
        except ConnectionError as error:
            raise self._gone() from error

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except BlockingIOError as error:
            raise self._late() from error
        except (EOFError, ConnectionError) as error:
            raise self._gone() from error
        self._asked.popleft()
        self._since = time.monotonic()
        if not isinstance(answer, Failure):
            return answer
        last = answer.text.strip().rpartition("\n")[2]
        raised = answer.error or RuntimeError(f"an environment raised an error that cannot be passed on: {last}")
        raised.add_note(f"in a worker process:\n{answer.text}")
        raise raised

    def _gone(self) -> RuntimeError:
        self.close()
        code = self._process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        hint = " (as the system ends processes where memory runs out)" if code == -signal.SIGKILL else ""
        return RuntimeError(
            f"the worker process of environments {_listed(self.lanes)} ended: {how}{hint}, in `{self._asked[0]}`; "
            "what it said last stands above"
        )

    def _late(self) -> TimeoutError:
        waited = time.monotonic() - self._since
        self._process.kill()
        self.close()
        return TimeoutError(
            f"the worker process of environments {_listed(self.lanes)} has not answered `{self._asked[0]}` for "
            f"{waited:.3g} s, and was ended; train.step_timeout={self._timeout:g} is its limit (null for none)"
        )


def _listed(lanes: Sequence[int]) -> str:
    return ", ".join(map(str, lanes))
