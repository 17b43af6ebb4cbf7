"""Frames come back as they went in, whatever codes them and wherever they lie; equal ones are one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_rl.buffer_pool import Recycler
from vla_rl.replay import coding, frames
from vla_rl.replay.frames import FrameStore

SHAPE = (5, 4, 3)


def scenes(rng: np.random.Generator, count: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Frames of one scene, in which few pixels move."""
    frames = np.repeat(rng.integers(0, 256, (1, *shape), np.uint8), count, axis=0)
    moved = rng.random(frames.shape) < 0.05
    return np.where(moved, rng.integers(0, 256, frames.shape, np.uint8), frames)


@given(
    codec=st.sampled_from(coding.CODECS),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
    episodes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_every_coding_is_lossless(codec: str, shape: tuple[int, int, int], episodes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = np.concatenate([scenes(rng, count, shape) for count in episodes])
    coded = coding.encode(frames, np.repeat(np.arange(len(episodes)), episodes), codec)
    index = rng.integers(0, len(frames), 50)
    assert np.array_equal(coded.decode(index), frames[index])
    # A keyframe hangs on no other.
    assert np.array_equal(coded.key[coded.key], coded.key)


def test_the_stream_decides_its_coding() -> None:
    rng = np.random.default_rng(0)
    still = scenes(rng, 64, (32, 32, 3))
    noise = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    ramps = np.arange(32)[:, None] * 3 + rng.integers(0, 256, (64, 32, 1, 3)) + rng.integers(0, 3, noise.shape)
    flat = np.repeat(rng.integers(0, 256, (64, 1, 1, 3), np.uint8), 32 * 32, axis=1).reshape(64, 32, 32, 3)
    one = np.zeros(64, int)
    chosen = [coding.choose(frames.astype(np.uint8), one) for frames in (still, noise, ramps, flat)]
    assert chosen == ["key", "raw", "left", "plain"]


def test_damaged_data_are_an_error() -> None:
    frames = scenes(np.random.default_rng(0), 8)
    coded = coding.encode(frames, np.zeros(8, int), "plain")
    broken = coding.Coded(coded.codec, coded.shape, np.zeros_like(coded.data), coded.offset, coded.key)
    with pytest.raises(ValueError, match="cannot be decoded"):
        broken.decode(np.arange(8))


@given(
    seed=st.integers(0, 2**32 - 1),
    hot=st.integers(8, 60),
    on_disk=st.booleans(),
    repeats=st.sampled_from([0.0, 0.3, 0.9]),
    steps=st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_a_store_is_a_table_of_frames(seed: int, hot: int, on_disk: bool, repeats: float, steps: int) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        store = FrameStore(SHAPE, 64, hot, Path(folder) if on_disk else None)
        held: list[tuple[int, np.ndarray]] = []
        for step in range(steps):
            frames = scenes(rng, int(rng.integers(0, 9)))
            for frame in frames:
                if held and rng.random() < repeats:
                    frame[:] = held[rng.integers(len(held))][1]
            while len(held) + len(frames) > 64:
                held = drop_some(store, held, rng)
            ids = store.put(frames, np.full(len(frames), step // 5))
            held += list(zip(ids.tolist(), frames, strict=True))
            if rng.random() < 0.3:
                held = drop_some(store, held, rng)
            if rng.random() < 0.1:
                store.flush()
            assert_holds(store, held, rng)
        assert len(list(Path(folder).iterdir())) == (len(store.shards) if on_disk else 0)
        while held:
            held = drop_some(store, held, rng)
        assert (store.count, store.coded_bytes, store.shards) == (0, 0, {})
        assert not list(Path(folder).iterdir())


def drop_some(
    store: FrameStore, held: list[tuple[int, np.ndarray]], rng: np.random.Generator
) -> list[tuple[int, np.ndarray]]:
    gone = rng.random(len(held)) < 0.6
    store.drop(np.array([i for (i, _), drop in zip(held, gone, strict=True) if drop], np.int32))
    return [each for each, drop in zip(held, gone, strict=True) if not drop]


def assert_holds(store: FrameStore, held: list[tuple[int, np.ndarray]], rng: np.random.Generator) -> None:
    assert store.count == len({i for i, _ in held})
    if held:
        at = rng.integers(0, len(held), (7, 2))
        ids = np.array([i for i, _ in held])
        frames = np.stack([frame for _, frame in held])
        assert np.array_equal(store.take(ids[at], Recycler()), frames[at])


def test_equal_frames_share_an_id_within_a_call_and_after_it() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)
    store = FrameStore(SHAPE, 64, 64)
    ids = store.put(frames[[0, 1, 0, 2, 1]], np.zeros(5, int))
    assert ids[[0, 1]].tolist() == ids[[2, 4]].tolist()
    assert store.put(frames[[2, 3]], np.zeros(2, int))[0] == ids[3]
    store.drop(ids)
    assert store.count == 2


def test_frames_of_one_hash_are_told_apart() -> None:
    store = FrameStore(SHAPE, 64, 64)
    store._weights[:] = 0
    frames = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)
    ids = np.concatenate([store.put(frames[:4], np.zeros(4, int)), store.put(frames[4:], np.zeros(2, int))])
    assert len(set(ids.tolist())) == 6
    assert np.array_equal(store.take(ids, Recycler()), frames)


@given(seed=st.integers(0, 2**32 - 1), hot=st.integers(4, 40))
@settings(max_examples=20, deadline=None)
def test_a_restored_store_holds_what_is_referred_to(seed: int, hot: int) -> None:
    rng = np.random.default_rng(seed)
    store = FrameStore(SHAPE, 64, hot)
    held: list[tuple[int, np.ndarray]] = []
    for step in range(12):
        frames = scenes(rng, 4)
        while len(held) + 4 > 64:
            held = drop_some(store, held, rng)
        held += list(zip(store.put(frames, np.full(4, step // 3)).tolist(), frames, strict=True))
        if step % 4 == 0:
            store.flush()
    held = drop_some(store, held, rng)
    store.flush()
    twin = FrameStore(SHAPE, 64, hot)
    twin.take_over(list(store.shards.values()), list(store.held().values()))
    twin.refer(np.bincount([i for i, _ in held], minlength=64))
    assert_holds(twin, held, rng)
    more = scenes(rng, 4)
    ids = twin.put(more, np.zeros(4, int))
    assert np.array_equal(twin.take(ids, Recycler()), more)
    assert_holds(twin, [*held, *zip(ids.tolist(), more, strict=True)], rng)


def test_a_restored_store_shares_the_frames_that_it_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where hashes meet in one bucket, and the later of two frames is gone."""
    monkeypatch.setattr(frames, "MOST_BUCKETS", 4)
    rng = np.random.default_rng(0)
    store, scene = FrameStore(SHAPE, 64, 64), rng.integers(0, 256, (12, *SHAPE), np.uint8)
    held: list[int] = []
    for _ in range(40):
        held += store.put(scene[rng.integers(0, 12, 3)], np.zeros(3, int)).tolist()
        if len(held) > 18:
            store.drop(np.array(held[:3]))
            held = held[3:]
    store.flush()
    twin = FrameStore(SHAPE, 64, 64)
    twin.take_over(list(store.shards.values()), list(store.held().values()))
    twin.refer(np.bincount(held, minlength=64), store.shared)
    assert 0 < store.shared.sum() < store.count
    assert np.array_equal(store.shared, twin.shared)
    for _ in range(20):
        shown = scene[rng.integers(0, 12, 1)]
        assert store.count == twin.count
        for each in (store, twin):
            each.put(shown, np.zeros(1, int))
