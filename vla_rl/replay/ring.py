"""A ring of rows over all lanes, linked along their episodes.

Rows have ids that only grow; row `id` lives in slot `id % capacity` until row `id + capacity` takes it, or until its
episode is evicted. Rows of an episode are linked by ids (`next`, `prev`), so lanes may interleave in any order and
nothing ever reads across an episode's end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rl.replay.columns import COUNTED, DERIVED, RETURN, SIGNAL, ColumnSpecs
from vla_rl.specs import Truncation

FRESH, RUNNING, ENDED = 0, 1, 2
"""What a lane waits for: an episode's first row, its next row, the final row of an ended episode."""
NONE, GONE = -1, -2
"""What `next` says of a row that has none yet, and of one that was evicted."""
PIECES = 8
"""An episode so long that these many of every lane fill the ring is evicted piece by piece, not as a whole."""


@dataclass(frozen=True)
class Walk:
    """Where a few steps lead from B rows: the rows reached and how many steps that took, int64 [B]; the discounted sums
    of the rewards, and of each signal that is summed; the discounts of what follows, 0 after termination."""

    reached: np.ndarray
    steps: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    signals: dict[str, np.ndarray]


class Ring:
    """Rows as columns [capacity, ...].

    Attributes:
        columns: by name. `last` is the id of the episode's last decision, and `rest` the discount of what would have
            followed it (0 where nothing would, or where that is not asked), both once `returns` is known.
        counted: the column of the rewards that returns and targets sum up: those that were paid, unless a listener
            tells what they count for. head: the id of the next row. oldest: no row before this one is alive. count:
            rows alive.
    """

    def __init__(
        self,
        capacity: int,
        lanes: int,
        stack: int,
        gamma: float,
        specs: ColumnSpecs,
        truncation: Truncation = "fail",
    ) -> None:
        self.capacity, self.lanes, self.stack, self.gamma = capacity, lanes, stack, gamma
        self.truncation = truncation
        self.columns = {name: np.zeros((capacity, *shape), dtype) for name, (shape, dtype) in specs.items()}
        self._summed = [name.removeprefix(RETURN) for name in specs if name.startswith(RETURN)]
        self._derived = [name for name in specs if name.startswith(DERIVED)]
        self.counted = COUNTED if COUNTED in specs else "reward"
        self.head = self.oldest = self.count = 0
        self._episodes = 0
        self._phase = np.full(lanes, FRESH, np.int8)
        # Ids of the last `stack` rows of each lane's episode, oldest first, clamped at its start.
        self._recent = np.full((lanes, stack), -1, np.int64)
        self._episode = np.full(lanes, -1, np.int64)

    # Adding ---------------------------------------------------------------------------------------

    def wrong(self, lane: np.ndarray, final: np.ndarray) -> np.ndarray:
        """The lanes whose new row is final where none is due, or the other way round."""
        return lane[final != (self._phase[lane] == ENDED)]

    def links(self, lane: np.ndarray) -> dict[str, np.ndarray]:
        """The columns that link the next row of each lane to its episode's past; moves the lanes on."""
        ids = self.head + np.arange(len(lane))
        fresh = self._phase[lane] == FRESH
        prev = np.where(fresh, NONE, self._recent[lane, -1])
        recent = np.concatenate([self._recent[lane, 1:], ids[:, None]], axis=1)
        self._recent[lane] = np.where(fresh[:, None], ids[:, None], recent)
        self._episode[lane[fresh]] = self._episodes + np.arange(fresh.sum())
        self._episodes += int(fresh.sum())
        return {
            "prev": prev,
            "next": np.full(len(lane), NONE),
            "history": self._recent[lane, 0],
            "episode": self._episode[lane],
            "returns": np.full(len(lane), np.nan, np.float32),
            "rest": np.zeros(len(lane), np.float32),
            "last": np.full(len(lane), NONE),
            **{RETURN + name: np.full(len(lane), np.nan, np.float32) for name in self._summed},
            **{name: np.zeros_like(self.columns[name][: len(lane)]) for name in self._derived},
        }

    def append(self, lane: np.ndarray, rows: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Add a row to each lane, in slots that were evicted; their ids, and the slots whose returns are known now."""
        ids = self.head + np.arange(len(lane))
        begin = self.head % self.capacity
        # A slice is written several times faster than places.
        at = slice(begin, begin + len(lane)) if begin + len(lane) <= self.capacity else ids % self.capacity
        rows[self.counted] = rows["reward"]  # until it is told otherwise
        for name, value in rows.items():
            self.columns[name][at] = value
        self.head += len(lane)
        self.count += len(lane)
        over = rows["terminated"] | rows["truncated"]
        self._phase[lane] = np.where(rows["final"], FRESH, np.where(over, ENDED, RUNNING))
        self._link(rows["prev"], ids)
        return ids, self.write_returns(ids[over]) if over.any() else ids[:0]

    def interrupt(self, lane: np.ndarray) -> None:
        """The next row of these lanes begins a new episode."""
        self._phase[lane] = FRESH
        self._recent[lane] = self._episode[lane] = -1

    def begun(self, lane: np.ndarray) -> np.ndarray:
        """The first rows that are alive of these lanes' episodes, as far as their final rows are not recorded yet."""
        ids = self._recent[lane[self._phase[lane] != FRESH], -1]
        ids = ids[self.alive(ids)]
        while True:
            prev = self.columns["prev"][ids % self.capacity]
            further = self.alive(prev)
            if not further.any():
                return ids
            ids = np.where(further, prev, ids)

    def until(self, last: int) -> np.ndarray:
        """The rows of an episode up to row `last`, in order, as far as they are there, int64 [T]."""
        prev, following, ids = self.columns["prev"], self.columns["next"], [last]
        while (before := int(prev[ids[-1] % self.capacity])) >= self.oldest:
            if following[before % self.capacity] == GONE:
                break
            ids.append(before)
        return np.array(ids[::-1], np.int64)

    def ended(self) -> np.ndarray:
        """The last decisions of all episodes that have ended, int64 [N], in the order in which they were recorded."""
        ids = np.arange(self.oldest, self.head)
        at = ids % self.capacity
        return ids[self.alive(ids) & (self.columns["terminated"][at] | self.columns["truncated"][at])]

    def _link(self, prev: np.ndarray, ids: np.ndarray) -> None:
        # A previous row that is evicted by now (its lane rested for long) must not be written to.
        linked = self.alive(prev)
        self.columns["next"][prev[linked] % self.capacity] = ids[linked]

    def write_returns(self, ids: np.ndarray) -> np.ndarray:
        """Write the returns of the episodes whose last decisions are rows `ids`, backwards; into which slots."""
        columns, at = self.columns, ids % self.capacity
        cut = columns["truncated"][at] & ~columns["terminated"][at]
        if self.truncation == "drop":
            ids, cut = ids[~cut], cut[~cut]
        last, value, rest = ids, np.zeros(len(ids)), np.where(cut & (self.truncation == "bootstrap"), 1.0, 0.0)
        sums = {name: np.zeros(len(ids)) for name in self._summed}
        slots = [np.zeros(0, np.int64)]
        while len(ids):
            at = ids % self.capacity
            slots.append(at)
            value, rest = columns[self.counted][at] + self.gamma * value, self.gamma * rest
            columns["returns"][at], columns["rest"][at], columns["last"][at] = value, rest, last
            for name, total in sums.items():
                columns[RETURN + name][at] = sums[name] = columns[SIGNAL + name][at] + self.gamma * total
            ids = columns["prev"][at]
            alive = self.alive(ids)
            ids, value, rest, last = ids[alive], value[alive], rest[alive], last[alive]
            sums = {name: total[alive] for name, total in sums.items()}
        return np.concatenate(slots)

    # Evicting -------------------------------------------------------------------------------------

    def due(self, count: int) -> np.ndarray:
        """The ids whose slots the next `count` rows take."""
        ids = self.head + np.arange(count) - self.capacity
        return ids[ids >= 0]

    def evict(self, ids: np.ndarray) -> np.ndarray:
        """Forget the episodes of rows `ids` from there on, as far as they were recorded; the slots of what is gone."""
        following, gone = self.columns["next"], list[np.ndarray]()
        ids = ids[self.alive(ids)]
        if not len(ids):
            return ids
        for _ in range(max(self.capacity // (PIECES * self.lanes), 1)):
            at = ids % self.capacity
            # Of two rows of one episode, the later one's turn has come before.
            at = at[following[at] != GONE]
            if not len(at):
                break
            gone.append(at)
            ids = following[at]
            following[at] = GONE
            ids = ids[ids >= 0]
        slots = np.concatenate(gone)
        self.count -= len(slots)
        self._skip_gone()
        return slots

    def _skip_gone(self) -> None:
        """Move `oldest` on to a row that is alive, a thousand rows at a time."""
        while self.oldest < self.head:
            ids = np.arange(self.oldest, min(self.oldest + 1024, self.head))
            alive = self.alive(ids)
            if alive.any():
                self.oldest += int(alive.argmax())
                return
            self.oldest += len(ids)

    # Reading --------------------------------------------------------------------------------------

    def ids_at(self, slots: np.ndarray) -> np.ndarray:
        """The ids of the newest rows in `slots`."""
        newest = self.head - 1
        return newest - (newest - slots) % self.capacity

    def alive(self, ids: np.ndarray) -> np.ndarray:
        """Which of these rows are there, bool [B]."""
        there = (ids >= self.oldest) & (ids < self.head)
        return there & (self.columns["next"][ids % self.capacity] != GONE)

    def sampleable(self, ids: np.ndarray, finished_only: bool = False) -> np.ndarray:
        """Which of these rows are transitions with their whole stack, bool [B]."""
        at = ids % self.capacity
        good = (ids >= self.oldest) & (ids < self.head) & (self.columns["next"][at] >= 0)
        good &= self.alive(self.columns["history"][at])
        return good & ~np.isnan(self.columns["returns"][at]) if finished_only else good

    def path(self, ids: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Up to `steps` steps along `next`: ids int64 [B, steps + 1], and which steps there were, bool [B, steps].

        Where an episode is over, its last row is repeated. The way ends early where all episodes are over.
        """
        rows, there = [ids], list[np.ndarray]()
        while len(there) < steps and (not there or there[-1].any()):
            following = self.columns["next"][rows[-1] % self.capacity]
            there.append(following >= 0)
            rows.append(np.where(there[-1], following, rows[-1]))
        rows += rows[-1:] * (steps + 1 - len(rows))
        there += [np.zeros(len(ids), bool)] * (steps - len(there))
        return np.stack(rows, axis=1), np.stack(there, axis=1)

    def walk(self, ids: np.ndarray, steps: int | np.ndarray) -> Walk:
        """Up to `steps` steps from each row, or from each as many as int64 [B] says."""
        most = int(np.max(steps, initial=1))
        rows, there = self.path(ids, most)
        reached = rows[:, -1]
        if isinstance(steps, np.ndarray):
            reached = rows[np.arange(len(ids)), steps]
            there &= np.arange(most) < steps[:, None]
        at = rows[:, :-1] % self.capacity
        discount = self.gamma ** np.arange(most + 1)

        def summed(column: str) -> np.ndarray:
            return (np.where(there, self.columns[column][at], 0) * discount[:-1]).sum(axis=1)

        terminated, count = (there & self.columns["terminated"][at]).any(axis=1), there.sum(axis=1)
        signals = {name: summed(SIGNAL + name) for name in self._summed}
        return Walk(reached, count, summed(self.counted), np.where(terminated, 0, discount[count]), signals)

    def ends(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of rows whose episodes were cut short: the last row, and its discount; 0 where the episode was not, or where
        its last row is not recorded yet."""
        at = ids % self.capacity
        rest, final = self.columns["rest"][at], self.columns["next"][self.columns["last"][at] % self.capacity]
        return final, np.where(final >= 0, rest, np.float32(0))

    def returns_so_far(self, ids: np.ndarray) -> np.ndarray:
        """Discounted sums of the rewards from rows `ids` on that there are yet, float64 [B]."""
        returns = self.columns["returns"][ids % self.capacity].astype(np.float64)
        going = np.flatnonzero(np.isnan(returns))
        returns[going] = 0
        rows, discount = ids[going], 1.0
        while len(going):
            at = rows % self.capacity
            returns[going] += discount * self.columns[self.counted][at]
            discount *= self.gamma
            following = self.columns["next"][at]
            going, rows = going[following >= 0], following[following >= 0]
        return returns

    def stacked(self, ids: np.ndarray) -> np.ndarray:
        """The ids of each row's stack, oldest first, int64 [..., stack]."""
        stacked = [ids]
        for _ in range(self.stack - 1):
            prev = self.columns["prev"][stacked[-1] % self.capacity]
            stacked.append(np.where(prev >= 0, prev, stacked[-1]))
        return np.stack(stacked[::-1], axis=-1)

    # Saving ---------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Where the ring and its lanes stand, for JSON."""
        return {
            "head": self.head,
            "oldest": self.oldest,
            "episodes": self._episodes,
            "phase": self._phase.tolist(),
            "recent": self._recent.tolist(),
            "episode": self._episode.tolist(),
        }

    def restore(self, state: dict[str, Any], alive: np.ndarray) -> None:
        """Stand where `state` says, its columns being those of that time. alive: bool, of each row from `oldest` on.

        What was known of rows only after they had been recorded is worked out anew.
        """
        self.head, self.oldest, self._episodes = state["head"], state["oldest"], state["episodes"]
        self._phase[:], self._recent[:], self._episode[:] = state["phase"], state["recent"], state["episode"]
        self.count = int(alive.sum())
        ids = np.arange(self.oldest, self.head)
        self.columns["next"][ids % self.capacity] = np.where(alive, NONE, GONE)
        for name in ("returns", *(RETURN + each for each in self._summed)):
            self.columns[name][:] = np.nan
        self.columns["rest"][:], self.columns["last"][:] = 0, NONE
        self.columns[self.counted][:] = self.columns["reward"]
        ids = ids[alive]
        self._link(self.columns["prev"][ids % self.capacity], ids)
        self._skip_gone()
        self.write_returns(self.ended())
