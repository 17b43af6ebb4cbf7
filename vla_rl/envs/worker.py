"""Where environments are stepped: in the trainer's own process, or in one that `envs.vector` starts with this file.

An environment whose episode is over is reset in the following step, whose action is ignored. What is shown goes into
arrays in shared memory; texts and what is plain of an info are few bytes, and go back as they are.
"""

from __future__ import annotations

import contextlib
import faulthandler
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeGuard

import gymnasium
import numpy as np

from vla_rl import envs
from vla_rl.envs.snapshots import restore_to, snapshot_of

REWARD, TERMINATED, TRUNCATED = "reward", "terminated", "truncated"
Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""Columns by name: the shape and dtype of a lane's entry."""
OUTCOME: dict[str, tuple[tuple[int, ...], str]] = {
    REWARD: ((), "float64"), TERMINATED: ((), "bool"), TRUNCATED: ((), "bool")
}  # fmt: skip
"""The columns beside those of the observation."""

SNAPSHOT, RESTORE = "snapshot", "restore"
"""What a lane may be asked for beside episodes and steps."""
Shown = tuple[dict[str, Any], dict[str, Any]]
"""What of a lane's observation is no array, and its info."""
ATOMS = frozenset({bool, int, float, str, bytes, type(None)})
"""Values that travel as they are."""


