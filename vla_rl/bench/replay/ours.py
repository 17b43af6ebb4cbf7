"""Our replay buffer on the course of `vla-rl bench replay`, and the roof over its sampling, in one process."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.bench.replay.course import BATCH, Looked, Setting, main
from vla_rl.bench.replay.stream import Step, Stream
from vla_rl.replay import Batch, ReplayBuffer
from vla_rl.specs import IMAGES, STATE, TASK

CODED_SHARE = 0.15
"""Of the bytes of raw rows, what the coded buffer may take."""
TASKS = ["bring the gripper to the red thing"]


class Raw:
    """Everything in RAM as it is."""

    def __init__(self, setting: Setting, stream: Stream, folder: Path) -> None:
        self.setting, self.shapes = setting, stream.shapes
        self.rng = np.random.default_rng(0)
        self.buffer = self.make(folder)
        self._roof: Roof | None = None

    def make(self, folder: Path, **limits: Any) -> ReplayBuffer:
        setting = self.setting
        return ReplayBuffer(
            setting.capacity, self.shapes, state_dim=4, slots=3, n_step=1, stack=setting.stack, choices=11, **limits
        )

    def __len__(self) -> int:
        return len(self.buffer.sampleable_ids())

    def add(self, step: Step) -> None:
        self._row(step.frames, step.state, step, final=False)
        if step.last:
            self._row(step.next_frames, step.next_state, step, final=True)

    def _row(self, frames: dict[str, np.ndarray], state: np.ndarray, step: Step, final: bool) -> None:
        observation: dict[str, Any] = {IMAGES + name: frame[None] for name, frame in frames.items()}
        observation |= {STATE: state[None], TASK: TASKS}
        self.buffer.add(
            observation,
            step.tokens[None],
            np.array([step.reward]),
            np.array([step.terminated]),
            np.array([step.truncated]),
            np.array([final]),
        )

    def sample(self, count: int) -> Batch:
        return self.buffer.sample(count, self.rng)

    def look(self, sampled: Batch) -> Looked:
        seen, following = (self._pictures(each) for each in (sampled.observation, sampled.next_observation))
        return Looked(seen, following, sampled.discount > 0)

    def _pictures(self, observation: dict[str, Any]) -> dict[str, np.ndarray]:
        pictures = {name: observation[IMAGES + name] for name in self.shapes}
        return pictures if self.setting.stack > 1 else {name: each[:, None] for name, each in pictures.items()}

    def save(self, folder: Path) -> None:
        self.buffer.save(folder)

    def load(self, folder: Path) -> None:
        self.buffer.load(folder)

    def roofs(self) -> dict[str, float]:
        """In turn with our sampling: transitions a second of a bare gather, and our share of it."""
        self._roof = self._roof or Roof(self.shapes, self.setting)
        times = np.array([[_timed(self._roof), _timed(self.sample, BATCH)] for _ in range(self.setting.batches)])
        bare, ours = np.median(times, axis=0)
        return {"roof_per_s": BATCH / float(bare), "share_of_roof": float(bare / ours)}


class Coded(Raw):
    """A small part of RAM, the frames coded but for the newest ones."""

    def make(self, folder: Path, **limits: Any) -> ReplayBuffer:
        raw = super().make(folder).plan()["bytes"]
        return super().make(folder, ram_bytes=int(CODED_SHARE * raw))


class Roof:
    """A gather of random rows, with their next ones, into memory that is there: as fast as this machine can sample.

    By two threads, as everybody may use.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], setting: Setting) -> None:
        rows = 2 * BATCH * setting.stack
        rng = np.random.default_rng(0)
        self._frames = [rng.integers(0, 256, (setting.capacity, *shape), np.uint8) for shape in shapes.values()]
        self._out = [np.empty((rows, *shape), np.uint8) for shape in shapes.values()]
        self._rng, self._rows, self._capacity = rng, rows, setting.capacity
        self._threads = ThreadPoolExecutor(2)
        self()

    def __call__(self) -> None:
        at = self._rng.integers(0, self._capacity, self._rows)
        half = self._rows // 2
        parts = [
            (frames, at[begin:end], out[begin:end])
            for frames, out in zip(self._frames, self._out, strict=True)
            for begin, end in ((0, half), (half, self._rows))
        ]
        list(self._threads.map(lambda part: np.take(part[0], part[1], axis=0, out=part[2], mode="clip"), parts))


def _timed(work: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main({"raw": Raw, "coded": Coded})
