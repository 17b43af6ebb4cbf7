"""What a replay remembers: rows in a ring, the frames that they show in stores, and their instructions."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.buffer_pool import Allocate, Recycler
from vla_rl.replay import blob, journal
from vla_rl.replay.blob import AlteredError, Blob, within
from vla_rl.replay.budget import Budget
from vla_rl.replay.columns import FEATURE, FRAME, SIGNAL, ColumnSpecs, is_later
from vla_rl.replay.frames import FrameStore
from vla_rl.replay.instructions import Instructions
from vla_rl.replay.journal import Journal
from vla_rl.replay.ring import NONE, Ring
from vla_rl.specs import REMEMBERED, STATE, TASK, Truncation

Ground = Callable[[dict[str, Any]], dict[str, np.ndarray]]
"""A batched observation -> its cached features, arrays [B, ...]."""
Kept = dict[str, Any]
"""What is saved of a replay beside its rows."""
_NUMBERS = itertools.count()
"""Every memory of a process has its own."""
GROUNDED = 64
"""Rows whose features are made anew at a time."""


@dataclass(frozen=True)
class Layout:
    """What rows hold, and how much is kept. images: camera key -> [height, width, 3]; folder: of coded frames, or None
    where they stay in RAM; the rest as `ReplayBuffer` takes it.
    """

    capacity: int
    lanes: int
    stack: int
    gamma: float
    choices: int
    images: dict[str, tuple[int, int, int]]
    specs: ColumnSpecs
    budget: Budget
    folder: Path | None
    truncation: Truncation = "fail"

    def ring(self) -> Ring:
        """An empty one."""
        return Ring(self.capacity, self.lanes, self.stack, self.gamma, self.specs, self.truncation)

    def stores(self) -> dict[str, FrameStore]:
        """Empty ones."""
        return {
            key: FrameStore(shape, self.capacity, self.budget.hot, self.folder) for key, shape in self.images.items()
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What a memory must have in common with a saved one to take it over."""
        # Cached features follow from the rest, so that a checkpoint with others, or without any, can be loaded.
        kept = {name: spec for name, spec in self.specs.items() if not name.startswith(FEATURE)}
        columns: dict[str, Any] = {name: [list(shape), dtype.str] for name, (shape, dtype) in kept.items()}
        columns |= {key: [list(shape), "|u1"] for key, shape in self.images.items()}
        chosen = {name: getattr(self, name) for name in ("capacity", "lanes", "stack", "gamma", "choices")}
        return chosen | {"columns": columns}


