"""Batches made ahead are those that would be made without it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from replay_streams import assert_same, make_stream

from vla_rl.replay import Batch, Prefetcher, ReplayBuffer


@pytest.fixture
def buffer() -> ReplayBuffer:
    stream = make_stream(capacity=100)
    stream.run(60)
    return stream.buffer


@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize("counts", [[1, 2, 3], [0, 7]])
def test_batches_are_the_same_in_the_same_order(buffer: ReplayBuffer, ahead: int, counts: list[int]) -> None:
    def drawn(waiting: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        prefetcher = Prefetcher(lambda: buffer.sample(8, rng), waiting)
        for count in counts:
            yield from (batch.index for batch in prefetcher.batches(count))
        prefetcher.close()

    assert np.array_equal(list(drawn(ahead)), list(drawn(0)))


def test_rows_that_come_between_are_seen_and_held_batches_stay(buffer: ReplayBuffer) -> None:
    stream = make_stream(capacity=100)
    stream.run(20)
    rng = np.random.default_rng(0)
    prefetcher, held = Prefetcher(lambda: stream.buffer.sample(16, rng)), []
    for _ in range(6):
        stream.run(5)
        for batch in prefetcher.batches(4):
            held.append((batch, stream.naive.transitions(batch.index)))
            assert batch.index.max() < stream.buffer.added
    for batch, expected in held:
        assert_same(batch, expected)
    prefetcher.close()


def test_an_error_is_raised_at_its_turn() -> None:
    turns = iter(range(10))

    def make() -> Batch:
        if next(turns) == 2:
            raise ValueError("nothing there")
        return None  # type: ignore[return-value]

    prefetcher = Prefetcher(make)
    batches = prefetcher.batches(6)
    assert [next(batches), next(batches)] == [None, None]
    with pytest.raises(ValueError, match="nothing there"):
        next(batches)
    prefetcher.close()


def test_a_reader_that_stops_leaves_nothing_in_the_making(buffer: ReplayBuffer) -> None:
    busy = threading.Lock()

    def make() -> Batch:
        with busy:
            return buffer.sample(8, np.random.default_rng(0))

    prefetcher = Prefetcher(make, 3)
    batches = prefetcher.batches(100)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not busy.locked()
    prefetcher.close()
