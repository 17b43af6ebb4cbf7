"""The replay buffer: rows of all lanes in a ring, their frames in stores that hold each one once.

A row is one observation of one lane, and what was done there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
from vla_rl.replay.ring import Ring
from vla_rl.replay.rows import Given, checked_rows
from vla_rl.replay.sumtree import SumTree
from vla_rl.specs import IMAGES, STATE, TASK

By = Literal["uniform", "success", "priority"]
"""How rows are drawn: all alike; those alike that a positive return followed; in proportion to their priority."""
Ground = Callable[[dict[str, Any]], dict[str, np.ndarray]]
"""A batched observation -> its cached features, arrays [B, ...]."""
GROUNDED = 64
"""Rows whose features are made anew at a time."""
REDRAWS = 32
"""Rounds of rejection before the sampleable rows are listed instead."""


class NothingToSampleError(ValueError):
    """No row of the replay is a transition that may be sampled (yet)."""


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


class ReplayBuffer:
    """Transitions of `lanes` parallel environments.

    capacity: rows kept; the oldest go first, by whole episodes.
    images: camera (name or whole key) -> [height, width, 3].
    state_dim: P, or 0 for no state. slots: tokens of a decision; each token lies in [0, choices).
    features: cached features of a row, name -> (shape, dtype). digest: names what makes them; those of another digest
    are never read. gamma: discount of one step, (0, 1].
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
        digest: str = "",
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
        self._digest = digest
        self._images = image_shapes(images)
        self._specs = column_specs(self._images, state_dim, slots, choices, features or {})
        self._budget = Budget.split(capacity, lanes, self._specs, self._images, ram_bytes, disk_bytes)
        self._folder = _shard_folder(folder, disk_bytes)
        self._ring = self._empty_ring()
        self._stores = self._empty_stores()
        self._instructions = Instructions()
        self._journal = Journal()
        self._trees: dict[By, SumTree] = {}
        self._most = 1.0
        self._witness = -1
        self.recycler = Recycler()

    def __len__(self) -> int:
        """Rows alive, the final ones and the newest of each lane included."""
        return self._ring.count

    @property
    def added(self) -> int:
        """Rows ever added; also the id of the next one."""
        return self._ring.head

    @property
    def caches(self) -> bool:
        """Whether rows hold cached features."""
        return any(name.startswith(FEATURE) for name in self._specs)

    @property
    def nbytes(self) -> int:
        """Bytes in RAM at full capacity, coded frames as far as there are any yet."""
        columns = sum(column.nbytes for column in self._ring.columns.values())
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
        self._evict(self._ring.due(len(lane)))
        rows |= self._ring.links(lane)
        rows["instruction"] = self._instructions.take(texts)
        for key, store in self._stores.items():
            rows[FRAME + key] = store.put(frames[key], rows["episode"])
        ids, returned = self._ring.append(lane, rows)
        self._weigh(rows["prev"], returned)
        while self._budget.coded is not None and len(self) and self.coded_bytes > self._budget.coded:
            self._evict(np.array([self._ring.oldest]))
        return ids

    def interrupt(self, lanes: np.ndarray | Sequence[int] | None = None) -> None:
        """End the running episodes of `lanes` (all by default), because their environments restarted.

        Nothing is known of what followed, so the last row of such an episode is never sampled as a
        transition, targets stop (and bootstrap) at it, and `returns` of the episode stay NaN. The
        next row of the lane starts a new episode.
        """
        lane = self._checked_lanes(lanes)
        self._ring.interrupt(lane)

    def _evict(self, ids: np.ndarray) -> None:
        """Forget the episodes of the rows `ids`, and free what only they used."""
        at = self._ring.evict(ids) if len(ids) else ids
        if not len(at):
            return
        self._instructions.drop(self._ring.columns["instruction"][at])
        for key, store in self._stores.items():
            store.drop(self._ring.columns[FRAME + key][at])
        for tree in self._trees.values():
            tree.set(at, 0.0)

    # Sampling -------------------------------------------------------------------------------------

    def sample(
        self,
        batch_size: int,
        rng: np.random.Generator,
        *,
        finished_only: bool = False,
        images: bool = True,
        by: By = "uniform",
        correction: float = 0.0,
    ) -> Batch:
        """`batch_size` transitions, independently drawn among the sampleable rows, all alike or as `by` says.

        `finished_only` takes rows of episodes with a known end only (`returns` is then never NaN; a
        truncated episode's counts the observed rewards only). `images=False` leaves the frames out,
        for learners that read cached features. `correction`: the exponent by which `weight` makes up for priorities,
        1 wholly; the largest weight of a batch is 1. The cost does not depend on the capacity.

        Raises:
            NothingToSampleError: no row is sampleable.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        ids = self._draw(batch_size, rng, finished_only, by)
        batch = self.transitions(ids, images=images)
        if by == "priority":
            priority = self._tree(by).weights[ids % self.capacity]
            batch.weight = ((priority.min() / priority) ** correction).astype(np.float32)
        return batch

    def can_sample(self, finished_only: bool = False, by: By = "uniform") -> bool:
        """Whether `sample` has anything to draw from."""
        if by != "uniform" and not self._tree(by).total:
            return False
        witness = self._ring.sampleable(np.array([self._witness]), finished_only)[0]
        if not witness or (by != "uniform" and not self._tree(by).weights[self._witness % self.capacity]):
            ids = self.sampleable_ids(finished_only, by)
            self._witness = int(ids[-1]) if len(ids) else -1
        return self._witness >= 0

    def sampleable_ids(self, finished_only: bool = False, by: By = "uniform") -> np.ndarray:
        """The ids of all rows that `sample` draws from, ascending; takes time in proportion to the rows."""
        ids = np.arange(self._ring.oldest, self._ring.head)
        ids = ids[self._ring.sampleable(ids, finished_only)]
        return ids if by == "uniform" else ids[self._tree(by).weights[ids % self.capacity] > 0]

    def prioritise(self, ids: np.ndarray, priority: np.ndarray) -> None:
        """Give rows `ids` int [B] their priorities, float [B], above 0: such as |TD error| ** 0.6.

        Rows that are gone are passed over; new ones have the highest priority so far. Priorities are not saved.

        Raises:
            ValueError: a priority of 0, below it, or without bounds.
        """
        if not (np.isfinite(priority).all() and (priority > 0).all()):
            raise ValueError(f"priority: expected finite numbers above 0, got {priority}")
        here = self._ring.sampleable(ids)
        self._most = max(self._most, float(np.max(priority, initial=0)))
        self._tree("priority").set(ids[here] % self.capacity, priority[here])

    def transitions(self, ids: np.ndarray, *, images: bool = True) -> Batch:
        """The transitions that start at rows `ids` int64 [B].

        Raises:
            ValueError: a row that is not sampleable (evicted, final, or without a next row).
        """
        ids = self._checked_ids(ids)
        reached, reward, discount = self._ring.walk(ids, self.n_step)
        at, after = ids % self.capacity, reached % self.capacity
        columns = self._ring.columns
        # Both at once: a frame that is coded, and wanted by both, is decoded once.
        both = np.stack([ids, reached])
        frames = self._frames(both) if images else {}
        return Batch(
            observation={key: each[0] for key, each in frames.items()} | self.observations(ids, images=False),
            next_observation={key: each[1] for key, each in frames.items()} | self.observations(reached, images=False),
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
            shown=self._shown(both).swapaxes(0, 1) if images else None,
        )

    def chunks(self, ids: np.ndarray, length: int) -> Chunks:
        """What was done in `length` steps from rows `ids` int64 [B] on. Raises ValueError as `transitions` does."""
        rows, mask = self._ring.path(self._checked_ids(ids), length)
        index = rows[:, :-1]
        at = index % self.capacity
        reward = np.where(mask, self._ring.columns["reward"][at], np.float32(0))
        return Chunks(index, self._ring.columns["tokens"][at].astype(np.int64), reward, mask)

    def futures(self, ids: np.ndarray, rng: np.random.Generator, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """A later row of the same episode for each of rows `ids` int64 [B], and how many steps later, int64 [B].

        Uniform among the up to `horizon` next ones. Raises ValueError as `transitions` does.
        """
        rows, mask = self._ring.path(self._checked_ids(ids), horizon)
        steps = 1 + (rng.random(len(ids)) * mask.sum(axis=1)).astype(np.int64)
        return rows[np.arange(len(ids)), steps], steps

    def returns_so_far(self, ids: np.ndarray) -> np.ndarray:
        """Discounted sums of the rewards from rows `ids` int64 [B] on, as far as they are known, float64 [B].

        Those of the whole episode where it is over. Raises ValueError as `transitions` does.
        """
        return self._ring.returns_so_far(self._checked_ids(ids))

    def episodes(self) -> Iterator[np.ndarray]:
        """The ids of the rows of each whole episode that has ended, its final row included; oldest first."""
        columns, ids = self._ring.columns, np.arange(self._ring.oldest, self._ring.head)
        ids = ids[self._ring.alive(ids)]
        episode = columns["episode"][ids % self.capacity]
        order = np.argsort(episode, kind="stable")
        for rows in np.split(ids[order], np.flatnonzero(np.diff(episode[order])) + 1):
            # An episode that is too long for the ring is evicted from its beginning on.
            if (
                len(rows)
                and columns["final"][rows[-1] % self.capacity]
                and columns["prev"][rows[0] % self.capacity] < 0
            ):
                yield rows

    def recorded(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """What was done at rows `ids` int64 [B], which are alive, and what came of it; as `add` was told, by name."""
        names = ("tokens", "labels", "reward", "terminated", "truncated", "demo")
        return {name: self._ring.columns[name][ids % self.capacity] for name in names}

    def observations(self, ids: np.ndarray, images: bool = True) -> dict[str, Any]:
        """What was seen at rows `ids` int64 [B], which are alive with their stacks; see `Batch.observation`."""
        at = ids % self.capacity
        columns = self._ring.columns
        observation: dict[str, Any] = dict(self._frames(ids)) if images else {}
        if columns["state"].shape[1]:
            observation[STATE] = columns["state"][at]
        observation[TASK] = self._instructions.texts(columns["instruction"][at])
        return observation

    def _frames(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """By camera, the frames of rows `ids` int64 [...]: uint8 [..., H, W, 3], or [..., stack, H, W, 3]."""
        at = (self._ring.stacked(ids) if self.stack > 1 else ids) % self.capacity
        columns = self._ring.columns
        return {key: store.take(columns[FRAME + key][at], self.recycler) for key, store in self._stores.items()}

    def _shown(self, ids: np.ndarray) -> np.ndarray:
        """Of rows `ids` int64 [...], the numbers int64 [..., F] of every camera's frames and of the instruction."""
        at = (self._ring.stacked(ids) if self.stack > 1 else ids[..., None]) % self.capacity
        columns = self._ring.columns
        frames = [columns[FRAME + key][at] for key in self._stores]
        return np.concatenate([*frames, columns["instruction"][at[..., -1:]]], axis=-1).astype(np.int64)

    def _features(self, at: np.ndarray) -> dict[str, np.ndarray]:
        cached = {name: column for name, column in self._ring.columns.items() if name.startswith(FEATURE)}
        return {name.removeprefix(FEATURE): self.recycler.take(column, at) for name, column in cached.items()}

    def _draw(self, count: int, rng: np.random.Generator, finished_only: bool, by: By) -> np.ndarray:
        tree = None if by == "uniform" else self._tree(by)
        ids = np.full(count, -1, np.int64)
        missing = np.arange(count)
        for _ in range(REDRAWS if len(self) and (tree is None or tree.total) else 0):
            if tree is None:
                ids[missing] = rng.integers(self._ring.oldest, self._ring.head, len(missing))
            else:
                ids[missing] = self._ring.ids_at(tree.draw(len(missing), rng))
            missing = missing[~self._ring.sampleable(ids[missing], finished_only)]
            if not len(missing):
                return ids
        good = self.sampleable_ids(finished_only, by)
        if not len(good):
            what = "success" if by == "success" else "finished episode" if finished_only else "transition"
            raise NothingToSampleError(f"replay holds {len(self)} row(s) but no {what} to sample yet")
        shares = np.ones(len(good)) if tree is None else tree.weights[good % self.capacity]
        ids[missing] = rng.choice(good, len(missing), p=shares / shares.sum())
        return ids

    def _tree(self, by: By) -> SumTree:
        """The weights of all rows for `by`; kept from the first time on that somebody draws so."""
        if by not in self._trees:
            tree = self._trees[by] = SumTree(self.capacity)
            ids = np.arange(self._ring.oldest, self._ring.head)
            at = ids[self._ring.alive(ids)] % self.capacity
            if by == "success":
                tree.set(at[self._ring.columns["returns"][at] > 0], 1.0)
            else:
                tree.set(at[self._ring.columns["next"][at] >= 0], self._most)
        return self._trees[by]

    def _weigh(self, prev: np.ndarray, returned: np.ndarray) -> None:
        """Give weights to rows that have a next one now (`prev`), and to slots whose returns are known now."""
        if "priority" in self._trees:
            self._trees["priority"].set(prev[self._ring.alive(prev)] % self.capacity, self._most)
        if "success" in self._trees:
            self._trees["success"].set(returned[self._ring.columns["returns"][returned] > 0], 1.0)

    # Checking -------------------------------------------------------------------------------------

    def _checked_ids(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids, np.int64)
        good = self._ring.sampleable(ids)
        if not good.all():
            raise ValueError(f"rows {ids[~good][:5].tolist()} are not transitions that replay holds")
        return ids

    def _checked_lanes(self, lanes: np.ndarray | Sequence[int] | None) -> np.ndarray:
        if lanes is None:
            return np.arange(self.lanes)
        lane = np.asarray(lanes, np.int64)
        if lane.ndim != 1 or len(np.unique(lane)) != len(lane) or ((lane < 0) | (lane >= self.lanes)).any():
            raise ValueError(f"lanes: expected distinct lanes in [0, {self.lanes}), got {lane.tolist()}")
        return lane

    def _check_order(self, lane: np.ndarray, final: np.ndarray) -> None:
        wrong = self._ring.wrong(lane, final)
        if len(wrong):
            got = bool(final[lane == wrong[0]][0])
            raise ValueError(
                f"final: expected {not got} for lane {wrong[0]}, got {got}: a row is final exactly where the lane's "
                "row before it terminated or was truncated"
            )

    # Saving ---------------------------------------------------------------------------------------

    def save(self, folder: Path, previous: Sequence[Path] = ()) -> None:
        """Write the rows that are alive, and where each lane stands, into the empty or new `folder`.

        What was saved before, and still lies in one of the folders `previous`, is linked from there: only what is
        new is written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        ring = self._ring
        self._journal.extend(ring.oldest, ring.head, self._recorded)
        for store in self._stores.values():
            store.flush()
        places = [*previous, *([self._folder] if self._folder else [])]
        files = {
            "settings": self._settings(),
            "alive": journal.packed(ring.alive(np.arange(ring.oldest, ring.head))),
            "digest": self._digest,
            "rows": self._journal.store(folder, places),
            "frames": {
                key: [shard.store(folder, places) for shard in store.shards.values()]
                for key, store in self._stores.items()
            },
        }
        journal.write_state(folder, ring.state() | files)

    @classmethod
    def of_saved(cls, saved: Path, **limits: Any) -> ReplayBuffer:
        """A buffer of what `save` wrote, without cached features.

        limits: `ram_bytes`, `disk_bytes` and `folder`, as a new buffer takes them.

        Raises:
            ValueError: see `load`; or the limits are too small.
        """
        settings = journal.read_settings(saved)
        columns = {name: (tuple(shape), kind) for name, (shape, kind) in settings["columns"].items()}
        buffer = cls(
            images={key: shape for key, (shape, _) in columns.items() if key.startswith(IMAGES)},
            state_dim=columns["state"][0][0],
            slots=columns["tokens"][0][0],
            **{name: settings[name] for name in ("capacity", "lanes", "stack", "gamma", "choices")},
            **limits,
        )
        buffer.load(saved)
        return buffer

    def load(self, folder: Path, ground: Ground | None = None) -> bool:
        """Replace everything by what `save` wrote; the stream then goes on as it would have.

        Running episodes go on too: call `interrupt` if the environments start anew.

        Args:
            folder: what `save` wrote.
            ground: makes cached features, of at most `GROUNDED` rows at a time, where those that were saved are of
                another digest, or none were.

        Returns:
            Whether cached features were made anew.

        Raises:
            ValueError: a missing, truncated or altered file, or one of another buffer's settings; or cached features
                of another digest, without `ground`. Names it. The buffer is left as it was.
        """
        state = journal.read_state(folder, self._settings())
        stale = self.caches and state["digest"] != self._digest
        if stale and ground is None:
            raise ValueError(
                f"{folder}: its cached features are of digest {state['digest'] or 'none'}, this replay's of "
                f"{self._digest}; give `ground` to make them anew"
            )
        read = {name: spec for name, spec in self._specs.items() if not (stale and name.startswith(FEATURE))}
        oldest, head = state["oldest"], state["head"]
        alive = journal.unpacked(state["alive"], head - oldest)
        saved = Journal.open(folder, state["rows"], oldest, head, read)
        frames = {key: [Archive.open(folder / name) for name in names] for key, names in state["frames"].items()}
        ring, instructions, stores = self._empty_ring(), Instructions(), self._empty_stores()
        for ids, rows, texts in saved.parts(oldest):
            for name in read.keys() - {"instruction", *LATER}:
                ring.columns[name][ids % self.capacity] = rows[name]
            living = alive[ids - oldest]
            used = [texts[i] for i in rows["instruction"][living].tolist()]
            ring.columns["instruction"][ids[living] % self.capacity] = instructions.take(used)
        at = (oldest + np.flatnonzero(alive)) % self.capacity
        for key, store in stores.items():
            if self._folder:
                for shard in frames[key]:
                    shard.store(self._folder, [folder])
            store.restore(frames[key], np.bincount(ring.columns[FRAME + key][at], minlength=self.capacity))
        ring.restore(state, alive)
        self._ring, self._stores, self._instructions, self._journal = ring, stores, instructions, saved
        self._trees, self._most, self._witness = {}, 1.0, -1
        if stale and ground is not None:
            wanted, self._digest = self._digest, state["digest"]
            self.renew(ground, wanted)
        return stale

    def renew(self, ground: Ground, digest: str) -> bool:
        """Make the cached features of all rows anew, unless they are of `digest` already; returns whether it did.

        ground: makes those of at most `GROUNDED` observations at a time.
        """
        if not self.caches or digest == self._digest:
            return False
        self._digest = digest
        ids = np.arange(self._ring.oldest, self._ring.head)
        history = self._ring.columns["history"][ids % self.capacity]
        ids = ids[self._ring.alive(ids) & self._ring.alive(history)]
        for begin in range(0, len(ids), GROUNDED):
            some = ids[begin : begin + GROUNDED]
            for name, values in ground(self.observations(some)).items():
                self._ring.columns[FEATURE + name][some % self.capacity] = values
        self._journal = Journal()  # what it holds is of the other digest
        return True

    def _recorded(self, ids: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
        """Columns of rows as they were recorded, their instructions as places in a list, and that list."""
        at = ids % self.capacity
        rows = {name: column[at] for name, column in self._ring.columns.items() if name not in LATER}
        used, rows["instruction"] = np.unique(rows["instruction"], return_inverse=True)
        return rows, self._instructions.texts(used)

    def _empty_ring(self) -> Ring:
        return Ring(self.capacity, self.lanes, self.stack, self.gamma, self._specs)

    def _empty_stores(self) -> dict[str, FrameStore]:
        return {
            key: FrameStore(shape, self.capacity, self._budget.hot, self._folder) for key, shape in self._images.items()
        }

    def _settings(self) -> dict[str, Any]:
        # Cached features follow from the rest, so that a checkpoint with others, or without any, can be loaded.
        kept = {name: spec for name, spec in self._specs.items() if not name.startswith(FEATURE)}
        columns: dict[str, Any] = {name: [list(shape), dtype.str] for name, (shape, dtype) in kept.items()}
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
