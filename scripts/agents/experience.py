"""What a rival of ours remembers: each observation once, and transitions of several steps made when they are drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scripts.agents.course import Seen, Transitions


class Batch(NamedTuple):
    """Transitions of up to n steps. reward [B]: discounted sum. discount [B]: gamma^m, 0 after termination, not after
    a time limit."""

    seen: dict[str, Tensor]
    action: Tensor
    reward: Tensor
    discount: Tensor
    following: dict[str, Tensor]

    def join(self, other: Batch) -> Batch:
        """Both batches as one."""
        seen, following = (
            {key: torch.cat([mine[key], theirs[key]]) for key in mine}
            for mine, theirs in ((self.seen, other.seen), (self.following, other.following))
        )
        numbers = (torch.cat(pair) for pair in zip(self[1:4], other[1:4], strict=True))
        return Batch(seen, *numbers, following)


class Experience:
    """Up to `capacity` observations; an episode's last observation takes a place of its own.

    Once full it forgets the oldest. A row is drawn uniformly from the steps that are whole; gamma, n_step: of what is
    drawn.
    """

    def __init__(self, capacity: int, gamma: float, n_step: int, seed: int) -> None:
        self.capacity, self.gamma, self.n_step = capacity, gamma, n_step
        self.rng = np.random.default_rng(seed)
        self.seen: Seen = {}
        self.action = np.zeros(0)
        self.reward = np.zeros(capacity, np.float32)
        self.terminated = np.zeros(capacity, bool)
        self.last = np.zeros(capacity, bool)  # an episode's last observation, of which no step begins
        self.place = self.size = 0

    def __len__(self) -> int:
        """How many observations there are."""
        return self.size

    def begin(self, seen: Seen, action: np.ndarray, reward: float, terminated: bool) -> None:
        """Remember a step, and where it began."""
        self._put(seen, last=False)
        if not self.action.size:
            self.action = np.zeros((self.capacity, *action.shape), np.float32)
        self.action[self.place], self.reward[self.place] = action, reward
        self.terminated[self.place] = terminated
        self._move()

    def end(self, seen: Seen) -> None:
        """Remember an episode's last observation."""
        self._put(seen, last=True)
        self._move()

    def extend(self, episodes: Iterable[Transitions]) -> None:
        """Remember whole episodes."""
        for episode in episodes:
            for step in range(len(episode)):
                seen = {key: value[step] for key, value in episode.seen.items()}
                self.begin(seen, episode.action[step], episode.reward[step], episode.terminated[step])
            self.end({key: value[-1] for key, value in episode.seen.items()})

    def sample(self, count: int) -> Batch:
        """Transitions of up to `n_step` steps: fewer where an episode, or what is remembered, ends before."""
        rows = self._starts(count)
        reward, discount = np.zeros(count, np.float32), np.ones(count, np.float32)
        at, going = rows.copy(), np.ones(count, bool)
        newest = (self.place - 1) % self.capacity
        for _ in range(self.n_step):
            reward += np.where(going, discount * self.reward[at], 0).astype(np.float32)
            discount = np.where(going, discount * self.gamma * ~self.terminated[at], discount).astype(np.float32)
            at = np.where(going, (at + 1) % self.capacity, at)
            going &= ~self.last[at] & (at != newest)
        return Batch(self._look(rows), torch.from_numpy(self.action[rows]), *map(torch.from_numpy, (reward, discount)),
                     self._look(at))  # fmt: skip

    def _starts(self, count: int) -> np.ndarray:
        """Places whose step is known to its end: neither an episode's last observation nor the newest."""
        rows = np.zeros(0, np.int64)
        newest = (self.place - 1) % self.capacity
        while len(rows) < count:
            drawn = self.rng.integers(self.size, size=2 * count)
            rows = np.concatenate([rows, drawn[~self.last[drawn] & (drawn != newest)]])
        return rows[:count]

    def _look(self, rows: np.ndarray) -> dict[str, Tensor]:
        return {key: torch.from_numpy(value[rows]) for key, value in self.seen.items()}

    def _put(self, seen: Seen, last: bool) -> None:
        if not self.seen:
            self.seen = {key: np.zeros((self.capacity, *value.shape), value.dtype) for key, value in seen.items()}
        for key, value in seen.items():
            self.seen[key][self.place] = value
        self.last[self.place], self.terminated[self.place] = last, False

    def _move(self) -> None:
        self.place = (self.place + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)
