"""What a learner gets from replay: transitions as numpy arrays, frames still uint8."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_rl.buffer_pool import Recycler

LATER = ("next_observation", "next_features")
"""Fields of what follows, which may hold fewer rows than the others."""


@dataclass
class Batch:
    """B transitions of m <= n steps each: what was seen, what was decided, what came of it.

    `observation`, `next_observation`: dicts with the keys of an environment's observation; images
    uint8 [B, H, W, 3], or [B, k, H, W, 3] (oldest first) with stacks of k > 1 frames; state float32
    [B, P]; task list of B str. The next observation is the row that was reached after m steps, which
    is the episode's own last observation where the episode ended; without any keys where nobody asked for it.
    `followed` bool [B]: the rows, in order, that the C rows of `next_observation` and `next_features` belong to; None
    where those have all B, or where there are none.
    `tokens` int64 [B, K]: the decision that was taken. `labels` int64 [B, K]: the expert's decision
    there, or the tokens where no expert labelled the row.
    `steps` int64 [B]: m; 0 where the transition leads to its episode's last observation, however far that is.
    `reward` float32 [B]: sum of gamma^j r_j over the m steps. `discount` float32 [B]: gamma^m, and 0
    where the episode terminated (not where it was truncated).
    `returns` float32 [B]: the discounted return that was observed from the row to its episode's end;
    NaN where the episode has no known end. `rest` float32 [B]: the discount of what would have followed, had the
    episode not been cut short: the whole return is `returns` + `rest` * (value of its last observation); 0 where
    `returns` is the whole. `features`, `next_features`: cached features by name.
    `demo` bool [B]. `weight` float32 [B]. `index` int64 [B]: the rows' ids in their buffer. `relabelled` bool [B]:
    which rows have another goal than the one they were recorded with.
    `shown` int64 [B, 2, F], where there are images: numbers of the buffer, and of what the observation and the next one
    show, frames and instruction; two that have the same numbers need encoding only once, whatever a batch was joined
    from. [B, 1, F] without a next one.
    `extra`: each signal by name, [B, ...]; of those that are summed, over the m steps as the reward is; and what
    listeners have worked out, see `EpisodeListener`.
    `extra_returns`: of those, the discounted sum to the episode's end, float32 [B], as `returns` is.
    """

    observation: dict[str, Any]
    next_observation: dict[str, Any]
    tokens: np.ndarray
    labels: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    returns: np.ndarray
    features: dict[str, np.ndarray]
    next_features: dict[str, np.ndarray]
    demo: np.ndarray
    weight: np.ndarray
    index: np.ndarray
    shown: np.ndarray | None = None
    rest: np.ndarray = None  # type: ignore[assignment]  # nothing, unless told
    followed: np.ndarray | None = None
    steps: np.ndarray = None  # type: ignore[assignment]  # not known, which counts as 0, unless told
    relabelled: np.ndarray = None  # type: ignore[assignment]  # nothing, unless told
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    extra_returns: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rest is None:
            self.rest = np.zeros(len(self), np.float32)
        if self.steps is None:
            self.steps = np.zeros(len(self), np.int64)
        if self.relabelled is None:
            self.relabelled = np.zeros(len(self), bool)

    def __len__(self) -> int:
        return len(self.reward)

    def rows(self, index: np.ndarray | slice) -> Batch:
        """The rows that `index` (integers, a bool mask or a slice) picks, in its order."""
        index = np.arange(len(self))[index]
        places = {True: self._later(index), False: index}
        return Batch(**{name: _rows(value, places[name in LATER]) for name, value in _fields(self)})

    def put(self, index: np.ndarray, rows: Batch) -> None:
        """Have rows `index` int [B'] be those of another batch; what `shown` numbers is not known any more."""
        self.shown = None
        places = {True: self._later(index), False: index}
        for name, value in _fields(rows):
            if name not in ("shown", "followed"):
                _put(getattr(self, name), places[name in LATER], value)

    def _later(self, index: np.ndarray) -> np.ndarray:
        """Where what follows rows `index` lies in `next_observation`, of those that have something there."""
        if self.followed is None:
            return index
        return (np.cumsum(self.followed) - 1)[index][self.followed[index]]

    @classmethod
    def concatenate(cls, batches: Sequence[Batch], recycler: Recycler | None = None) -> Batch:
        """One batch with the rows of all, in order; its arrays come from `recycler`.

        Raises:
            ValueError: no batches, or batches whose observations or features have other keys.
        """
        if not batches:
            raise ValueError("concatenate needs at least one batch, got none")
        if len(batches) == 1:
            return batches[0]
        source = recycler or Recycler()
        names = [each.name for each in dataclasses.fields(cls) if each.name not in ("shown", "followed")]
        joined = {name: _join(name, [getattr(batch, name) for batch in batches], source) for name in names}
        known = [batch.shown for batch in batches if batch.shown is not None]
        shown = np.concatenate(known) if len(known) == len(batches) else None
        some = any(batch.followed is not None for batch in batches)
        masks = [np.ones(len(batch), bool) if batch.followed is None else batch.followed for batch in batches]
        return cls(**joined, shown=shown, followed=np.concatenate(masks) if some else None)


def _fields(batch: Batch) -> list[tuple[str, Any]]:
    return [(each.name, getattr(batch, each.name)) for each in dataclasses.fields(batch)]


def _rows(value: Any, index: np.ndarray) -> Any:
    if isinstance(value, dict):
        return {key: _rows(item, index) for key, item in value.items()}
    if isinstance(value, list):
        return [value[i] for i in index]
    return None if value is None else value[index]


def _put(target: Any, index: np.ndarray, rows: Any) -> None:
    if isinstance(target, dict):
        for key, value in rows.items():
            _put(target[key], index, value)
    elif isinstance(target, list):
        for i, row in zip(index.tolist(), rows, strict=True):
            target[i] = row
    else:
        target[index] = rows


def _join(name: str, values: list[Any], recycler: Recycler) -> Any:
    first = values[0]
    if isinstance(first, dict):
        for other in values[1:]:
            if other.keys() != first.keys():
                raise ValueError(f"{name}: batches differ in their keys: {sorted(first)} and {sorted(other)}")
        return {key: _join(f"{name}.{key}", [value[key] for value in values], recycler) for key in first}
    if isinstance(first, list):
        return [item for value in values for item in value]
    rows = sum(len(value) for value in values)
    return np.concatenate(values, out=recycler.empty((rows, *first.shape[1:]), first.dtype))