class Memory:
    """Rows, frames and instructions; the oldest episodes are forgotten where there is no room.

    Attributes:
        layout: what rows hold. digest: of the cached features. ring: the rows. recycler: of batches' arrays.
        lost: how many rows were, since files were damaged.
    """

    def __init__(self, layout: Layout, digest: str, allocate: Allocate) -> None:
        self.layout, self.digest = layout, digest
        self.ring = layout.ring()
        self.recycler = Recycler(allocate)
        self._stores = layout.stores()
        self._instructions = Instructions()
        self._journal = Journal()
        self._number = next(_NUMBERS)
        self.lost = 0

    @property
    def caches(self) -> bool:
        """Whether rows hold cached features."""
        return any(name.startswith(FEATURE) for name in self.layout.specs)

    @property
    def nbytes(self) -> int:
        """Bytes in RAM at full capacity, coded frames as far as there are any yet."""
        columns = sum(column.nbytes for column in self.ring.columns.values())
        coded = 0 if self.layout.folder else self.coded_bytes
        return columns + sum(store.nbytes for store in self._stores.values()) + coded

    @property
    def coded_bytes(self) -> int:
        """Bytes of the frames that are coded, in RAM or on disk."""
        return sum(store.coded_bytes for store in self._stores.values())

    @property
    def frames(self) -> dict[str, int]:
        """How many different frames there are, by camera key."""
        return {key: store.count for key, store in self._stores.items()}

    # Adding ---------------------------------------------------------------------------------------

    def put(
        self, lane: np.ndarray, rows: dict[str, np.ndarray], frames: dict[str, np.ndarray], texts: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Add a row to each lane, where `forget` made room; their ids, and the slots whose returns are known now."""
        rows |= self.ring.links(lane)
        rows["instruction"] = self._instructions.take(texts)
        for key, store in self._stores.items():
            rows[FRAME + key] = store.put(frames[key], rows["episode"])
        return self.ring.append(lane, rows)

    def forget(self, ids: np.ndarray) -> np.ndarray:
        """Forget the episodes of the rows `ids`, and free what only they used; the slots of all their rows."""
        at = self.ring.evict(ids) if len(ids) else ids
        if len(at):
            self._instructions.drop(self.ring.columns["instruction"][at])
            for key, store in self._stores.items():
                store.drop(self.ring.columns[FRAME + key][at])
        return at

    @property
    def too_much(self) -> bool:
        """Whether the coded frames pass their limit."""
        limit = self.layout.budget.coded
        return limit is not None and self.ring.count > 0 and self.coded_bytes > limit

    # Reading --------------------------------------------------------------------------------------

    def observations(self, ids: np.ndarray, images: bool = True) -> dict[str, Any]:
        """What was seen at rows `ids` int64 [...], which are alive with their stacks; see `Batch.observation`."""
        at = ids % self.layout.capacity
        columns = self.ring.columns
        observation: dict[str, Any] = dict(self.pictures(ids)) if images else {}
        if columns["state"].shape[1]:
            observation[STATE] = columns["state"][at]
        if "remembered" in columns:
            observation[REMEMBERED] = columns["remembered"][at]
        observation[TASK] = self._instructions.texts(columns["instruction"][at])
        return observation

    def pictures(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """By camera, the frames of rows `ids` int64 [...]: uint8 [..., H, W, 3], or [..., stack, H, W, 3]."""
        at = (self.ring.stacked(ids) if self.layout.stack > 1 else ids) % self.layout.capacity
        columns = self.ring.columns
        return {key: store.take(columns[FRAME + key][at], self.recycler) for key, store in self._stores.items()}

    def shown(self, ids: np.ndarray) -> np.ndarray:
        """Of rows `ids` int64 [...], the numbers int64 [..., F] of this memory, of every camera's frames and of the
        instruction."""
        at = (self.ring.stacked(ids) if self.layout.stack > 1 else ids[..., None]) % self.layout.capacity
        columns = self.ring.columns
        frames = [columns[FRAME + key][at] for key in self._stores]
        own = np.full_like(ids, self._number)[..., None]
        return np.concatenate([own, *frames, columns["instruction"][at[..., -1:]]], axis=-1).astype(np.int64)

    def features(self, at: np.ndarray) -> dict[str, np.ndarray]:
        """The cached features in slots `at`, by name."""
        cached = {name: column for name, column in self.ring.columns.items() if name.startswith(FEATURE)}
        return {name.removeprefix(FEATURE): self.recycler.take(column, at) for name, column in cached.items()}

    def episodes(self) -> Iterator[np.ndarray]:
        """The ids of the rows of each whole episode that has ended, its final row included; oldest first."""
        columns, ids = self.ring.columns, np.arange(self.ring.oldest, self.ring.head)
        ids = ids[self.ring.alive(ids)]
        slots = ids % self.layout.capacity
        episode = columns["episode"][slots]
        order = np.argsort(episode, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(episode[order])) + 1):
            # An episode that is too long for the ring is evicted from its beginning on.
            if not len(part) or not columns["final"][slots[part[-1]]]:
                continue
            # Of one that was damaged, rows in its middle may lack.
            if np.array_equal(columns["prev"][slots[part]], np.append(NONE, ids[part[:-1]])):
                yield ids[part]

    # Saving ---------------------------------------------------------------------------------------

    def save(self, folder: Path, previous: Sequence[Path]) -> np.ndarray:
        """See `ReplayBuffer.save`; the slots of rows that were forgotten, as their frames had been altered."""
        folder.mkdir(parents=True, exist_ok=True)
        places = [*previous, *([self.layout.folder] if self.layout.folder else [])]
        ring, stores, gone = self.ring, self._stores, [np.empty(0, np.int64)]
        for key, store in stores.items():
            store.flush()
            # Rows that are lost with one shard may be all that needed another one.
            altered = self._altered(store, folder, places)
            gone += [self._without(key, number) for number in altered if number in store.shards]
        for store in stores.values():
            store.flush()
        files = {
            "settings": self.layout.settings,
            "alive": journal.packed(ring.alive(np.arange(ring.oldest, ring.head))),
            "digest": self.digest,
            "rows": self._rows(folder, places),
            "shared": {key: journal.packed(store.shared) for key, store in stores.items()},
            "frames": {
                key: [shard.store(folder, places) for shard in store.shards.values()] for key, store in stores.items()
            },
            "held": {
                key: [[len(there), journal.packed(there)] for there in store.held().values()]
                for key, store in stores.items()
            },
        }
        journal.write_state(folder, ring.state() | files)
        return np.concatenate(gone)

    def _rows(self, folder: Path, places: Sequence[Path]) -> list[tuple[int, int, str]]:
        """Have `folder` hold all rows; their files."""
        self._journal.extend(self.ring.oldest, self.ring.head, self._recorded)
        try:
            return self._journal.store(folder, places)
        except AlteredError as error:
            warnings.warn(f"{folder}: {error}; its rows are written anew, from memory", stacklevel=4)
            self._journal = Journal()
            self._journal.extend(self.ring.oldest, self.ring.head, self._recorded)
            return self._journal.store(folder, places)

    def _altered(self, store: FrameStore, folder: Path, places: Sequence[Path]) -> list[int]:
        """The shards whose files were altered since they were written; `folder` holds all others."""
        altered = []
        for number, shard in store.shards.items():
            try:
                shard.store(folder, places)
            except AlteredError as error:
                warnings.warn(f"{folder}: {error}; frames that memory does not hold are lost", stacklevel=4)
                altered.append(number)
        return altered

    def _without(self, key: str, number: int) -> np.ndarray:
        """Forget the episodes of which only a shard of a camera knew how they looked; the slots of their rows."""
        ids = np.arange(self.ring.oldest, self.ring.head)
        frames = self.ring.columns[FRAME + key][ids % self.layout.capacity]
        ids = ids[np.isin(frames, self._stores[key].give_up(number)) & self.ring.alive(ids)]
        before, gone = self.ring.count, [np.empty(0, np.int64)]
        while len(ids := ids[self.ring.alive(ids)]):
            gone.append(self.forget(self.ring.until(int(ids[0]))[:1]))
        self._lose(before - self.ring.count, before)
        return np.concatenate(gone)

    def _lose(self, rows: int, of: int) -> None:
        self.lost += rows
        warnings.warn(f"replay: {rows} of {of} rows are lost; the others stand", stacklevel=5)

    def load(self, folder: Path, ground: Ground | None, damaged: Collection[Path] = ()) -> bool:
        """See `ReplayBuffer.load`."""
        names = {path.name for path in damaged if path.parent == folder}
        if journal.STATE_FILE in names:
            warnings.warn(
                f"{folder / journal.STATE_FILE}: damaged; replay begins empty, and its rows are lost", stacklevel=4
            )
            return False
        state = journal.read_state(folder, self.layout.settings)
        stale = self.caches and state["digest"] != self.digest
        if stale and ground is None:
            raise ValueError(
                f"{folder}: its cached features are of digest {state['digest'] or 'none'}, this replay's of "
                f"{self.digest}; give `ground` to make them anew"
            )
        saved = state["settings"]["columns"]
        # What an older version, or a run with other signals, did not tell of its rows is 0.
        untold = {name for name in self.layout.specs if name.startswith(SIGNAL) and name not in saved}
        left_out = untold | {name for name in self.layout.specs if stale and name.startswith(FEATURE)}
        kept = {name: spec for name, spec in self.layout.specs.items() if name not in left_out}
        self._restore(folder, state, kept, names)
        if untold:
            self._journal = Journal()  # what it holds lacks a column
        if stale and ground is not None:
            wanted, self.digest = self.digest, state["digest"]
            self.renew(ground, wanted)
        return stale

    def _restore(self, folder: Path, state: dict[str, Any], specs: ColumnSpecs, damaged: set[str]) -> None:
        """Take over everything that was saved of the columns `specs` but what `damaged` files held; or nothing."""
        layout, oldest, head = self.layout, state["oldest"], state["head"]
        alive = journal.unpacked(state["alive"], head - oldest)
        saved, before = Journal.open(folder, state["rows"], oldest, head, specs, damaged), int(alive.sum())
        ring, instructions, stores = layout.ring(), Instructions(), layout.stores()
        read = np.zeros(head - oldest, bool)
        for ids, rows, _ in saved.parts(oldest):
            read[ids - oldest] = True
            for name in specs:
                if name != "instruction" and not is_later(name):
                    ring.columns[name][ids % layout.capacity] = rows[name]
        alive &= read
        slots = np.arange(oldest, head) % layout.capacity
        for key, store in stores.items():
            there = store.take_over(*self._shards(folder, key, state, damaged))
            frames = ring.columns[FRAME + key][slots]
            if damaged:  # else `refer` will say what lacks
                alive[alive] = there[frames[alive]]
        for ids, rows, texts in saved.parts(oldest):
            living = alive[ids - oldest]
            used = [texts[i] for i in rows["instruction"][living].tolist()]
            ring.columns["instruction"][ids[living] % layout.capacity] = instructions.take(used)
        for key, store in stores.items():
            shared = state.get("shared", {}).get(key)  # which older versions did not tell
            uses = np.bincount(ring.columns[FRAME + key][slots[alive]], minlength=layout.capacity)
            store.refer(uses, None if shared is None else journal.unpacked(shared, layout.capacity))
        ring.restore(state, alive)
        self.ring, self._stores, self._instructions, self._journal = ring, stores, instructions, saved
        if damaged:
            self._journal = Journal()  # what it holds has gaps
            self._lose(before - int(alive.sum()), before)

    def _shards(
        self, folder: Path, key: str, state: dict[str, Any], damaged: set[str]
    ) -> tuple[list[Blob], list[np.ndarray | None]]:
        """The shards of a camera that are not `damaged`, and which of their frames were theirs still.

        Raises:
            ValueError: one is damaged, and an older version did not tell what the others hold.
        """
        names = state["frames"][key]
        held = state.get("held", {}).get(key)
        if held is None and not damaged.isdisjoint(names):
            raise ValueError(f"{folder}: frames are damaged that an older version saved; what lacks is not known")
        told = [None] * len(names) if held is None else [journal.unpacked(text, count) for count, text in held]
        shards, there = [], []
        for name, own in zip(names, told, strict=True):
            if name not in damaged:
                shards.append(Blob.open(within(folder, name)))
                there.append(own)
                if self.layout.folder:
                    shards[-1].store(self.layout.folder, [folder])
        return shards, there

    def renew(self, ground: Ground, digest: str) -> bool:
        """See `ReplayBuffer.renew`."""
        if not self.caches or digest == self.digest:
            return False
        self.digest = digest
        ids = np.arange(self.ring.oldest, self.ring.head)
        history = self.ring.columns["history"][ids % self.layout.capacity]
        ids = ids[self.ring.alive(ids) & self.ring.alive(history)]
        for begin in range(0, len(ids), GROUNDED):
            some = ids[begin : begin + GROUNDED]
            for name, values in ground(self.observations(some)).items():
                self.ring.columns[FEATURE + name][some % self.layout.capacity] = values
        self._journal = Journal()  # what it holds is of the other digest
        return True

    def _recorded(self, ids: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
        """Columns of rows as they were recorded, their instructions as places in a list, and that list."""
        at = ids % self.layout.capacity
        rows = {name: column[at] for name, column in self.ring.columns.items() if not is_later(name)}
        used, rows["instruction"] = np.unique(rows["instruction"], return_inverse=True)
        return rows, self._instructions.texts(used)


def shard_folder(folder: Path | None, disk_bytes: int | None) -> Path | None:
    """The folder for coded frames, emptied of what a former process left there; None where they stay in RAM."""
    if disk_bytes is None:
        return None
    if folder is None:
        raise ValueError("folder: disk_bytes needs a folder for the coded frames, got none")
    folder.mkdir(parents=True, exist_ok=True)
    blob.sweep(folder)
    return folder
