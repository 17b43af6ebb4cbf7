"""The replay buffer: a ring of rows over all lanes, each frame stored once.

A row is one observation of one lane, and what was done there. Rows have ids that only grow; row `id`
lives in slot `id % capacity` until row `id + capacity` takes it. Rows of an episode are linked by ids
(`next`, `prev`), so lanes may interleave in any order and nothing ever reads across an episode's end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.replay import disk
from vla_rl.replay.batch import Batch
from vla_rl.replay.columns import FEATURE, FRAME, FeatureSpecs, column_specs, memory_plan
from vla_rl.replay.instructions import Instructions
from vla_rl.replay.recycle import Recycler
from vla_rl.replay.rows import Given, checked_rows
from vla_rl.specs import STATE, TASK

FRESH, RUNNING, ENDED = 0, 1, 2
"""What a lane waits for: an episode's first row, its next row, the final row of an ended episode."""
REDRAWS = 32
"""Rounds of rejection before the sampleable rows are listed instead."""


class NothingToSampleError(ValueError):
    """No row of the replay is a transition that may be sampled (yet)."""


class ReplayBuffer:
    """Transitions of `lanes` parallel environments.

    capacity: rows kept; the oldest go first. images: camera (name or whole key) -> [height, width, 3].
    state_dim: P, or 0 for no state. slots: tokens of a decision; each token lies in [0, choices).
    features: cached features of a row, name -> (shape, dtype). gamma: discount of one step, (0, 1].
    n_step: steps of a sampled transition. stack: frames of a sampled observation, older ones first,
    the episode's first frame repeated before its start.

    Memory is committed by the operating system as rows are first written; `plan` tells the whole.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        capacity: int,
        images: Mapping[str, tuple[int, ...]],
        state_dim: int,
        slots: int,
        features: FeatureSpecs | None = None,
        lanes: int = 1,
        gamma: float = 0.97,
        n_step: int = 3,
        stack: int = 1,
        choices: int = 1 << 16,
    ) -> None:
        if lanes < 1 or n_step < 1 or stack < 1 or not 0 < gamma <= 1:
            raise ValueError(
                f"need lanes, n_step, stack >= 1 and gamma in (0, 1]; got {lanes}, {n_step}, {stack}, {gamma}"
            )
        if capacity < lanes * (stack + 1):
            raise ValueError(
                f"capacity must hold a stack and its next row of every lane: at least {lanes * (stack + 1)} "
                f"rows for {lanes} lane(s) and stack {stack}, got {capacity}"
            )
        self.capacity, self.lanes, self.stack = capacity, lanes, stack
        self.gamma, self.n_step, self.choices = float(gamma), n_step, choices
        self._specs = column_specs(images, state_dim, slots, choices, features or {})
        self._columns = {name: np.zeros((capacity, *shape), dtype) for name, (shape, dtype) in self._specs.items()}
        self._instructions = Instructions()
        self._head = 0
        self._episodes = 0
        self._phase = np.full(lanes, FRESH, np.int8)
        # Ids of the last `stack` rows of each lane's episode, oldest first, clamped at its start.
        self._recent = np.full((lanes, stack), -1, np.int64)
        self._episode = np.full(lanes, -1, np.int64)
        self._witness = -1
        self.recycler = Recycler()

    def __len__(self) -> int:
        """Rows alive, the final ones and the newest of each lane included."""
        return min(self._head, self.capacity)

    @property
    def added(self) -> int:
        """Rows ever added; also the id of the next one."""
        return self._head

    @property
    def nbytes(self) -> int:
        """Bytes of all columns at full capacity."""
        return sum(column.nbytes for column in self._columns.values())

    def plan(self) -> dict[str, Any]:
        """What the memory goes to: rows, bytes a row by column, and the row over its raw frames."""
        return memory_plan(self._specs, self.capacity)

    def describe(self) -> str:
        """The plan in a line for people."""
        plan = self.plan()
        return (
            f"replay: {plan['rows']} rows x {plan['row_bytes']} bytes = {plan['bytes'] / 2**20:.0f} MiB when full "
            f"(frames {plan['frame_bytes']}, cached features {plan['feature_bytes']}, "
            f"all else {plan['row_bytes'] - plan['frame_bytes'] - plan['feature_bytes']} bytes a row)"
        )

    # Adding ---------------------------------------------------------------------------------------

    def add(
        self,
        observation: Mapping[str, Any],
        tokens: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        final: np.ndarray,
        features: Mapping[str, np.ndarray] | None = None,
        labels: np.ndarray | None = None,
        demo: bool | np.ndarray = False,
        lanes: np.ndarray | Sequence[int] | None = None,
    ) -> np.ndarray:
        """Append one row to each of L lanes (all by default): an observation, the decision, its outcome.

        observation: images uint8 [L, H, W, 3], state float32 [L, P], task L str. tokens, labels: ints
        [L, K] (labels default to tokens). reward [L]: of this decision. terminated, truncated, final:
        bool [L]. A final row is an episode's last observation: it follows the row that terminated or
        was truncated, in the same lane, and its decision and outcome are ignored.

        Returns:
            The new rows' ids, int64 [L].

        Raises:
            ValueError: a wrong key, shape, dtype, token or order of rows, NaN or infinity. Nothing is
                stored then.
        """
        lane = self._checked_lanes(lanes)
        given = Given(observation, tokens, reward, terminated, truncated, final, features or {}, labels, demo)
        rows, texts = checked_rows(given, len(lane), self._specs, self.choices)
        self._check_order(lane, rows["final"])
        ids = np.arange(self._head, self._head + len(lane))
        at = ids % self.capacity
        rows |= self._links(lane, ids, rows["final"])
        rows["instruction"] = self._instructions.take(texts)
        self._instructions.drop(self._columns["instruction"][at[ids >= self.capacity]])
        for name, value in rows.items():
            self._columns[name][at] = value
        self._head += len(lane)
        self._link_from_previous(rows["prev"], ids)
        over = rows["terminated"] | rows["truncated"]
        self._phase[lane] = np.where(rows["final"], FRESH, np.where(over, ENDED, RUNNING))
        self._write_returns(ids[over])
        return ids

    def interrupt(self, lanes: np.ndarray | Sequence[int] | None = None) -> None:
        """End the running episodes of `lanes` (all by default), because their environments restarted.

        Nothing is known of what followed, so the last row of such an episode is never sampled as a
        transition, targets stop (and bootstrap) at it, and `returns` of the episode stay NaN. The
        next row of the lane starts a new episode.
        """
        lane = self._checked_lanes(lanes)
        self._phase[lane] = FRESH
        self._recent[lane] = self._episode[lane] = -1

    def _links(self, lane: np.ndarray, ids: np.ndarray, final: np.ndarray) -> dict[str, np.ndarray]:
        """Links of new rows to their episode's past; moves the lanes on."""
        fresh = self._phase[lane] == FRESH
        prev = np.where(fresh, -1, self._recent[lane, -1])
        recent = np.concatenate([self._recent[lane, 1:], ids[:, None]], axis=1)
        self._recent[lane] = np.where(fresh[:, None], ids[:, None], recent)
        self._episode[lane[fresh]] = self._episodes + np.arange(fresh.sum())
        self._episodes += int(fresh.sum())
        unknown = np.full(len(lane), np.nan, np.float32)
        return {
            "prev": prev,
            "next": np.full(len(lane), -1),
            "history": self._recent[lane, 0],
            "episode": self._episode[lane],
            "returns": unknown,
        }

    def _link_from_previous(self, prev: np.ndarray, ids: np.ndarray) -> None:
        # A previous row that is overwritten by now (its lane rested for long) must not be written to.
        linked = prev >= self._oldest
        self._columns["next"][prev[linked] % self.capacity] = ids[linked]

    def _write_returns(self, ids: np.ndarray) -> None:
        """Write the returns of the episodes whose last decisions are rows `ids`, backwards in time."""
        value = np.zeros(len(ids))
        while len(ids):
            at = ids % self.capacity
            value = self._columns["reward"][at] + self.gamma * value
            self._columns["returns"][at] = value
            ids = self._columns["prev"][at]
            alive = ids >= self._oldest
            ids, value = ids[alive], value[alive]

    # Sampling -------------------------------------------------------------------------------------

    def sample(
        self, batch_size: int, rng: np.random.Generator, *, finished_only: bool = False, images: bool = True
    ) -> Batch:
        """`batch_size` transitions, uniformly and independently among the sampleable rows.

        `finished_only` takes rows of episodes with a known end only (`returns` is then never NaN; a
        truncated episode's counts the observed rewards only). `images=False` leaves the frames out,
        for learners that read cached features. The cost does not depend on the capacity.

        Raises:
            NothingToSampleError: no row is sampleable.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        return self.transitions(self._draw(batch_size, rng, finished_only), images=images)

    def can_sample(self, finished_only: bool = False) -> bool:
        """Whether `sample` has anything to draw from."""
        if not self._sampleable(np.array([self._witness]), finished_only)[0]:
            ids = self.sampleable_ids(finished_only)
            self._witness = int(ids[-1]) if len(ids) else -1
        return self._witness >= 0

    def sampleable_ids(self, finished_only: bool = False) -> np.ndarray:
        """The ids of all rows that `sample` draws from, ascending; takes time in proportion to the rows."""
        ids = np.arange(self._oldest, self._head)
        return ids[self._sampleable(ids, finished_only)]

    def transitions(self, ids: np.ndarray, *, images: bool = True) -> Batch:
        """The transitions that start at rows `ids` int64 [B].

        Raises:
            ValueError: a row that is not sampleable (overwritten, final, or without a next row).
        """
        ids = np.asarray(ids, np.int64)
        good = self._sampleable(ids, False)
        if not good.all():
            raise ValueError(f"rows {ids[~good][:5].tolist()} are not transitions that replay holds")
        reached, reward, discount = self._walk(ids)
        at, after = ids % self.capacity, reached % self.capacity
        columns = self._columns
        return Batch(
            observation=self._observation(ids, images),
            next_observation=self._observation(reached, images),
            tokens=columns["tokens"][at].astype(np.int64),
            labels=columns["labels"][at].astype(np.int64),
            reward=reward.astype(np.float32),
            discount=discount.astype(np.float32),
            returns=columns["returns"][at],
            features=self._features(at),
            next_features=self._features(after),
            demo=columns["demo"][at],
            weight=np.ones(len(ids), np.float32),
            index=ids,
        )

    def _draw(self, count: int, rng: np.random.Generator, finished_only: bool) -> np.ndarray:
        ids = np.full(count, -1, np.int64)
        missing = np.arange(count)
        for _ in range(REDRAWS if self._head else 0):
            ids[missing] = rng.integers(self._oldest, self._head, len(missing))
            missing = missing[~self._sampleable(ids[missing], finished_only)]
            if not len(missing):
                return ids
        good = self.sampleable_ids(finished_only)
        if not len(good):
            what = "finished episode" if finished_only else "transition"
            raise NothingToSampleError(f"replay holds {len(self)} row(s) but no {what} to sample yet")
        ids[missing] = good[rng.integers(0, len(good), len(missing))]
        return ids

    @property
    def _oldest(self) -> int:
        return max(0, self._head - self.capacity)

    def _sampleable(self, ids: np.ndarray, finished_only: bool) -> np.ndarray:
        at = ids % self.capacity
        good = (ids >= self._oldest) & (ids < self._head) & (self._columns["next"][at] >= 0)
        good &= self._columns["history"][at] >= self._oldest
        return good & ~np.isnan(self._columns["returns"][at]) if finished_only else good

    def _walk(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Up to n steps along `next`: the rows reached, the discounted rewards, the discounts."""
        reward, discount = np.zeros(len(ids)), np.ones(len(ids))
        terminated = np.zeros(len(ids), bool)
        for _ in range(self.n_step):
            at = ids % self.capacity
            following = self._columns["next"][at]
            goes = following >= 0
            reward += np.where(goes, discount * self._columns["reward"][at], 0)
            discount = np.where(goes, discount * self.gamma, discount)
            terminated |= goes & self._columns["terminated"][at]
            ids = np.where(goes, following, ids)
        return ids, reward, np.where(terminated, 0, discount)

    def _observation(self, ids: np.ndarray, images: bool) -> dict[str, Any]:
        at = ids % self.capacity
        observation: dict[str, Any] = {}
        if images:
            frames_at = self._stacked(ids) % self.capacity if self.stack > 1 else at
            for name, column in self._columns.items():
                if name.startswith(FRAME):
                    observation[name.removeprefix(FRAME)] = self.recycler.take(column, frames_at)
        if self._columns["state"].shape[1]:
            observation[STATE] = self._columns["state"][at]
        observation[TASK] = self._instructions.texts(self._columns["instruction"][at])
        return observation

    def _stacked(self, ids: np.ndarray) -> np.ndarray:
        """The ids of each row's stack, oldest first, int64 [B, stack]."""
        stacked = [ids]
        for _ in range(self.stack - 1):
            prev = self._columns["prev"][stacked[-1] % self.capacity]
            stacked.append(np.where(prev >= 0, prev, stacked[-1]))
        return np.stack(stacked[::-1], axis=1)

    def _features(self, at: np.ndarray) -> dict[str, np.ndarray]:
        cached = {name: column for name, column in self._columns.items() if name.startswith(FEATURE)}
        return {name.removeprefix(FEATURE): self.recycler.take(column, at) for name, column in cached.items()}

    def _checked_lanes(self, lanes: np.ndarray | Sequence[int] | None) -> np.ndarray:
        lane = np.arange(self.lanes) if lanes is None else np.asarray(lanes, np.int64)
        if lane.ndim != 1 or len(np.unique(lane)) != len(lane) or ((lane < 0) | (lane >= self.lanes)).any():
            raise ValueError(f"lanes: expected distinct lanes in [0, {self.lanes}), got {lane.tolist()}")
        return lane

    def _check_order(self, lane: np.ndarray, final: np.ndarray) -> None:
        wrong = lane[final != (self._phase[lane] == ENDED)]
        if len(wrong):
            want = bool(self._phase[wrong[0]] == ENDED)
            raise ValueError(
                f"final: expected {want} for lane {wrong[0]}, got {not want}: a row is final exactly where the lane's "
                "row before it terminated or was truncated"
            )

    # Saving ---------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the rows that are alive, and where each lane stands, into the empty or new `folder`."""
        state = {
            "settings": self._settings(),
            "head": self._head,
            "episodes": self._episodes,
            "phase": self._phase.tolist(),
            "recent": self._recent.tolist(),
            "episode": self._episode.tolist(),
            "instructions": self._instructions.state(),
        }
        split = self._head % self.capacity if self._head > self.capacity else 0
        end = len(self)
        parts = {name: [column[split:end], column[:split]] for name, column in self._columns.items()}
        disk.write(Path(folder), state, parts)

    def load(self, folder: Path) -> None:
        """Replace everything by what `save` wrote; the stream then goes on as it would have.

        Running episodes go on too: call `interrupt` if the environments start anew.

        Raises:
            ValueError: a missing, truncated or altered file, or one of another buffer's settings; names
                it. The buffer is left as it was.
        """
        state = disk.read_state(Path(folder), self._settings())
        count = min(state["head"], self.capacity)
        shapes = {name: ((count, *shape), dtype) for name, (shape, dtype) in self._specs.items()}
        arrays = disk.open_columns(Path(folder), shapes)
        self._head, self._episodes, self._witness = state["head"], state["episodes"], -1
        self._phase[:], self._recent[:], self._episode[:] = state["phase"], state["recent"], state["episode"]
        self._instructions = Instructions.restored(state["instructions"])
        split = self._oldest % self.capacity
        for name, array in arrays.items():
            first = min(count, self.capacity - split)
            self._columns[name][split : split + first] = array[:first]
            self._columns[name][: count - first] = array[first:]

    def _settings(self) -> dict[str, Any]:
        columns = {name: [list(shape), dtype.str] for name, (shape, dtype) in self._specs.items()}
        chosen = {name: getattr(self, name) for name in ("capacity", "lanes", "stack", "gamma", "choices")}
        return chosen | {"columns": columns}
