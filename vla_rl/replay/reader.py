"""What a learner is given of rows that were drawn: transitions, stretches of steps, later rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np

from vla_rl.replay.batch import Batch
from vla_rl.replay.columns import DERIVED, RETURN, SIGNAL
from vla_rl.replay.memory import Memory
from vla_rl.specs import REWARD, Signal

Following = bool | Literal["cut"]
"""Of which rows the next observation is wanted: of all, of none, or of those whose episodes were cut short."""


class Wanted(TypedDict, total=False):
    """What a learner wants of the rows that are drawn for it."""

    finished_only: bool
    """Only rows of episodes with a known return (`returns` is then never NaN). By default of all."""
    images: bool
    """False leaves the frames out, for learners that read cached features. By default they are there."""
    following: Following
    """Whether what was seen next is wanted; "cut": where `rest` says that the return is not the whole. By default it
    is."""
    to_end: float
    """The share of the rows, drawn at random, whose transition is not of n steps, but leads to the episode's last
    observation where it was cut short, as soon as that is there. By default none."""
    since: int
    """Only rows from this one on, where there are any of what is wanted. By default all. Rows of a priority are not
    limited so."""
    one_step: float
    """The share of the rows, evenly spaced, whose transition is of one step, with its next observation even where
    `following` is "cut". By default none."""
    going_on: float
    """The chance, [0, 1), that a transition is of one more step than it is (lambda), drawn anew each time, so that the
    mean of many targets is the lambda-return; at most `LONGEST` steps. By default 0: all are of n steps."""


LONGEST = 256
"""Steps of a transition whose number is drawn."""


PIECES = 8
"""So many different counts of rows, at most, have their next observations fetched alone: arrays of one size are used
again, and each new size costs memory."""


@dataclass(frozen=True)
class Chunks:
    """What was done in H steps from each of B rows on.

    index int64 [B, H]: the rows. tokens int64 [B, H, K]; reward float32 [B, H]. mask bool [B, H]: which steps there
    were before the episode's end; what lies beyond repeats the last row, and its reward is 0.
    """

    index: np.ndarray
    tokens: np.ndarray
    reward: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Reader:
    """Reads rows of a memory, and what came of them. Rows are asked for by ids int64 [B], and must be there.

    signals: what else rows hold. derived: and what of that was worked out when their episode had ended. n_step: steps
    of a transition.
    """

    memory: Memory
    signals: Sequence[Signal]
    derived: Sequence[Signal]
    n_step: int

    def drawn(self, ids: np.ndarray, rng: np.random.Generator, wanted: Wanted) -> Batch:
        """What is wanted of rows `ids` that were drawn. Raises ValueError: `one_step` without what follows."""
        following, one_step, far, once = wanted.get("following", True), wanted.get("one_step", 0.0), None, None
        going_on, steps = wanted.get("going_on", 0.0), None
        if going_on > 0:
            steps = rng.geometric(1.0 - going_on, len(ids)).clip(max=LONGEST)
        if one_step > 0:
            if not following:
                raise ValueError(f"one_step={one_step} needs what follows, and following is False")
            once = evenly(one_step, np.arange(len(ids)))
        if wanted.get("to_end", 0.0) > 0 and self.memory.layout.truncation == "bootstrap":
            far = rng.random(len(ids)) < wanted["to_end"]
            far = far if once is None else far & ~once
        return self.transitions(ids, wanted.get("images", True), following, far, once, steps)

    def transitions(
        self,
        ids: np.ndarray,
        images: bool,
        following: Following,
        far: np.ndarray | None = None,
        once: np.ndarray | None = None,
        counts: np.ndarray | None = None,
    ) -> Batch:
        """The transitions from rows `ids`; see `ReplayBuffer.sample`.

        far: bool [B], those that lead to their episode's last observation, where it was cut short; None for no row.
        once: bool [B], those of a single step; their next observations are wanted in any case.
        counts: int64 [B], of how many steps each of the others is, where not all are of n.
        """
        memory, ring = self.memory, self.memory.ring
        steps: int | np.ndarray = self.n_step if counts is None else counts
        walk = ring.walk(ids, steps if once is None else np.where(once, 1, steps))
        reached, taken, reward, discount, sums = walk.reached, walk.steps, walk.reward, walk.discount, walk.signals
        at = ids % ring.capacity
        columns = ring.columns
        if far is not None:
            final, rest = ring.ends(ids)
            far = far & (rest > 0)
            reached, discount = np.where(far, final, reached), np.where(far, rest, discount)
            taken = np.where(far, 0, taken)
            reward = np.where(far, columns["returns"][at], reward)
            sums = {name: np.where(far, columns[RETURN + name][at], total) for name, total in sums.items()}
        told = {each.name: columns[SIGNAL + each.name][at] for each in self.signals if not each.summed}
        told |= {each.name: columns[DERIVED + each.name][at] for each in self.derived if each.name != REWARD}
        followed = None
        if following == "cut":
            followed = _few_counts(columns["rest"][at] > 0 if once is None else (columns["rest"][at] > 0) | once)
        later = reached if followed is None else reached[followed]
        # All at once: a frame that is coded, and wanted twice, is decoded once.
        shown = memory.observations(np.concatenate([ids, later]) if following else ids, images)
        return Batch(
            observation={key: each[: len(ids)] for key, each in shown.items()},
            next_observation={key: each[len(ids) :] for key, each in shown.items()} if following else {},
            tokens=columns["tokens"][at].astype(np.int64),
            labels=columns["labels"][at].astype(np.int64),
            reward=reward.astype(np.float32),
            discount=discount.astype(np.float32),
            returns=columns["returns"][at],
            features=memory.features(at),
            next_features=memory.features(later % ring.capacity) if following else {},
            demo=columns["demo"][at],
            weight=np.ones(len(ids), np.float32),
            index=ids,
            shown=memory.shown(np.stack([ids, reached] if following else [ids], 1)) if images else None,
            rest=columns["rest"][at],
            steps=taken,
            followed=followed,
            extra=told | {name: total.astype(np.float32) for name, total in sums.items()},
            extra_returns={name: columns[RETURN + name][at] for name in sums},
        )

    def chunks(self, ids: np.ndarray, length: int) -> Chunks:
        """What was done in `length` steps from rows `ids` on."""
        ring = self.memory.ring
        rows, mask = ring.path(ids, length)
        index = rows[:, :-1]
        at = index % ring.capacity
        reward = np.where(mask, ring.columns[ring.counted][at], np.float32(0))
        return Chunks(index, ring.columns["tokens"][at].astype(np.int64), reward, mask)

    def futures(self, ids: np.ndarray, rng: np.random.Generator, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """A row up to `horizon` steps later in the episode of each of rows `ids`, and how many steps, int64 [B]."""
        rows, mask = self.memory.ring.path(ids, horizon)
        steps = 1 + (rng.random(len(ids)) * mask.sum(axis=1)).astype(np.int64)
        return rows[np.arange(len(ids)), steps], steps

    def recorded(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """What was done at rows `ids`, and what came of it; as `ReplayBuffer.add` was told, by name."""
        ring = self.memory.ring
        names = ("tokens", "labels", "reward", "terminated", "truncated", "demo")
        columns = {name: name for name in names} | {each.name: SIGNAL + each.name for each in self.signals}
        return {name: ring.columns[column][ids % ring.capacity] for name, column in columns.items()}


def evenly(share: float, places: np.ndarray) -> np.ndarray:
    """Which of these places, int [B], are among a share of all: bool [B]; up to any place it is the share, rounded."""
    return np.floor(share * (places + 1) + 0.5) > np.floor(share * places + 0.5)


def _few_counts(wanted: np.ndarray) -> np.ndarray:
    """The mask with as many rows more as bring their number to one of `PIECES`, or with none where it has none."""
    step = -(-len(wanted) // PIECES)
    filled = wanted.copy()
    filled[np.flatnonzero(~wanted)[: -int(wanted.sum()) % step]] = True
    return filled