@dataclass
class _Lane:
    """An environment, and where in which episode it is.

    make: makes another. broken: whether it has raised an error, so that another is made before the next episode.
    over: whether its episode is. seed: what it was last reset with. later: episodes since then. steps: of this one.
    """

    env: gymnasium.Env
    make: Callable[[], gymnasium.Env]
    broken: bool = False
    over: bool = False
    seed: int | None = None
    later: int = 0
    steps: int = 0

    def __str__(self) -> str:
        episode = f"episode {self.later} after that of seed" if self.later else "the episode of seed"
        return f"step {self.steps} of {episode} {self.seed}"

    def snapshot(self) -> dict[str, Any] | None:
        """What `restore` goes on from; None where the environment cannot tell, or has no episode."""
        state = None if self.broken or self.seed is None else snapshot_of(self.env)
        if state is None:
            return None
        return {"env": state, "over": self.over, "seed": self.seed, "later": self.later, "steps": self.steps}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a `snapshot`. Raises whatever an environment does that cannot."""
        restore_to(self.env, snapshot["env"])
        self.over, self.seed, self.later, self.steps = (snapshot[name] for name in ("over", "seed", "later", "steps"))


class Host:
    """The environments of some lanes.

    lanes: their numbers among all. makers: what makes the environment of each.

    Attributes:
        columns: where to write what the lanes show, [all lanes, ...] by name; given once it is known how much that is.
    """

    def __init__(self, lanes: Sequence[int], makers: Sequence[Callable[[], gymnasium.Env]]) -> None:
        self.columns: dict[str, np.ndarray] = {}
        self._lanes: dict[int, _Lane] = {}
        try:
            for lane, make in zip(lanes, makers, strict=True):
                self._lanes[lane] = _Lane(make(), make)
        except BaseException:
            self.close()
            raise
        space = self.about[0]
        parts = space.items() if isinstance(space, gymnasium.spaces.Dict) else ()
        self._bounds = {key: envs.Bounds.of(key, part) for key, part in parts if _of_floats(part)}

    @property
    def about(self) -> tuple[gymnasium.Space, gymnasium.Space, str]:
        """Of one environment: the spaces of its observations and actions, and its name."""
        env = next(iter(self._lanes.values())).env
        return env.observation_space, env.action_space, envs.name_of(env)

    def work(self, method: str, lanes: Sequence[int], given: Sequence[Any] | np.ndarray) -> list[Any]:
        """`reset` lanes with seeds, or `step` them with actions, one after another: what each shows, `Shown`.

        `snapshot` gives what each goes on from when it is asked to `restore` that; None where it cannot tell.

        A lane's Failure is whatever its environment raised, or a ValueError where what it showed cannot be learned
        from; it has a note of the lane, its seed and step. Such a lane must then be reset, for which it is made anew.
        """
        return [self._attempt(method, lane, each) for lane, each in zip(lanes, given, strict=True)]

    def _attempt(self, method: str, number: int, given: Any) -> Any:
        lane = self._lanes[number]
        try:
            if method == "reset":
                return self._reset(number, int(given))
            if method == "step":
                return self._step(number, given)
            return lane.snapshot() if method == SNAPSHOT else lane.restore(given)
        except (Exception, SystemExit) as error:
            with_what = f", with {given!r}" if method in ("reset", "step") else ""
            error.add_note(f"in environment {number}, {lane if method == 'step' else method}{with_what}")
            lane.broken = lane.broken or method != SNAPSHOT
            return Failure.of(error)

    def close(self) -> None:
        """Close every environment."""
        for lane in self._lanes.values():
            lane.env.close()

    def _reset(self, number: int, seed: int | None) -> Shown:
        lane = self._lanes[number]
        if lane.broken:
            with contextlib.suppress(Exception):  # it has gone wrong as it is
                lane.env.close()
            lane.env, lane.broken = lane.make(), False
        observation, info = lane.env.reset(seed=seed)
        lane.seed, lane.later = (lane.seed, lane.later + 1) if seed is None else (seed, 0)
        lane.steps = 0
        return self._write(number, observation, (0.0, False, False), info)

    def _step(self, number: int, action: Any) -> Shown:
        lane = self._lanes[number]
        if lane.over:
            return self._reset(number, None)
        observation, reward, terminated, truncated, info = lane.env.step(action)
        shown = self._write(number, observation, (envs.earned(reward, info), bool(terminated), bool(truncated)), info)
        lane.steps += 1
        return shown

    def _write(
        self, number: int, observation: Mapping[str, Any], outcome: tuple[float, bool, bool], info: dict[str, Any]
    ) -> Shown:
        for name, value in zip(OUTCOME, outcome, strict=True):
            self.columns[name][number] = value
        self._lanes[number].over = outcome[1] or outcome[2]
        rest = {}
        for key, value in observation.items():
            if key in self.columns:
                self._show(key, number, value, info)
            else:
                rest[key] = plain(value)
        if len(observation) - len(rest) < len(self.columns) - len(OUTCOME):
            missing = self.columns.keys() - OUTCOME.keys() - observation.keys()
            raise ValueError(f"the observation lacks {', '.join(sorted(missing))}")
        return rest, {key: value if type(value) in ATOMS else plain(value) for key, value in info.items()}

    def _show(self, key: str, number: int, value: Any, info: Mapping[str, Any]) -> None:
        """Write one array of an observation; what is not finite in a spoilt one becomes 0."""
        column = self.columns[key]
        value = np.asarray(value)
        if value.shape != column.shape[1:]:
            raise ValueError(f"{key}: expected an array {list(column.shape[1:])}, got {list(value.shape)}")
        # Numbers of another size fit; pictures between 0 and 1, whose every pixel would become 0, and texts do not.
        if value.dtype != column.dtype and not np.can_cast(value.dtype, column.dtype, "same_kind"):
            raise ValueError(f"{key}: expected {column.dtype}, got {value.dtype}")
        column[number] = value
        if key not in self._bounds:
            return
        if envs.spoilt(info):
            column[number] = np.nan_to_num(column[number], posinf=0.0, neginf=0.0)
        self._bounds[key].check(column[number])


def _of_floats(space: gymnasium.Space) -> TypeGuard[gymnasium.spaces.Box]:
    return isinstance(space, gymnasium.spaces.Box) and space.dtype.kind == "f"


def plain(value: Any) -> Any:
    """What of a value travels to another process, and nobody else can change: numbers and texts, arrays of them, and
    lists and dicts of these. Anything else becomes a text that names its class.
    """
    if type(value) in ATOMS:
        return value
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(map(plain, value))
    if hasattr(value, "__array__"):
        with contextlib.suppress(Exception):  # what somebody else's array does, such as one on another device
            array = np.array(value)
            if array.dtype.kind in "biufcSU":
                return array if array.ndim else array[()]
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


@dataclass(frozen=True)
class Failure:
    """What was not done: the error, and its traceback."""

    error: Exception
    text: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Of an error that is being handled."""
        text = "".join(traceback.format_exception(error))
        # An environment that exits must not end the trainer.
        return cls(error if isinstance(error, Exception) else _told(error), text)

    def portable(self) -> Failure:
        """The same, if it would arrive in another process; else with an error that does, and says as much."""
        # Only to see whether it would arrive: the pipe pickles what travels between our own two processes.
        with contextlib.suppress(Exception):  # whatever an exception of somebody's own class does when it is unpickled
            pickle.loads(pickle.dumps(self.error))
            return self
        return Failure(_told(self.error), self.text)


def _told(error: BaseException) -> RuntimeError:
    """An error of a kind that everybody knows, which says what `error` does."""
    told = RuntimeError(f"an environment raised an error that cannot be passed on: {type(error).__name__}: {error}")
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    return told


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
    faulthandler.enable()  # says where a library has crashed
    with contextlib.suppress(EOFError, ConnectionError), contextlib.ExitStack() as stack:
        connection.send(None)  # it has started
        try:
            host = Host(*connection.recv())
            stack.callback(host.close)
            connection.send(host.about)
        except BaseException as error:
            connection.send(Failure.of(error).portable())
            return
        host.columns = mapped(*connection.recv())
        connection.send(None)
        while True:
            answers = host.work(*connection.recv())
            connection.send([each.portable() if isinstance(each, Failure) else each for each in answers])


if __name__ == "__main__":
    # What travels names classes by their module, which this file is not while it runs as a program.
    from vla_rl.envs import worker

    worker.serve(Connection(int(sys.argv[1])))
