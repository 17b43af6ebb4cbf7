"""The replay buffer: a ring of rows over all lanes, each frame stored once.

A row is one observation of one lane, and what was done there. Rows have ids that only grow; row `id`
lives in slot `id % capacity` until row `id + capacity` takes it, or until its episode is evicted. Rows of an
episode are linked by ids (`next`, `prev`), so lanes may interleave in any order and nothing ever reads across an
episode's end. A row's frames lie in frame stores, by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.replay import archive, journal
from vla_rl.replay.archive import Archive
from vla_rl.replay.batch import Batch
from vla_rl.replay.budget import Budget, memory_plan
from vla_rl.replay.columns import FEATURE, FRAME, LATER, FeatureSpecs, column_specs, image_shapes
from vla_rl.replay.frames import FrameStore
from vla_rl.replay.instructions import Instructions
from vla_rl.replay.journal import Journal
from vla_rl.replay.recycle import Recycler
from vla_rl.replay.rows import Given, checked_rows
from vla_rl.specs import STATE, TASK

FRESH, RUNNING, ENDED = 0, 1, 2
"""What a lane waits for: an episode's first row, its next row, the final row of an ended episode."""
NONE, GONE = -1, -2
"""What `next` says of a row that has none yet, and of one that was evicted."""
REDRAWS = 32
"""Rounds of rejection before the sampleable rows are listed instead."""
PIECES = 8
"""An episode so long that these many of every lane fill the replay is evicted piece by piece, not as a whole."""


class NothingToSampleError(ValueError):
    """No row of the replay is a transition that may be sampled (yet)."""


