"""Where the environments of some lanes are: in this process, or in a worker, which is ended and started anew."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

import gymnasium
import numpy as np

from vla_rl.envs.worker import Failure, Host, Layout, mapped

Make = Callable[[], gymnasium.Env]
About = tuple[gymnasium.Space, gymnasium.Space, str]
"""Of one environment: the spaces of its observations and actions, and its name."""
Given = Sequence[Any] | np.ndarray
"""What is given to each of some lanes."""
GRACE = 5.0
"""Seconds that workers have to close their environments."""


class Hosting(Protocol):
    """Where some lanes' environments are.

    Attributes:
        lanes: their numbers among all.
    """

    lanes: Sequence[int]

    def about(self) -> About:
        """What the environments are, once all are made. Raises whatever making one raised."""

    def attach(self, path: str, file: int, count: int, layout: Layout) -> None:
        """Have what `count` lanes show written into the columns of `layout`, in a file and its open descriptor."""

    def send(self, method: str, lanes: list[int], given: Given) -> None:
        """Ask for `method` with what is `given` to each of `lanes`."""

    def receive(self) -> list[Any]:
        """What came of the oldest that was sent and not received yet, by lane: see `Host.work`, or a `Failure`."""

    def start_anew(self) -> None:
        """Give up what was sent, and make the environments again."""

    def leave(self) -> None:
        """Have it end, without waiting."""

    def close(self, until: float) -> None:
        """End it, at that time of `time.monotonic` by force."""


class Local:
    """This process, which does what was sent when it is asked for."""

    def __init__(self, lanes: Sequence[int], makers: Sequence[Make]) -> None:
        self.lanes, self._makers = lanes, makers
        self._host = Host(lanes, makers)
        self._sent: deque[tuple[str, list[int], Given]] = deque()

    def about(self) -> About:
        return self._host.about

    def attach(self, path: str, file: int, count: int, layout: Layout) -> None:
        self._host.columns = mapped(path, count, layout)

    def send(self, method: str, lanes: list[int], given: Given) -> None:
        self._sent.append((method, lanes, given))

    def receive(self) -> list[Any]:
        return self._host.work(*self._sent.popleft())

    def start_anew(self) -> None:
        columns = self._host.columns
        self._host.close()
        self._sent.clear()
        self._host = Host(self.lanes, self._makers)
        self._host.columns = columns

    def leave(self) -> None:
        pass

    def close(self, until: float) -> None:
        self._host.close()


class Remote:
    """A process that does what was sent at once.

    It is a program of its own, not a fork: the trainer's threads, device and main script do not come along.

    Raises:
        RuntimeError: from every method; it cannot be started, or ended. TimeoutError: it took too long, and was ended.
    """

    def __init__(self, lanes: Sequence[int], makers: Sequence[Make], timeout: float | None) -> None:
        self.lanes, self._makers, self._timeout = lanes, makers, timeout
        self._memory: tuple[int, int, Layout] | None = None
        self._begin()

    def about(self) -> About:
        self._connection.poll(None)  # how long a program takes to start is the system's business
        self._answer()
        if self._timeout is not None and not self._connection.poll(self._timeout * len(self.lanes)):
            raise self._late()
        self._starting = False
        return self._answer()

    def attach(self, path: str, file: int, count: int, layout: Layout) -> None:
        self._memory = file, count, layout
        self._tell("attach", self.lanes, (path, count, layout))
        self._answer()

    def send(self, method: str, lanes: list[int], given: Given) -> None:
        self._tell(method, lanes, (method, lanes, given))

    def receive(self) -> list[Any]:
        if self._starting:
            self.about()
            self._answer()  # it has attached the memory
        return [_noted(each) if isinstance(each, Failure) else each for each in self._answer()]

    def start_anew(self) -> None:
        assert self._memory is not None, "it is attached before anything is sent"
        self._process.kill()
        self.close(time.monotonic() + GRACE)
        file, count, layout = self._memory
        self._begin(file)
        self._tell("attach", self.lanes, (f"/dev/fd/{file}", count, layout))

    def leave(self) -> None:
        self._connection.close()

    def close(self, until: float) -> None:
        self._connection.close()
        try:
            self._process.wait(max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _begin(self, *files: int) -> None:
        """Start the process, which inherits `files`, and have it make the environments."""
        self._asked: deque[str] = deque(["start"])
        self._since = time.monotonic()
        self._starting = True
        ours, theirs = socket.socketpair()
        # The socket's own limit costs nothing, where asking it for news before each answer would.
        limit = struct.pack("ll", int(self._timeout or 0), int((self._timeout or 0) % 1 * 1e6))
        for way in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, way, limit)
        self._connection: Connection = Connection(ours.detach())
        try:
            with theirs:
                self._process = self._start(theirs.fileno(), *files)
        except BaseException:
            self._connection.close()
            raise
        try:
            self._tell("make", self.lanes, (self.lanes, self._makers))
        except BaseException:
            self._process.kill()
            self.close(time.monotonic() + GRACE)
            raise

    def _start(self, end: int, *files: int) -> subprocess.Popen[bytes]:
        # -P: a file of the working folder must not stand in for a module that the trainer has from elsewhere.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        try:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "vla_rl.envs.worker", str(end)],
                pass_fds=[end, *files],
                stdin=subprocess.DEVNULL,
                # Every process has a core's work as it is.
                env={"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": path},
            )
        except OSError as error:
            raise RuntimeError(
                f"no worker process for environments {listed(self.lanes)} can be started with {sys.executable!r} "
                f"({error}); train.workers=0 and eval.workers=0 step them in the trainer's process"
            ) from error

    def _tell(self, what: str, lanes: Sequence[int], message: Any) -> None:
        if not self._asked:
            self._since = time.monotonic()
        self._asked.append(f"{what} {listed(lanes)}")
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
        if isinstance(answer, Failure):
            raise _noted(answer).error
        return answer

    def _gone(self) -> RuntimeError:
        self.close(time.monotonic() + GRACE)
        code = self._process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        hint = " (as the system ends processes where memory runs out)" if code == -signal.SIGKILL else ""
        return RuntimeError(
            f"the worker process of environments {listed(self.lanes)} ended: {how}{hint}, in `{self._asked[0]}`; "
            "what it said last stands above"
        )

    def _late(self) -> TimeoutError:
        waited = time.monotonic() - self._since
        self._process.kill()
        self.close(time.monotonic() + GRACE)
        return TimeoutError(
            f"the worker process of environments {listed(self.lanes)} has not answered `{self._asked[0]}` for "
            f"{waited:.3g} s, and was ended; train.step_timeout={self._timeout:g} is its limit (null for none)"
        )


def _noted(failure: Failure) -> Failure:
    """The same, whose error says where it was raised."""
    failure.error.add_note(f"in a worker process:\n{failure.text}")
    return failure


def listed(lanes: Sequence[int]) -> str:
    """For people."""
    return ", ".join(map(str, lanes))
