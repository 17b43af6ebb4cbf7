"""One agent's transitions from recorded pictures, with their episode and time written into the pixels. numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MARK = 8
"""Bytes at the beginning of a picture: the episode as uint32, the time as uint32."""


@dataclass(frozen=True)
class Step:
    """One transition; its pictures uint8 [H, W, 3] by camera, or [stack, H, W, 3], oldest first, where stacked.

    begins: whether it is the first one of its episode. last: whether it is the last one.
    """

    frames: dict[str, np.ndarray]
    stacked: dict[str, np.ndarray]
    next_stacked: dict[str, np.ndarray]
    state: np.ndarray
    next_state: np.ndarray
    tokens: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    begins: bool
    next_frames: dict[str, np.ndarray]

    @property
    def last(self) -> bool:
        return self.terminated or self.truncated


class Stream:
    """Episodes of recorded pictures, each cut at random, ended by the task or by a time limit.

    pictures: uint8 [N, H, W, 3] by camera. begins: where the recorded episodes begin, int [E]. marked: whether
    pictures say what they are; without marks they stay as they were recorded.
    """

    def __init__(
        self, pictures: Mapping[str, np.ndarray], begins: np.ndarray, stack: int, marked: bool, seed: int = 0
    ) -> None:
        self.pictures, self.stack, self.marked = dict(pictures), stack, marked
        count = len(next(iter(self.pictures.values())))
        self._episodes = list(zip(begins.tolist(), [*begins[1:].tolist(), count], strict=True))
        self._rng = np.random.default_rng(seed)
        self._steps = self._run()

    @classmethod
    def read(cls, path: Path, stack: int, marked: bool) -> Stream:
        """The recording that `record.write` wrote."""
        with np.load(path) as file:
            pictures = {name: file[name] for name in file.files if name != "begins"}
            return cls(pictures, file["begins"], stack, marked)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """[H, W, 3] by camera."""
        return {name: pictures.shape[1:] for name, pictures in self.pictures.items()}

    def take(self, count: int) -> list[Step]:
        """The next `count` transitions."""
        return [next(self._steps) for _ in range(count)]

    def _run(self) -> Iterator[Step]:
        episode = 0
        while True:
            begin, end = self._episodes[episode % len(self._episodes)]
            length = int(self._rng.integers(min(2, end - begin), end - begin + 1))
            yield from self._episode(episode, begin, length)
            episode += 1

    def _episode(self, episode: int, begin: int, length: int) -> Iterator[Step]:
        terminated = bool(self._rng.random() < 0.5)
        states = self._rng.normal(size=(length, 4)).astype(np.float32)
        seen = [self._frames(episode, t, begin) for t in range(length)]
        stacks = [self._stacked(seen, t) for t in range(length)]
        for t in range(length - 1):
            last = t == length - 2
            yield Step(
                frames=seen[t],
                stacked=stacks[t],
                next_stacked=stacks[t + 1],
                state=states[t],
                next_state=states[t + 1],
                tokens=self._rng.integers(0, 11, 3),
                reward=float(last and terminated),
                terminated=last and terminated,
                truncated=last and not terminated,
                begins=t == 0,
                next_frames=seen[t + 1],
            )

    def _frames(self, episode: int, t: int, begin: int) -> dict[str, np.ndarray]:
        frames = {name: pictures[begin + t].copy() for name, pictures in self.pictures.items()}
        if self.marked:
            mark = np.array([episode, t], np.uint32).view(np.uint8)
            for frame in frames.values():
                frame.reshape(-1)[:MARK] = mark
        return frames

    def _stacked(self, seen: list[dict[str, np.ndarray]], t: int) -> dict[str, np.ndarray]:
        """Without a stack, the frames themselves; the first frame repeated before the episode's start."""
        if self.stack == 1:
            return {name: frame[None] for name, frame in seen[t].items()}
        at = [max(t - j, 0) for j in reversed(range(self.stack))]
        return {name: np.stack([seen[i][name] for i in at]) for name in seen[t]}


def wrong(seen: Mapping[str, np.ndarray], following: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whose pictures are not those of one moment, and of the one after it: bool [B].

    seen, following: [B, stack, H, W, 3] by camera, of marked pictures, in any dtype.
    """
    first = next(iter(seen.values()))
    count, stack = first.shape[:2]
    truth = _marks(first)[:, -1]
    bad = np.zeros(count, bool)
    for frames, later in [(frames, 0) for frames in seen.values()] + [(frames, 1) for frames in following.values()]:
        back = np.arange(stack)[::-1]
        times = np.maximum(truth[:, 1:] + later - back, 0)
        expected = np.stack([np.repeat(truth[:, :1], stack, axis=1), times], axis=-1)
        bad |= (_marks(frames) != expected).any(axis=(1, 2))
    return bad


def _marks(frames: np.ndarray) -> np.ndarray:
    """Episode and time, int64 [B, stack, 2]."""
    flat = frames.reshape(*frames.shape[:2], -1)[..., :MARK]
    return np.ascontiguousarray(flat.astype(np.uint8)).view(np.uint32).astype(np.int64)