class ReplayBuffer:
    """Transitions of `lanes` parallel environments.

    capacity: rows kept; the oldest go first, by whole episodes.
    images: camera (name or whole key) -> [height, width, 3].
    state_dim: P, or 0 for no state. slots: tokens of a decision; each token lies in [0, choices).
    features: cached features of a row, name -> (shape, dtype). gamma: discount of one step, (0, 1].
    n_step: steps of a sampled transition. stack: frames of a sampled observation, older ones first,
    the episode's first frame repeated before its start.

    ram_bytes: limit of everything in RAM; the newest frames stay there as they are, older ones are coded without loss.
    disk_bytes: limit of the coded frames, which then lie in `folder`, a folder for them alone, instead of in RAM.
    Where a limit is passed, the oldest episodes go. Without limits all frames stay in RAM as they are.

    Memory is committed by the operating system as rows are first written; `plan` tells the whole.

    Raises:
        ValueError: a setting out of its range, or limits too small.
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
        ram_bytes: int | None = None,
        disk_bytes: int | None = None,
        folder: Path | None = None,
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
        self._images = image_shapes(images)
        self._specs = column_specs(self._images, state_dim, slots, choices, features or {})
        self._budget = Budget.split(capacity, lanes, self._specs, self._images, ram_bytes, disk_bytes)
        self._folder = _shard_folder(folder, disk_bytes)
        self._columns = {name: np.zeros((capacity, *shape), dtype) for name, (shape, dtype) in self._specs.items()}
        self._stores = self._empty_stores()
        self._instructions = Instructions()
        self._journal = Journal()
        self._head = 0
        # No row before this one is alive.
        self._oldest = 0
        self._count = 0
        self._episodes = 0
        self._phase = np.full(lanes, FRESH, np.int8)
        # Ids of the last `stack` rows of each lane's episode, oldest first, clamped at its start.
        self._recent = np.full((lanes, stack), -1, np.int64)
        self._episode = np.full(lanes, -1, np.int64)
        self._witness = -1
        self.recycler = Recycler()

    def __len__(self) -> int:
        """Rows alive, the final ones and the newest of each lane included."""
        return self._count

    @property
    def added(self) -> int:
        """Rows ever added; also the id of the next one."""
        return self._head

    @property
    def nbytes(self) -> int:
        """Bytes in RAM at full capacity, coded frames as far as there are any yet."""
        columns = sum(column.nbytes for column in self._columns.values())
        coded = 0 if self._folder else self.coded_bytes
        return columns + sum(store.nbytes for store in self._stores.values()) + coded

    @property
    def coded_bytes(self) -> int:
        """Bytes of the frames that are coded, in RAM or on disk."""
        return sum(store.coded_bytes for store in self._stores.values())

    @property
    def frames(self) -> dict[str, int]:
        """How many different frames there are, by camera key."""
        return {key: store.count for key, store in self._stores.items()}

    def plan(self) -> dict[str, Any]:
        """What the memory goes to; see `memory_plan`."""
        return memory_plan(self._specs, self._images, self.capacity, self._budget, self._folder is not None)

    def describe(self) -> str:
        """The plan in a line for people."""
        plan = self.plan()
        line = (
            f"replay: {plan['rows']} rows x {plan['row_bytes']} bytes = {plan['bytes'] / 2**20:.0f} MiB when full "
            f"(frames {plan['frame_bytes']}, cached features {plan['feature_bytes']}, "
            f"all else {plan['row_bytes'] - plan['frame_bytes'] - plan['feature_bytes']} bytes a row)"
        )
        if plan["raw_rows"] == self.capacity:
            return line
        where = f"on disk in {self._folder}" if self._folder else "in RAM"
        return (
            f"replay: {plan['rows']} rows in at most {plan['bytes'] / 2**20:.0f} MiB of RAM; the frames of "
            f"{plan['raw_rows']} rows raw, older ones coded in {(self._budget.coded or 0) / 2**20:.0f} MiB {where} "
            f"(raw: frames {plan['frame_bytes']}, cached features {plan['feature_bytes']} bytes a row)"
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
        rows, frames, texts = checked_rows(given, len(lane), self._specs, self._images, self.choices)
        self._check_order(lane, rows["final"])
        ids = np.arange(self._head, self._head + len(lane))
        self._evict(ids[ids >= self.capacity] - self.capacity)
        rows |= self._links(lane, ids, rows["final"])
        rows["instruction"] = self._instructions.take(texts)
        for key, store in self._stores.items():
            rows[FRAME + key] = store.put(frames[key], rows["episode"])
        for name, value in rows.items():
            self._columns[name][ids % self.capacity] = value
        self._head += len(lane)
        self._count += len(lane)
        self._link_from_previous(rows["prev"], ids)
        over = rows["terminated"] | rows["truncated"]
        self._phase[lane] = np.where(rows["final"], FRESH, np.where(over, ENDED, RUNNING))
        self._write_returns(ids[over])
        self._keep_to_budget()
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
            "next": np.full(len(lane), NONE),
            "history": self._recent[lane, 0],
            "episode": self._episode[lane],
            "returns": unknown,
        }

    def _link_from_previous(self, prev: np.ndarray, ids: np.ndarray) -> None:
        # A previous row that is evicted by now (its lane rested for long) must not be written to.
        linked = self._alive(prev)
        self._columns["next"][prev[linked] % self.capacity] = ids[linked]

    def _write_returns(self, ids: np.ndarray) -> None:
        """Write the returns of the episodes whose last decisions are rows `ids`, backwards in time."""
        value = np.zeros(len(ids))
        while len(ids):
            at = ids % self.capacity
            value = self._columns["reward"][at] + self.gamma * value
            self._columns["returns"][at] = value
            ids = self._columns["prev"][at]
            alive = self._alive(ids)
            ids, value = ids[alive], value[alive]

    # Evicting -------------------------------------------------------------------------------------

    def _alive(self, ids: np.ndarray) -> np.ndarray:
        """Which of these rows are there, bool [B]."""
        there = (ids >= self._oldest) & (ids < self._head)
        return there & (self._columns["next"][ids % self.capacity] != GONE)

    def _evict(self, ids: np.ndarray) -> None:
        """Forget the episodes of the rows `ids` from there on, as far as they were recorded."""
        following, gone = self._columns["next"], []
        for _ in range(max(self.capacity // (PIECES * self.lanes), 1)):
            ids = ids[self._alive(ids)]
            if not len(ids):
                break
            at = ids % self.capacity
            gone.append(at)
            ids = following[at]
            following[at] = GONE
        if gone:
            at = np.concatenate(gone)
            self._count -= len(at)
            self._instructions.drop(self._columns["instruction"][at])
            for key, store in self._stores.items():
                store.drop(self._columns[FRAME + key][at])
            self._skip_gone()

    def _skip_gone(self) -> None:
        """Move `_oldest` on to a row that is alive, a thousand rows at a time."""
        while self._oldest < self._head:
            ids = np.arange(self._oldest, min(self._oldest + 1024, self._head))
            alive = self._alive(ids)
            if alive.any():
                self._oldest += int(alive.argmax())
                return
            self._oldest += len(ids)

    def _keep_to_budget(self) -> None:
        limit = self._budget.coded
        while limit is not None and self._count and self.coded_bytes > limit:
            self._evict(np.array([self._oldest]))

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

    def _sampleable(self, ids: np.ndarray, finished_only: bool) -> np.ndarray:
        at = ids % self.capacity
        good = (ids >= self._oldest) & (ids < self._head) & (self._columns["next"][at] >= 0)
        good &= self._alive(self._columns["history"][at])
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
            for key, store in self._stores.items():
                observation[key] = store.take(self._columns[FRAME + key][frames_at], self.recycler)
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

    def save(self, folder: Path, previous: Sequence[Path] = ()) -> None:
        """Write the rows that are alive, and where each lane stands, into the empty or new `folder`.

        What was saved before, and still lies in one of the folders `previous`, is linked from there: only what is
        new is written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._journal.extend(self._oldest, self._head, self._recorded)
        for store in self._stores.values():
            store.flush()
        places = [*previous, *([self._folder] if self._folder else [])]
        state = {
            "settings": self._settings(),
            "head": self._head,
            "episodes": self._episodes,
            "phase": self._phase.tolist(),
            "recent": self._recent.tolist(),
            "episode": self._episode.tolist(),
            "oldest": self._oldest,
            "alive": journal.packed(self._alive(np.arange(self._oldest, self._head))),
            "rows": self._journal.store(folder, places),
            "frames": {
                key: [shard.store(folder, places) for shard in store.shards.values()]
                for key, store in self._stores.items()
            },
        }
        journal.write_state(folder, state)

    def load(self, folder: Path) -> None:
        """Replace everything by what `save` wrote; the stream then goes on as it would have.

        Running episodes go on too: call `interrupt` if the environments start anew.

        Raises:
            ValueError: a missing, truncated or altered file, or one of another buffer's settings; names
                it. The buffer is left as it was.
        """
        state = journal.read_state(folder, self._settings())
        alive = np.zeros(self.capacity, bool)
        ids = np.arange(state["oldest"], state["head"])
        alive[ids % self.capacity] = journal.unpacked(state["alive"], len(ids))
        saved = Journal.open(folder, state["rows"], state["oldest"], state["head"], self._specs)
        frames = {key: [Archive.open(folder / name) for name in names] for key, names in state["frames"].items()}
        columns = {name: np.zeros_like(column) for name, column in self._columns.items()}
        instructions = Instructions()
        for at, rows, texts in saved.parts(state["oldest"], self.capacity):
            for name, values in rows.items():
                columns[name][at] = values
            columns["instruction"][at] = 0
            living = np.flatnonzero(alive[at])
            used = rows["instruction"][living]
            columns["instruction"][at[living]] = instructions.take([texts[i] for i in used.tolist()])
        stores = self._empty_stores()
        for key, store in stores.items():
            uses = np.bincount(columns[FRAME + key][alive], minlength=self.capacity)
            if self._folder:
                for shard in frames[key]:
                    shard.store(self._folder, [folder])
            store.restore(frames[key], uses)
        self._columns, self._stores, self._instructions, self._journal = columns, stores, instructions, saved
        self._head, self._oldest, self._episodes = state["head"], state["oldest"], state["episodes"]
        self._count, self._witness = int(alive.sum()), -1
        self._phase[:], self._recent[:], self._episode[:] = state["phase"], state["recent"], state["episode"]
        self._relink(ids[alive[ids % self.capacity]], ids[~alive[ids % self.capacity]])

    def _relink(self, alive: np.ndarray, gone: np.ndarray) -> None:
        """Write again what was known of rows only after they had been recorded."""
        self._columns["next"][:] = NONE
        self._columns["next"][gone % self.capacity] = GONE
        self._link_from_previous(self._columns["prev"][alive % self.capacity], alive)
        self._columns["returns"][:] = np.nan
        at = alive % self.capacity
        self._write_returns(alive[self._columns["terminated"][at] | self._columns["truncated"][at]])

    def _recorded(self, ids: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
        """Columns of rows as they were recorded, their instructions as places in a list, and that list."""
        at = ids % self.capacity
        rows = {name: column[at] for name, column in self._columns.items() if name not in LATER}
        used, rows["instruction"] = np.unique(rows["instruction"], return_inverse=True)
        return rows, self._instructions.texts(used)

    def _empty_stores(self) -> dict[str, FrameStore]:
        return {
            key: FrameStore(shape, self.capacity, self._budget.hot, self._folder) for key, shape in self._images.items()
        }

    def _settings(self) -> dict[str, Any]:
        columns = {name: [list(shape), dtype.str] for name, (shape, dtype) in self._specs.items()}
        columns |= {key: [list(shape), "|u1"] for key, shape in self._images.items()}
        chosen = {name: getattr(self, name) for name in ("capacity", "lanes", "stack", "gamma", "choices")}
        return chosen | {"columns": columns}


def _shard_folder(folder: Path | None, disk_bytes: int | None) -> Path | None:
    """The folder for coded frames, emptied of what a former process left there; None where they stay in RAM."""
    if disk_bytes is None:
        return None
    if folder is None:
        raise ValueError("folder: disk_bytes needs a folder for the coded frames, got none")
    folder.mkdir(parents=True, exist_ok=True)
    archive.sweep(folder)
    return folder
