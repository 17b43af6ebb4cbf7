"""Hindsight: what an episode did reach, taken for what it was to reach (Andrychowicz et al., 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rl.replay.batch import Batch
from vla_rl.replay.buffer import ReplayBuffer

Relabel = Callable[[Batch, dict[str, Any], np.ndarray], Batch]
"""Rows, what was seen later in their episodes (as `Batch.observation`), and how many steps later, int64 [B]: the rows
with that as their goal, in their observations and next observations, rewards and discounts. They are given as if no
goal had been reached: without reward, and not terminated."""


@dataclass(frozen=True)
class Hindsight:
    """Gives a share of a batch's rows goals from later rows of their episodes.

    relabel: see there; cached features and `returns` belong to the former goal, so it makes them anew or leaves NaN.
    share: of the rows, [0, 1]. horizon: goals lie at most so many steps ahead, uniformly.

    Raises:
        ValueError: a share or a horizon out of its range.
    """

    relabel: Relabel
    share: float = 0.8
    horizon: int = 50

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.horizon < 1:
            raise ValueError(f"hindsight: need share in [0, 1], horizon >= 1; got {self.share}, {self.horizon}")

    def __call__(self, buffer: ReplayBuffer, batch: Batch, rng: np.random.Generator) -> Batch:
        """`batch`, which `buffer` sampled, with other goals in some rows; its arrays are written to.

        Raises:
            ValueError: `relabel` returned another number of rows.
        """
        rows = np.flatnonzero(rng.random(len(batch)) < self.share)
        if not len(rows):
            return batch
        reached, steps = buffer.futures(batch.index[rows], rng, self.horizon)
        images = any(isinstance(value, np.ndarray) and value.dtype == np.uint8 for value in batch.observation.values())
        given = batch.rows(rows)
        given.reward[:], given.returns[:] = 0, np.nan
        given.discount[:] = buffer.gamma ** buffer.chunks(given.index, buffer.n_step).mask.sum(axis=1)
        changed = self.relabel(given, buffer.observations(reached, images=images), steps)
        if len(changed) != len(rows):
            raise ValueError(f"hindsight: relabel got {len(rows)} rows, but returned {len(changed)}")
        changed.relabelled = np.ones(len(rows), bool)
        batch.put(rows, changed)
        return batch
