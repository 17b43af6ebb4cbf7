"""Where environments are stepped: in the trainer's own process, or in one that `vla_rl.vector` starts with this file.

An environment whose episode is over is reset in the following step, whose action is ignored. What is shown goes into
arrays in shared memory; texts and infos are few bytes, and go back as they are.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np

REWARD, TERMINATED, TRUNCATED = "reward", "terminated", "truncated"
Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""Columns by name: the shape and dtype of a lane's entry."""
OUTCOME: dict[str, tuple[tuple[int, ...], str]] = {
    REWARD: ((), "float32"), TERMINATED: ((), "bool"), TRUNCATED: ((), "bool")
}  # fmt: skip
"""The columns beside those of the observation."""

Shown = tuple[dict[str, Any], dict[str, Any]]
"""What of a lane's observation is no array, and its info."""


class Host:
    """The environments of some lanes.

    lanes: their numbers among all. make: makes the environment of one.

    Attributes:
        columns: where to write what the lanes show, [all lanes, ...] by name; given once it is known how much that is.
    """

    def __init__(self, lanes: Sequence[int], make: Callable[[], gymnasium.Env]) -> None:
        self.columns: dict[str, np.ndarray] = {}
        self._envs: dict[int, gymnasium.Env] = {}
        self._over = dict.fromkeys(lanes, False)
        try:
            for lane in lanes:
                self._envs[lane] = make()
        except BaseException:
            self.close()
            raise

    @property
    def spaces(self) -> tuple[gymnasium.Space, gymnasium.Space]:
        """Of one environment's observations and actions."""
        env = next(iter(self._envs.values()))
        return env.observation_space, env.action_space

    def work(self, method: str, lanes: Sequence[int], given: np.ndarray) -> list[Shown]:
        """`reset` lanes with seeds, or `step` them with actions, one after another.

        What an environment raises gets a note of its lane.
        """
        shown = []
        for lane, each in zip(lanes, given, strict=True):
            try:
                shown.append(self._reset(lane, int(each)) if method == "reset" else self._step(lane, each))
            except Exception as error:
                error.add_note(f"in environment {lane}, {method} with {each!r}")
                raise
        return shown

    def close(self) -> None:
        """Close every environment."""
        for env in self._envs.values():
            env.close()

    def _reset(self, lane: int, seed: int | None) -> Shown:
        observation, info = self._envs[lane].reset(seed=seed)
        return self._write(lane, observation, (0.0, False, False), info)

    def _step(self, lane: int, action: Any) -> Shown:
        if self._over[lane]:
            return self._reset(lane, None)
        observation, reward, terminated, truncated, info = self._envs[lane].step(action)
        return self._write(lane, observation, (float(reward), terminated, truncated), info)

    def _write(
        self, lane: int, observation: Mapping[str, Any], outcome: tuple[float, bool, bool], info: dict[str, Any]
    ) -> Shown:
        for name, value in zip(OUTCOME, outcome, strict=True):
            self.columns[name][lane] = value
        self._over[lane] = outcome[1] or outcome[2]
        rest = {}
        for key, value in observation.items():
            if key in self.columns:
                self.columns[key][lane] = value
            else:
                rest[key] = value
        return rest, info


@dataclass(frozen=True)
class Failure:
    """What a worker could not do: the error, None where it cannot travel, and its traceback."""

    error: Exception | None
    text: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Of an error that is being handled."""
        text = "".join(traceback.format_exception(error))
        # Only to see whether it would arrive: the pipe pickles what travels between our own two processes.
        with contextlib.suppress(Exception):  # whatever an exception of somebody's own class does when it is unpickled
            pickle.loads(pickle.dumps(error))
            return cls(error, text)
        return cls(None, text)


def mapped(path: str, lanes: int, layout: Layout) -> dict[str, np.ndarray]:
    """The columns [lanes, ...] of `layout` (by name: a lane's shape and dtype) in a file that all processes map."""
    # As a plain array: a memmap's own bookkeeping at every slice costs more than the copy of a small column.
    memory, begin, columns = np.asarray(np.memmap(path, np.uint8, "r+")), 0, {}
    for name, size in sizes(lanes, layout).items():
        shape, kind = layout[name]
        columns[name] = memory[begin : begin + size].view(kind).reshape(lanes, *shape)
        begin += padded(size)
    return columns


def sizes(lanes: int, layout: Layout) -> dict[str, int]:
    """Bytes of each column of `layout`."""
    return {
        name: lanes * int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        for name, (shape, kind) in layout.items()
    }


def padded(size: int) -> int:
    """Bytes that a column of `size` takes, so that the next one begins at a line of the processor's cache."""
    return -(-size // 64) * 64


def serve(connection: Connection) -> None:
    """Do what the trainer says until it is gone."""
    # Ctrl-C, and a scheduler's SIGTERM, reach all processes of a run, but the trainer decides. Handlers, since what is
    # ignored would be ignored by a browser that is started from here, too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    with contextlib.suppress(EOFError, ConnectionError), contextlib.ExitStack() as stack:
        try:
            host = Host(*connection.recv())
        except Exception as error:
            connection.send(Failure.of(error))
            return
        stack.callback(host.close)
        connection.send(host.spaces)
        host.columns = mapped(*connection.recv())
        connection.send(None)
        while True:
            method, lanes, given = connection.recv()
            try:
                answer: Any = host.work(method, lanes, given)
            except Exception as error:
                answer = Failure.of(error)
            connection.send(answer)


if __name__ == "__main__":
    # What travels names classes by their module, which this file is not while it runs as a program.
    from vla_rl import env_worker

    env_worker.serve(Connection(int(sys.argv[1])))
