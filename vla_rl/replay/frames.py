"""The frames of one camera: each stored once, the newest as they are in RAM, older ones coded in shards.

A frame has an id while anything refers to it; ids, like places in RAM, are small integers that are used again. A shard
holds some frames for good: it is written once, in RAM or as a file, and freed when nothing refers to any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vla_rl.buffer_pool import Recycler
from vla_rl.replay import coding
from vla_rl.replay.blob import Blob
from vla_rl.replay.coding import Coded

SHARD_BYTES = 32 << 20
"""At most so many bytes of raw frames go into a shard."""
BLOCK_BYTES = 1 << 20
"""About so many bytes of frames are decoded at a time."""
MOST_BUCKETS = 1 << 20
NOWHERE = -1


class Places:
    """The integers in [0, size), given out and taken back; the lowest ones first, so that memory is touched late.

    taken: bool [size], those that are out already.
    """

    def __init__(self, size: int, taken: np.ndarray | None = None) -> None:
        free = np.arange(size - 1, -1, -1, dtype=np.int32)
        self._free = free if taken is None else np.concatenate([free[~taken[::-1]], free[taken[::-1]]])
        self._count = size if taken is None else size - int(taken.sum())

    def __len__(self) -> int:
        """How many are free."""
        return self._count

    @property
    def nbytes(self) -> int:
        return self._free.nbytes

    def take(self, count: int) -> np.ndarray:
        """`count` of them, int32; there must be so many."""
        assert count <= self._count, (count, self._count)
        self._count -= count
        return self._free[self._count : self._count + count][::-1].copy()

    def give(self, places: np.ndarray) -> None:
        """Take them back."""
        self._free[self._count : self._count + len(places)] = places[::-1]
        self._count += len(places)


class FrameStore:
    """Frames uint8 [H, W, 3] by id.

    shape: (H, W, 3). most: ids that may be in use at one time. hot: frames kept raw in RAM; where there are more, the
    oldest of them are coded into shards. folder: where shards lie, or None for RAM.

    Attributes:
        shards: by number, in the order of their making.
        coded_bytes: of all shards.
    """

    def __init__(self, shape: tuple[int, int, int], most: int, hot: int, folder: Path | None = None) -> None:
        self.shape, self.hot, self.folder = shape, min(hot, most), folder
        self.codec: str | None = None
        self.shards: dict[int, Blob] = {}
        self.coded_bytes = 0
        self._coded: dict[int, Coded] = {}
        self._alive: dict[int, int] = {}
        self._next_shard = self._births = 0
        self._ids, self._slots = Places(most), Places(self.hot)
        # By id: references; the place in RAM and the shard, either of which may be NOWHERE; the places of the frame
        # and of its keyframe in the shard.
        self._uses = np.zeros(most, np.int32)
        self._slot, self._shard, self._place, self._key = (np.full(most, NOWHERE, np.int32) for _ in range(4))
        # By place in RAM: the frame, whose it is, its hash, its turn and its episode.
        self._frames = np.zeros((self.hot, *shape), np.uint8)
        self._owner = np.full(self.hot, NOWHERE, np.int32)
        self._hash = np.zeros(self.hot, np.uint64)
        self._born = np.zeros(self.hot, np.int64)
        self._group = np.zeros(self.hot, np.int32)
        # The latest place in RAM of every hash, by its low bits: what is overwritten is only shared no more.
        self._buckets = np.full(min(MOST_BUCKETS, 1 << (2 * self.hot).bit_length()), NOWHERE, np.int32)
        size = -(-int(np.prod(shape)) // 8)
        self._weights = np.random.default_rng(0).integers(1, 1 << 63, size, np.uint64) * np.uint64(2) + np.uint64(1)

    @property
    def raw_bytes(self) -> int:
        """Bytes of one frame."""
        return int(np.prod(self.shape))

    @property
    def count(self) -> int:
        """How many different frames there are."""
        return len(self._uses) - len(self._ids)

    @property
    def nbytes(self) -> int:
        """Bytes in RAM, shards apart."""
        return sum(part.nbytes for part in vars(self).values() if isinstance(part, (np.ndarray, Places)))

    def put(self, frames: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Refer once to each of the frames uint8 [L, H, W, 3]; their ids, int32 [L].

        A frame that equals another one in RAM, or of this call, shares its id. groups int [L]: the episode of each,
        whose frames are coded together.
        """
        hashes = self._hashes(frames)
        ids = self._known(frames, hashes)
        new = ids < 0
        # Whatever is referred to stays, while places are made.
        np.add.at(self._uses, ids[~new], 1)
        lead = _leaders(frames, hashes)
        follows = new & (lead != np.arange(len(frames)))
        fresh = np.flatnonzero(new & ~follows)
        whole = len(fresh) == len(frames)
        ids[fresh] = self._added(
            frames if whole else frames[fresh], hashes if whole else hashes[fresh], groups if whole else groups[fresh]
        )
        if follows.any():
            ids[follows] = ids[lead[follows]]
            np.add.at(self._uses, ids[follows], 1)
        return ids

    def drop(self, ids: np.ndarray) -> None:
        """Refer once less to each of `ids`; frames without references are gone."""
        np.subtract.at(self._uses, ids, 1)
        dead = np.unique(ids[self._uses[ids] == 0])
        self._free_slots(self._slot[dead])
        shards, counts = np.unique(self._shard[dead], return_counts=True)
        for shard, count in zip(shards.tolist(), counts.tolist(), strict=True):
            if shard != NOWHERE:
                self._alive[shard] -= count
                if not self._alive[shard]:
                    self._forget(shard)
        self._slot[dead] = self._shard[dead] = NOWHERE
        self._ids.give(dead)

    def take(self, ids: np.ndarray, recycler: Recycler) -> np.ndarray:
        """The frames of `ids` int [...], uint8 [..., H, W, 3], in memory of `recycler`."""
        slots = self._slot[ids]
        cold = slots < 0
        if not cold.any():
            return recycler.take(self._frames, slots)
        out = recycler.empty((*ids.shape, *self.shape), self._frames.dtype)
        flat, cold, slots = out.reshape(-1, *self.shape), cold.ravel(), slots.ravel()
        flat[~cold] = self._frames[slots[~cold]]
        self._decode(ids.ravel()[cold], np.flatnonzero(cold), flat)
        return out

    def _decode(self, ids: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
        """Write frames that lie in shards into rows of `out`, a block at a time, which the processor's cache holds."""
        # Shard and place as one number, so that frames and their keyframes sort together.
        base = self._shard[ids].astype(np.int64) << 32
        own, key = base | self._place[ids], base | self._key[ids]
        order = np.argsort(own)
        size = max(BLOCK_BYTES // self.raw_bytes, 1)
        for begin in range(0, len(order), size):
            block = order[begin : begin + size]
            needed = np.union1d(own[block], key[block])
            shards, begins = np.unique(needed >> 32, return_index=True)
            places = np.split(needed & 0xFFFFFFFF, begins[1:])
            frames = coding.inflate([(self._coded[n], at) for n, at in zip(shards.tolist(), places, strict=True)])
            found = frames[np.searchsorted(needed, own[block])]
            keys = frames[np.searchsorted(needed, key[block])]
            keys[own[block] == key[block]] = 0
            out[rows[block]] = np.bitwise_xor(found, keys, out=found)

    # Shards ---------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Code every frame that lies in no shard yet; all stay where they are in RAM too."""
        slots = np.flatnonzero(self._owner >= 0)
        self._code(slots[self._shard[self._owner[slots]] == NOWHERE])

    @property
    def shared(self) -> np.ndarray:
        """Which frames are shared with an equal one that comes, bool [most] by id: the latest of every hash."""
        found = np.zeros(len(self._uses), bool)
        slots = np.flatnonzero(self._owner >= 0)
        found[self._owner[slots[self._buckets[self._bucket(self._hash[slots])] == slots]]] = True
        return found

    def held(self) -> dict[int, np.ndarray]:
        """Of each shard by number, which of its frames lie there still, bool [N]; an id may be another frame's now."""
        return {number: self._shard[shard.arrays["ids"]] == number for number, shard in self.shards.items()}

    def give_up(self, number: int) -> np.ndarray:
        """Have a shard hold nothing any more; the ids of the frames that are gone with it."""
        ids = np.flatnonzero(self._shard == number)
        self._shard[ids] = NOWHERE
        self._forget(number)
        return ids[self._slot[ids] == NOWHERE]

    def take_over(self, shards: Iterable[Blob], held: Sequence[np.ndarray | None]) -> np.ndarray:
        """Take the frames of `shards`, oldest first, into an empty store; which ids they hold, bool [most].

        held: which frames of each shard lay there still when it was saved, bool [N]; None where that was not told.

        Raises:
            ValueError: a shard does not fit.
        """
        assert not self._births, "the store is in use"
        for shard, there in zip(shards, held, strict=True):
            coded, ids = self._opened(shard)
            if there is not None and len(there) != len(ids):
                raise ValueError(f"{shard.name}: expected {len(ids)} frames, got {len(there)}")
            self._settle(ids, coded, there)
            self._add_shard(shard, coded)
        return self._shard != NOWHERE

    def refer(self, uses: np.ndarray, shared: np.ndarray | None = None) -> None:
        """Have ids referred to so often, int [most], which `take_over` has given frames; the newest come into RAM.

        shared: see there; None where that is not known, so that the newest ones are.

        Raises:
            ValueError: a frame that is referred to lies in no shard.
        """
        born = np.zeros(len(self._uses), np.int64)
        groups = np.zeros(len(self._uses), np.int32)
        for number, there in self.held().items():
            arrays = self.shards[number].arrays
            ids = arrays["ids"][there]
            born[ids], groups[ids] = arrays["born"][there], arrays["group"][there]
        self._uses[:] = uses
        alive = np.flatnonzero(self._uses)
        if (self._shard[alive] == NOWHERE).any():
            raise ValueError(f"frame {alive[self._shard[alive] == NOWHERE][0]} is referred to, but lies in no shard")
        self._shard[self._uses == 0] = NOWHERE
        for number in list(self.shards):
            self._alive[number] = int((self._shard == number).sum())
            if not self._alive[number]:
                self._forget(number)
        self._births = int(born.max(initial=-1)) + 1
        self._ids = Places(len(self._uses), self._uses > 0)
        newest = alive[np.argsort(born[alive])][-self.hot :]
        for number in np.unique(self._shard[newest]).tolist():
            ids = newest[self._shard[newest] == number]
            frames = np.empty((len(ids), *self.shape), np.uint8)
            self._decode(ids, np.arange(len(ids)), frames)
            self._heat(ids, frames, born[ids], groups[ids])
        if shared is not None:
            self._buckets[:] = NOWHERE
            slots = self._slot[np.flatnonzero(shared & (self._slot >= 0))]
            self._buckets[self._bucket(self._hash[slots])] = slots

    def _added(self, frames: np.ndarray, hashes: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """New ids of frames that are not there yet, each with one reference."""
        if len(frames) > len(self._slots):
            self._cool(max(len(frames) - len(self._slots), self.hot // 4))
        ids = self._ids.take(len(frames))
        self._uses[ids] = 1
        born = self._births + np.arange(len(ids))
        self._births += len(ids)
        self._heat(ids, frames, born, groups, hashes)
        return ids

    def _heat(
        self,
        ids: np.ndarray,
        frames: np.ndarray,
        born: np.ndarray,
        groups: np.ndarray,
        hashes: np.ndarray | None = None,
    ) -> None:
        """Put frames into RAM."""
        slots = self._slots.take(len(ids))
        self._slot[ids] = slots
        self._frames[slots], self._owner[slots], self._born[slots], self._group[slots] = frames, ids, born, groups
        self._hash[slots] = self._hashes(frames) if hashes is None else hashes
        self._buckets[self._bucket(self._hash[slots])] = slots

    def _cool(self, count: int) -> None:
        """Have only shards hold the `count` oldest frames of those in RAM."""
        slots = np.flatnonzero(self._owner >= 0)
        slots = slots[np.argsort(self._born[slots], kind="stable")[:count]]
        self._code(slots[self._shard[self._owner[slots]] == NOWHERE])
        self._slot[self._owner[slots]] = NOWHERE
        self._free_slots(slots)

    def _free_slots(self, slots: np.ndarray) -> None:
        slots = slots[slots >= 0]
        self._owner[slots] = NOWHERE
        self._slots.give(slots)

    def _code(self, slots: np.ndarray) -> None:
        """Write the frames at `slots` into new shards."""
        slots = slots[np.lexsort((self._born[slots], self._group[slots]))]
        most = max(SHARD_BYTES // self.raw_bytes, 1)
        for start in range(0, len(slots), most):
            part = slots[start : start + most]
            frames, groups, ids = self._frames[part], self._group[part], self._owner[part]
            self.codec = self.codec or coding.choose(frames[:256], groups[:256])
            coded = coding.encode(frames, groups, self.codec)
            arrays = {"data": coded.data, "offset": coded.offset, "key": coded.key}
            arrays |= {"ids": ids, "born": self._born[part], "group": groups}
            shard = Blob(arrays, {"codec": coded.codec, "shape": ",".join(map(str, self.shape))})
            if self.folder:
                shard.store(self.folder)
                coded, _ = self._opened(shard)
            self._settle(ids, coded)
            self._alive[self._next_shard] = len(ids)
            self._add_shard(shard, coded)

    def _settle(self, ids: np.ndarray, coded: Coded, there: np.ndarray | None = None) -> None:
        """Frames `ids` are those of the next shard, in order; or those that are `there`, bool [N]."""
        places = np.arange(len(ids)) if there is None else np.flatnonzero(there)
        ids = ids[places]
        self._shard[ids], self._place[ids], self._key[ids] = self._next_shard, places, coded.key[places]

    def _add_shard(self, shard: Blob, coded: Coded) -> None:
        self.shards[self._next_shard], self._coded[self._next_shard] = shard, coded
        self.coded_bytes += shard.nbytes
        self._next_shard += 1

    def _forget(self, number: int) -> None:
        shard = self.shards.pop(number)
        del self._coded[number], self._alive[number]
        self.coded_bytes -= shard.nbytes
        if self.folder and shard.name:
            (self.folder / shard.name).unlink(missing_ok=True)

    def _opened(self, shard: Blob) -> tuple[Coded, np.ndarray]:
        """A shard's frames and their ids."""
        count = len(shard.arrays.get("ids", ()))
        codec, shape = shard.meta.get("codec", ""), ",".join(map(str, self.shape))
        if codec not in coding.CODECS or shard.meta.get("shape") != shape:
            raise ValueError(f"{shard.name}: expected frames {shape}, got {shard.meta}")
        ids = shard.array("ids", (count,), np.dtype(np.int32))
        offset = shard.array("offset", (count + 1,), np.dtype(np.int64))
        key = shard.array("key", (count,), np.dtype(np.int32))
        data = shard.array("data", (int(offset[-1]),), np.dtype(np.uint8))
        for name, dtype in (("born", np.int64), ("group", np.int32)):
            shard.array(name, (count,), np.dtype(dtype))
        if (ids < 0).any() or (ids >= len(self._uses)).any() or (key < 0).any() or (key >= count).any():
            raise ValueError(f"{shard.name}: frames or keyframes out of range")
        if self.codec not in (None, codec):
            raise ValueError(f"{shard.name}: expected frames coded as {self.codec!r} like the others, got {codec!r}")
        self.codec = codec
        return Coded(codec, self.shape, data, offset, key), ids

    # Equal frames ---------------------------------------------------------------------------------

    def _known(self, frames: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        """The ids of frames in RAM that equal these, int32 [L]; NOWHERE where there is none."""
        slots = self._buckets[self._bucket(hashes)]
        ids = np.full(len(frames), NOWHERE, np.int32)
        likely = np.flatnonzero((slots >= 0) & (self._owner[slots] >= 0) & (self._hash[slots] == hashes))
        if len(likely):
            equal = (self._frames[slots[likely]] == frames[likely]).all(axis=(1, 2, 3))
            ids[likely[equal]] = self._owner[slots[likely[equal]]]
        return ids

    def _hashes(self, frames: np.ndarray) -> np.ndarray:
        """A hash of each frame, uint64 [L]: a weighted sum of its words, whose high bits depend on every one."""
        flat = np.ascontiguousarray(frames).reshape(len(frames), self.raw_bytes)
        if flat.shape[1] % 8:
            flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 8)))
        return flat.view(np.uint64) @ self._weights

    def _bucket(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes >> np.uint64(40)) & np.uint64(len(self._buckets) - 1)


def _leaders(frames: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """The first frame of each one's equals, int [L]: itself where there is none before it."""
    own = np.arange(len(frames))
    if len(set(hashes.tolist())) == len(own):
        return own
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    lead = first[inverse]
    # A hash alone does not make them equal.
    return np.where((frames == frames[lead]).all(axis=(1, 2, 3)), lead, own)
