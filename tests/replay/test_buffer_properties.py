"""For random streams, the buffer's transitions are exactly those of a naive list of episodes."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_streams import CAMERAS, Stream, assert_same, make_stream

from vla_rl.replay import NothingToSampleError
from vla_rl.replay.budget import BY_PLACE, RAW_SHARE


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    lanes, stack = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return make_stream(
        seed=draw(st.integers(0, 2**32 - 1)),
        lanes=lanes,
        stack=stack,
        capacity=lanes * (stack + 1) + draw(st.integers(0, 40)),
        n_step=draw(st.integers(1, 5)),
        gamma=draw(st.sampled_from([0.5, 0.9, 1.0])),
        ends=draw(st.sampled_from([0.0, 0.1, 0.3, 1.0])),
        rests=draw(st.sampled_from([0.0, 0.2, 0.8])),
        interrupts=draw(st.sampled_from([0.0, 0.05])),
    )


def expected_ids(stream: Stream, finished_only: bool = False) -> list[int]:
    naive = stream.naive
    ids = [i for i in range(len(naive.rows)) if naive.sampleable(i)]
    return [i for i in ids if naive.finished(i)] if finished_only else ids


def assert_holds_the_naive(stream: Stream) -> None:
    ids = expected_ids(stream)
    assert stream.buffer.sampleable_ids().tolist() == ids
    assert stream.buffer.sampleable_ids(finished_only=True).tolist() == expected_ids(stream, finished_only=True)
    if ids:
        assert_same(stream.buffer.transitions(np.array(ids)), [stream.naive.transition(i) for i in ids])


@given(streams(), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_every_transition_is_the_naive_one(stream: Stream, steps: int) -> None:
    for _ in range(3):
        stream.run(steps)
        assert_holds_the_naive(stream)


@given(streams(), st.sampled_from([1.0, 0.5, 0.3]), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_the_asked_share_of_transitions_is_of_one_step(stream: Stream, share: float, seed: int) -> None:
    stream.run(40)
    if not stream.buffer.can_sample():
        return
    batch = stream.buffer.sample(20, np.random.default_rng(seed), one_step=share)
    once = np.array([int((i + 1) * share + 0.5) > int(i * share + 0.5) for i in range(20)])
    assert once.sum() == round(20 * share)
    steps = np.where(once, 1, stream.buffer.n_step)
    assert_same(batch, [stream.naive.transition(int(i), int(m)) for i, m in zip(batch.index, steps, strict=True)])
    few = stream.buffer.sample(20, np.random.default_rng(seed), one_step=share, following="cut")
    assert few.followed is not None
    assert few.followed[once].all()
    with pytest.raises(ValueError, match="needs what follows"):
        stream.buffer.sample(20, np.random.default_rng(seed), one_step=share, following=False)


def limits(capacity: int, lanes: int, hot: int, coded: int, folder: Path | None) -> dict[str, Any]:
    """Limits that leave room for `hot` frames a camera, and for `coded` bytes of shards where they lie on disk."""
    plain = make_stream(lanes=lanes, capacity=capacity).buffer.plan()
    frames = plain["frame_bytes"] + BY_PLACE * len(CAMERAS)
    ram = capacity * (plain["row_bytes"] - frames) + int(hot * frames / (1 if folder else RAW_SHARE)) + frames
    return {"ram_bytes": ram, "disk_bytes": coded if folder else None, "folder": folder}


@given(
    seed=st.integers(0, 2**32 - 1),
    lanes=st.integers(1, 3),
    stack=st.integers(1, 3),
    hot=st.integers(4, 12),
    coded=st.integers(0, 20_000),
    on_disk=st.booleans(),
    steps=st.integers(1, 80),
)
@settings(max_examples=30, deadline=None)
def test_every_transition_is_the_naive_one_where_bytes_are_limited(
    seed: int, lanes: int, stack: int, hot: int, coded: int, on_disk: bool, steps: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        capacity = 120
        given = limits(capacity, lanes, hot * lanes, coded, Path(folder) if on_disk else None)
        stream = make_stream(seed=seed, lanes=lanes, capacity=capacity, stack=stack, limits=given)
        for _ in range(3):
            stream.run(steps)
            assert_holds_the_naive(stream)
            assert on_disk == bool(stream.buffer.plan()["disk_bytes"]) or not coded
        with tempfile.TemporaryDirectory() as saved, tempfile.TemporaryDirectory() as other:
            stream.buffer.save(Path(saved))
            again = limits(capacity, lanes, 4 * lanes, coded, Path(other) if on_disk else None)
            twin = make_stream(lanes=lanes, capacity=capacity, stack=stack, limits=again)
            twin.buffer.load(Path(saved))
            stream.buffer = twin.buffer
            assert_holds_the_naive(stream)
            stream.run(5)
            assert_holds_the_naive(stream)


@given(streams(), st.integers(1, 60), st.booleans())
@settings(max_examples=40, deadline=None)
def test_sampling_covers_exactly_the_sampleable_rows(stream: Stream, steps: int, finished_only: bool) -> None:
    stream.run(steps)
    ids = expected_ids(stream, finished_only)
    assert stream.buffer.can_sample(finished_only) == bool(ids)
    rng = np.random.default_rng(0)
    if not ids:
        with pytest.raises(NothingToSampleError):
            stream.buffer.sample(4, rng, finished_only=finished_only)
        return
    batch = stream.buffer.sample(len(ids) * 30, rng, finished_only=finished_only)
    assert set(batch.index.tolist()) == set(ids)
    assert_same(batch, stream.naive.transitions(batch.index))


@given(stream=streams(), steps=st.integers(0, 60))
@settings(max_examples=25, deadline=None)
def test_a_saved_stream_goes_on_identically(stream: Stream, steps: int) -> None:
    buffer = stream.buffer
    stream.run(steps)
    twin = make_stream(
        lanes=buffer.lanes, stack=buffer.stack, capacity=buffer.capacity, n_step=buffer.n_step, gamma=buffer.gamma
    )
    twin.run(7)
    with tempfile.TemporaryDirectory() as folder:
        buffer.save(Path(folder))
        twin.buffer.load(Path(folder))
    stream.buffer = twin.buffer
    assert_holds_the_naive(stream)
    stream.run(5)
    assert_holds_the_naive(stream)


def test_sampling_is_uniform_and_seeded() -> None:
    stream = make_stream(ends=0.4)
    stream.run(50)
    ids = expected_ids(stream)
    draws = stream.buffer.sample(20_000, np.random.default_rng(1), images=False).index
    counts = np.array([np.sum(draws == i) for i in ids])
    chi2 = float(((counts - 20_000 / len(ids)) ** 2 / (20_000 / len(ids))).sum())
    assert chi2 < len(ids) + 5 * np.sqrt(2 * len(ids))
    again = stream.buffer.sample(20_000, np.random.default_rng(1), images=False).index
    assert np.array_equal(draws, again)


def test_a_single_good_row_among_many_is_found() -> None:
    stream = make_stream(lanes=1, capacity=400, ends=0.0, rests=0.0, interrupts=0.0)
    stream.buffer.interrupt()
    for _ in range(300):
        stream.run(1)
        stream.buffer.interrupt()
        stream.naive.running.clear()
    assert not stream.buffer.can_sample()
    stream.run(2)
    assert set(stream.buffer.sample(64, np.random.default_rng(0)).index) == {300}
