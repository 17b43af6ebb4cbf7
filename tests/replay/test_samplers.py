"""Every way to draw rows, and what belongs to them, against the naive list of episodes."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_streams import Stream, assert_same, make_stream

from vla_rl.replay import Batch, Hindsight, NothingToSampleError, Own, Priority, ReplayBuffer, sample_mixed
from vla_rl.specs import STATE, TASK
from vla_rl.train_state import TrainState


def sampleable(stream: Stream) -> list[int]:
    return [i for i in range(len(stream.naive.rows)) if stream.naive.sampleable(i)]


def expected(stream: Stream, by: Priority) -> list[int]:
    ids = sampleable(stream)
    return ids if by != "success" else [i for i in ids if stream.naive.transition(i)["returns"] > 0]


@given(
    seed=st.integers(0, 2**32 - 1),
    by=st.sampled_from(["uniform", "success", "priority"]),
    lanes=st.integers(1, 3),
    stack=st.integers(1, 2),
    early=st.booleans(),
    steps=st.integers(1, 50),
)
@settings(max_examples=40, deadline=None)
def test_each_way_draws_exactly_its_rows(
    seed: int, by: Priority, lanes: int, stack: int, early: bool, steps: int
) -> None:
    stream, rng = make_stream(seed=seed, lanes=lanes, stack=stack, capacity=40), np.random.default_rng(seed)
    if early:  # The weights are kept from the first question on, or made of what is there.
        stream.buffer.can_sample(by=by)
    for _ in range(3):
        stream.run(steps)
        ids = expected(stream, by)
        assert stream.buffer.can_sample(by=by) == bool(ids)
        assert stream.buffer.sampleable_ids(by=by).tolist() == ids
        if not ids:
            with pytest.raises(NothingToSampleError):
                stream.buffer.sample(4, rng, by=by)
            continue
        batch = stream.buffer.sample(len(ids) * 20, rng, by=by)
        assert set(batch.index.tolist()) <= set(ids)
        assert_same(batch, stream.naive.transitions(batch.index))
        if by == "priority":
            stream.buffer.prioritise(batch.index, rng.uniform(0.5, 1, len(batch)))


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(10, 60), back=st.integers(-3, 60), finished=st.booleans())
@settings(max_examples=25, deadline=None)
def test_rows_since_a_shift_are_drawn_alone_as_far_as_there_are_any(
    seed: int, steps: int, back: int, finished: bool
) -> None:
    stream, rng = make_stream(seed=seed, lanes=2, stack=1, capacity=40), np.random.default_rng(seed)
    stream.run(steps)
    ids = stream.buffer.sampleable_ids(finished)
    if not len(ids):
        return
    since = stream.buffer.added - back
    allowed = set(ids[ids >= since].tolist()) or set(ids.tolist())
    drawn = stream.buffer.sample(20 * len(ids), rng, since=since, finished_only=finished).index
    assert set(drawn.tolist()) <= allowed
    if len(allowed) < 10:
        assert set(drawn.tolist()) == allowed
    batch = Own(since=since, recent_share=0.5).sample(stream.buffer, 40, rng, finished_only=finished)
    assert len(batch) == 40
    assert set(batch.index[:20].tolist()) <= allowed
    assert set(batch.index[20:].tolist()) <= set(ids.tolist())


def test_rows_are_drawn_by_their_priorities_and_weights_make_up_for_them() -> None:
    stream = make_stream(ends=0.4)
    stream.run(50)
    ids = np.array(sampleable(stream))
    priority = np.random.default_rng(0).uniform(0.1, 3, len(ids))
    stream.buffer.prioritise(ids, priority)
    batch = stream.buffer.sample(40_000, np.random.default_rng(1), images=False, by="priority", correction=1.0)
    counts = np.array([(batch.index == i).sum() for i in ids])
    assert np.allclose(counts / 40_000, priority / priority.sum(), atol=0.006)
    # Weighted, all rows count alike; half a correction is the root of the whole one.
    weight = np.array([batch.weight[batch.index == i][0] for i in ids])
    assert np.allclose(weight * priority, priority.min())
    half = stream.buffer.sample(100, np.random.default_rng(1), images=False, by="priority", correction=0.5)
    assert half.weight.max() == 1


def test_new_rows_have_the_highest_priority_so_far() -> None:
    stream = make_stream(lanes=1, capacity=400, ends=0.0, rests=0.0, interrupts=0.0)
    stream.run(11)
    stream.buffer.prioritise(np.arange(10), np.full(10, 1e-3))
    stream.buffer.prioritise(np.array([3]), np.array([5.0]))
    stream.run(1)
    drawn = stream.buffer.sample(4000, np.random.default_rng(0), by="priority").index
    assert np.isin(drawn, [3, 10]).mean() > 0.99
    assert 0.45 < (drawn == 10).mean() < 0.55


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_refuses_priorities_that_are_none(wrong: float) -> None:
    stream = make_stream()
    stream.run(10)
    with pytest.raises(ValueError, match="priority"):
        stream.buffer.prioritise(np.array([0]), np.array([wrong]))


@given(seed=st.integers(0, 2**32 - 1), lanes=st.integers(1, 3), length=st.integers(1, 6), steps=st.integers(5, 50))
@settings(max_examples=30, deadline=None)
def test_chunks_and_futures_are_those_of_the_episode(seed: int, lanes: int, length: int, steps: int) -> None:
    stream, rng = make_stream(seed=seed, lanes=lanes, capacity=40), np.random.default_rng(seed)
    stream.run(steps)
    ids = np.array(sampleable(stream), int)
    chunks = stream.buffer.chunks(ids, length)
    reached, ahead = stream.buffer.futures(ids, rng, length)
    for row, i in enumerate(ids.tolist()):
        episode, t = stream.naive.rows[i]
        taken = episode.rows[t:-1][:length]
        assert chunks.mask[row].tolist() == [True] * len(taken) + [False] * (length - len(taken))
        assert chunks.index[row, : len(taken)].tolist() == [each["id"] for each in taken]
        assert np.array_equal(chunks.tokens[row, : len(taken)], [each["tokens"] for each in taken])
        assert np.allclose(chunks.reward[row, : len(taken)], [each["reward"] for each in taken])
        assert not chunks.reward[row, len(taken) :].any()
        assert 1 <= ahead[row] <= len(taken)
        assert episode.rows[t + ahead[row]]["id"] == reached[row]


def test_futures_are_uniform() -> None:
    stream = make_stream(lanes=1, capacity=400, ends=0.0, rests=0.0, interrupts=0.0)
    stream.run(20)
    reached, _ = stream.buffer.futures(np.full(8000, 14), np.random.default_rng(0), 50)
    assert np.allclose(np.bincount(reached - 15, minlength=5) / 8000, 0.2, atol=0.02)
    assert np.bincount(reached).size == 20


@given(seed=st.integers(0, 2**32 - 1), lanes=st.integers(1, 3), steps=st.integers(5, 50))
@settings(max_examples=30, deadline=None)
def test_returns_so_far_are_the_sums_of_what_was_observed(seed: int, lanes: int, steps: int) -> None:
    stream = make_stream(seed=seed, lanes=lanes, capacity=40, interrupts=0.1)
    stream.run(steps)
    ids = sampleable(stream)
    expected = []
    for i in ids:
        episode, t = stream.naive.rows[i]
        rewards = [row["reward"] for row in episode.rows[t:] if not row["final"]]
        expected.append(sum(stream.naive.gamma**j * reward for j, reward in enumerate(rewards)))
    assert np.allclose(stream.buffer.returns_so_far(np.array(ids, int)), expected, atol=1e-5)


@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    horizon=st.integers(1, 5),
    stack=st.integers(1, 2),
    images=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_hindsight_takes_goals_from_later_in_the_episode(
    seed: int, share: float, horizon: int, stack: int, images: bool
) -> None:
    stream, rng = make_stream(seed=seed, stack=stack, capacity=40), np.random.default_rng(seed)
    stream.run(30)
    ids = sampleable(stream)
    if not ids:
        return
    given_rows: list[int] = []

    def relabel(batch: Batch, later: dict[str, Any], steps: np.ndarray) -> Batch:
        given_rows.extend(batch.index.tolist())
        assert np.isnan(batch.returns).all()
        for row, (i, ahead) in enumerate(zip(batch.index.tolist(), steps.tolist(), strict=True)):
            episode, t = stream.naive.rows[i]
            assert 1 <= ahead <= min(horizon, len(episode.rows) - 1 - t)
            seen = stream.naive.seen(episode, t + ahead)
            assert later.keys() == batch.observation.keys()
            assert all(np.array_equal(later[key][row], seen[key]) for key in later)
        goals = [f"reach {state[0]}" for state in later[STATE]]
        observation, following = (each | {TASK: goals} for each in (batch.observation, batch.next_observation))
        reward = (steps <= stream.naive.n_step).astype(np.float32)
        return dataclasses.replace(batch, observation=observation, next_observation=following, reward=reward)

    plain = stream.buffer.sample(50, rng, images=images)
    wanted = plain.rows(slice(None))
    batch = Hindsight(relabel, share, horizon)(stream.buffer, plain, rng)
    changed = np.array([task.startswith("reach -") or task.split()[1][0].isdigit() for task in batch.observation[TASK]])
    assert batch.index[changed].tolist() == given_rows
    assert changed.all() if share == 1 else not changed.any() if share == 0 else True
    assert np.isin(batch.reward[changed], [0, 1]).all()
    assert [batch.next_observation[TASK][i] for i in np.flatnonzero(changed)] == [
        batch.observation[TASK][i] for i in np.flatnonzero(changed)
    ]
    kept = np.flatnonzero(~changed)
    if images and len(kept):
        assert_same(batch.rows(kept), stream.naive.transitions(batch.index[kept]))
    assert np.array_equal(batch.tokens, wanted.tokens)


def test_hindsight_refuses_what_is_out_of_range() -> None:
    with pytest.raises(ValueError, match="share"):
        Hindsight(lambda batch, later, steps: batch, share=1.5)
    stream = make_stream()
    stream.run(20)
    batch = stream.buffer.sample(5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="relabel got 5 rows, but returned 0"):
        Hindsight(lambda rows, later, steps: rows.rows(slice(0)), 1.0)(stream.buffer, batch, np.random.default_rng(0))


def test_a_share_of_ones_own_rows_are_successes_where_there_are_any() -> None:
    stream, rng = make_stream(capacity=200), np.random.default_rng(0)
    stream.run(60)
    lucky = {int(i) for i in stream.buffer.sampleable_ids(by="success")}
    assert lucky
    own = Own(success_share=0.5)
    batch = own.sample(stream.buffer, 40, rng, finished_only=False, images=False)
    assert {int(i) for i in batch.index[:20]} <= lucky
    assert not {int(i) for i in batch.index[20:]} <= lucky
    unlucky, no = ReplayBuffer(20, {}, state_dim=1, slots=1), np.zeros(1, bool)
    for _ in range(5):
        unlucky.add({STATE: np.zeros((1, 1)), TASK: ["go"]}, np.zeros((1, 1), int), np.zeros(1), no, no, no)
    assert len(own.sample(unlucky, 40, rng, finished_only=False, images=False)) == 40


def test_a_batch_is_mixed_of_demonstrations_and_rows_by_priority() -> None:
    online, demos, rng = make_stream(capacity=200), make_stream(capacity=200, seed=1), np.random.default_rng(0)
    online.run(60)
    demos.run(60)
    ids = online.buffer.sampleable_ids()
    online.buffer.prioritise(ids, np.where(ids == ids[3], 1.0, 1e-9))
    batch = sample_mixed(online.buffer, demos.buffer, 16, 0.25, rng, own=Own(by="priority", correction=1.0))
    assert (batch.index[4:] == ids[3]).all()
    assert np.isfinite(batch.weight).all()


def test_rows_with_other_goals_leave_priorities_as_they_are() -> None:
    """What they err with another goal says nothing of the rows as they were recorded."""

    def relabel(batch: Batch, later: dict[str, Any], steps: np.ndarray) -> Batch:
        return dataclasses.replace(batch, reward=np.full(len(batch), 77, np.float32))

    stream = make_stream(capacity=200)
    stream.run(60)
    given: list[int] = []
    own = Own(by="priority", success_share=0.25, hindsight=Hindsight(relabel, share=0.5))
    batch = own.sample(stream.buffer, 64, np.random.default_rng(0), images=False)
    batch.index = np.arange(64)
    learning = SimpleNamespace(
        own=own,
        progress=SimpleNamespace(updates=0),
        run=SimpleNamespace(replay=SimpleNamespace(priority=1.0)),
        replay=SimpleNamespace(prioritise=lambda ids, priority: given.extend(ids.tolist())),
        algorithm=SimpleNamespace(update=lambda batch: {}, priorities=lambda: torch.ones(64)),
    )
    TrainState.learn(learning, batch)  # type: ignore[arg-type]
    assert given == np.flatnonzero((batch.reward != 77) & ~batch.demo).tolist()
    assert 16 < len(given) < 64


def test_a_row_that_is_gone_does_not_raise_the_priority_of_new_ones() -> None:
    buffer = ReplayBuffer(20, {}, state_dim=1, slots=1)
    no = np.zeros(1, bool)
    for t in range(4):
        buffer.add({STATE: np.full((1, 1), t), TASK: ["go"]}, np.zeros((1, 1), int), np.zeros(1), no, no, no)
    buffer.prioritise(np.array([0, 77]), np.array([1.0, 1e6]))
    buffer.add({STATE: np.full((1, 1), 4), TASK: ["go"]}, np.zeros((1, 1), int), np.zeros(1), no, no, no)
    batch = buffer.sample(200, np.random.default_rng(0), by="priority")
    assert len(set(batch.index.tolist())) == 4
