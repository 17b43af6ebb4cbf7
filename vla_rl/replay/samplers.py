"""Which rows a batch gets."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from vla_rl.replay.ring import Ring
from vla_rl.replay.sumtree import SumTree

Priority = Literal["uniform", "success", "priority", "demo"]
"""How rows are drawn: all alike; those alike that a positive return followed; in proportion to their priority; those
alike whose decision was shown (`demo`)."""
REDRAWS = 32
"""Rounds of rejection before the sampleable rows are listed instead."""
SPARE = 4
"""One row more is drawn for so many wanted ones."""


class NothingToSampleError(ValueError):
    """No row of the replay is a transition that may be sampled (yet)."""


class Sampler:
    """Draws rows of a ring, all alike or as their weights say; the cost does not depend on the capacity."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._trees: dict[Priority, SumTree] = {}
        self._most = 1.0  # the highest priority so far
        self._witness = -1  # a row that could be drawn when somebody asked last
        self._shown = bool(ring.columns["demo"].any())

    def draw(
        self, count: int, rng: np.random.Generator, finished_only: bool, by: Priority, since: int = 0
    ) -> np.ndarray:
        """The ids int64 [count] of rows, independently drawn; where all are alike, of those from row `since` on, unless
        there are none. Raises NothingToSampleError where there is none at all."""
        tree = None if by == "uniform" else self.tree(by)
        first = max(self._ring.oldest, min(since, self._ring.head - 1))
        found = np.empty(0, np.int64)
        for _ in range(REDRAWS if self._ring.count and (tree is None or tree.total) else 0):
            wanted = count - len(found)
            if tree is None:
                # A few more than wanted, since some are refused: the first ones that are not are as random.
                ids = rng.integers(first, self._ring.head, wanted + wanted // SPARE + 1)
            else:
                ids = self._ring.ids_at(tree.draw(wanted, rng))
            ids = ids[self._ring.sampleable(ids, finished_only)]
            found = np.concatenate([found, ids]) if len(found) else ids
            if len(found) >= count:
                return found[:count]
        good = self.ids(finished_only, by)
        good = later if tree is None and len(later := good[good >= since]) else good
        if not len(good):
            named = {"success": "success", "demo": "demonstrated decision"}
            what = named.get(by, "finished episode" if finished_only else "transition")
            raise NothingToSampleError(f"replay holds {self._ring.count} row(s) but no {what} to sample yet")
        shares = np.ones(len(good)) if tree is None else tree.weights[good % self._ring.capacity]
        return np.concatenate([found, rng.choice(good, count - len(found), p=shares / shares.sum())])

    def can_draw(self, finished_only: bool, by: Priority) -> bool:
        """Whether there is anything to draw."""
        if by != "uniform" and not self.tree(by).total:
            return False
        witness = self._ring.sampleable(np.array([self._witness]), finished_only)[0]
        if not witness or (by != "uniform" and not self.tree(by).weights[self._witness % self._ring.capacity]):
            ids = self.ids(finished_only, by)
            self._witness = int(ids[-1]) if len(ids) else -1
        return self._witness >= 0

    @property
    def demonstrated(self) -> int:
        """How many rows can be drawn whose decision was shown; nothing is counted before there is one."""
        return round(self.tree("demo").total) if self._shown else 0

    def ids(self, finished_only: bool, by: Priority) -> np.ndarray:
        """The ids of all rows that can be drawn, ascending; takes time in proportion to the rows."""
        ids = np.arange(self._ring.oldest, self._ring.head)
        ids = ids[self._ring.sampleable(ids, finished_only)]
        return ids if by == "uniform" else ids[self.tree(by).weights[ids % self._ring.capacity] > 0]

    def prioritise(self, ids: np.ndarray, priority: np.ndarray) -> None:
        """See `ReplayBuffer.prioritise`."""
        if not (np.isfinite(priority).all() and (priority > 0).all()):
            raise ValueError(f"priority: expected finite numbers above 0, got {priority}")
        here = self._ring.sampleable(ids)
        self._most = max(self._most, float(np.max(priority[here], initial=0)))
        self.tree("priority").set(ids[here] % self._ring.capacity, priority[here])

    def corrections(self, ids: np.ndarray, exponent: float) -> np.ndarray:
        """What makes up for priorities in rows `ids` that were drawn by them, float32 [B], at most 1."""
        priority = self.tree("priority").weights[ids % self._ring.capacity]
        return ((priority.min() / priority) ** exponent).astype(np.float32)

    def tree(self, by: Priority) -> SumTree:
        """The weights of all rows for `by`; kept from the first time on that somebody draws so."""
        if by not in self._trees:
            tree = self._trees[by] = SumTree(self._ring.capacity)
            ids = np.arange(self._ring.oldest, self._ring.head)
            at = ids[self._ring.alive(ids)] % self._ring.capacity
            if by == "success":
                tree.set(at[self._ring.columns["returns"][at] > 0], 1.0)
            elif by == "demo":
                tree.set(at[self._followed_demo(at)], 1.0)
            else:
                tree.set(at[self._ring.columns["next"][at] >= 0], self._most)
        return self._trees[by]

    def state_dict(self) -> dict[str, Any]:
        """What is known of rows beside what they hold: the priorities of those from the oldest to the newest."""
        ids = np.arange(self._ring.oldest, self._ring.head) % self._ring.capacity
        known = self._trees["priority"].weights[ids] if "priority" in self._trees else None
        return {"most": self._most, "priority": known}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, of a ring that holds the same rows."""
        self._most = state["most"]
        if state["priority"] is not None:
            ids = np.arange(self._ring.oldest, self._ring.head)
            alive = self._ring.alive(ids)
            self.tree("priority").set(ids[alive] % self._ring.capacity, state["priority"][alive])

    def weigh(self, prev: np.ndarray, returned: np.ndarray) -> None:
        """Give weights to rows that have a next one now (`prev`), and to slots whose returns are known now."""
        at = prev[self._ring.alive(prev)] % self._ring.capacity
        shown = at[self._followed_demo(at)]
        self._shown = self._shown or len(shown) > 0
        if "priority" in self._trees:
            self._trees["priority"].set(at, self._most)
        if "demo" in self._trees:
            self._trees["demo"].set(shown, 1.0)
        self.reweigh(returned)

    def reweigh(self, returned: np.ndarray) -> None:
        """Give weights to slots whose returns are known now, or are others than before."""
        if "success" in self._trees and len(returned):
            self._trees["success"].set(returned, self._ring.columns["returns"][returned] > 0)

    def _followed_demo(self, at: np.ndarray) -> np.ndarray:
        """Which slots hold a decision that was shown, and whose next row is there: bool [B]."""
        return self._ring.columns["demo"][at] & (self._ring.columns["next"][at] >= 0)

    def forget(self, at: np.ndarray) -> None:
        """Draw the slots `at` no more."""
        for tree in self._trees.values():
            tree.set(at, 0.0)
