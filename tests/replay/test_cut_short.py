"""Episodes that a limit of steps cut short: what replay tells of their returns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rl.replay import Batch, Hindsight, Own, ReplayBuffer, sample_mixed
from vla_rl.specs import IMAGES, STATE, TASK

GAMMA = 0.5
LENGTH = 5  # rows of an episode, the final one included


def make(truncation: str = "bootstrap", rows: int = 3 * LENGTH, **kwargs: Any) -> ReplayBuffer:
    """Episodes that are cut short, terminate, and are cut short, with reward 1 at each decision; a state is its id."""
    buffer = ReplayBuffer(40, {"front": (4, 4, 3)}, 1, 1, gamma=GAMMA, n_step=2, truncation=truncation, **kwargs)
    for t in range(rows):
        episode, place = divmod(t, LENGTH)
        over = place == LENGTH - 2
        buffer.add(
            {IMAGES + "front": np.full((1, 4, 4, 3), t, np.uint8), STATE: np.full((1, 1), t), TASK: ["go"]},
            tokens=np.array([[t]]),
            reward=np.ones(1),
            terminated=np.array([over and episode == 1]),
            truncated=np.array([over and episode != 1]),
            final=np.array([place == LENGTH - 1]),
        )
    return buffer


def to_end(buffer: ReplayBuffer, **kwargs: Any) -> Batch:
    return buffer.sample(60, np.random.default_rng(0), finished_only=True, to_end=1.0, **kwargs)


def cut(index: np.ndarray) -> np.ndarray:
    return index // LENGTH != 1


def test_replay_tells_whose_returns_are_cut_short() -> None:
    batch = to_end(make())
    left = LENGTH - 1 - batch.index % LENGTH
    np.testing.assert_allclose(batch.rest, np.where(cut(batch.index), GAMMA**left, 0))
    np.testing.assert_allclose(batch.returns, 2 - 2 * GAMMA**left)


def test_a_return_that_is_cut_short_goes_on_at_the_episodes_last_observation() -> None:
    batch = to_end(make(), following="cut")
    assert batch.followed is not None
    assert set(np.flatnonzero(cut(batch.index))) <= set(np.flatnonzero(batch.followed))
    wanted = batch.followed & cut(batch.index)
    state = np.full(len(batch), np.nan)
    state[batch.followed] = batch.next_observation[STATE][:, 0]
    np.testing.assert_array_equal(state[wanted], batch.index[wanted] // LENGTH * LENGTH + LENGTH - 1)
    np.testing.assert_allclose(batch.reward[wanted], batch.returns[wanted])
    np.testing.assert_allclose(batch.discount[wanted], batch.rest[wanted])
    assert {len(value) for value in batch.next_observation.values()} == {batch.followed.sum()}


def test_only_rows_that_were_cut_short_have_their_next_observations_fetched() -> None:
    terminated = make(rows=2 * LENGTH)
    batch = terminated.transitions(np.arange(LENGTH, 2 * LENGTH - 1), following="cut")
    assert batch.followed is not None
    assert not batch.followed.any()
    assert batch.next_observation[STATE].shape == (0, 1)
    complete = to_end(make("fail"), following="cut")
    assert complete.followed is not None
    assert not complete.followed.any()


def test_few_different_numbers_of_rows_are_followed() -> None:
    """Each size that batches have keeps memory of its own."""
    rng, buffer = np.random.default_rng(0), make()
    batches = [buffer.sample(40, rng, finished_only=True, following="cut") for _ in range(50)]
    assert {len(batch.next_observation[STATE]) % 5 for batch in batches} == {0}


def test_an_end_that_is_not_recorded_yet_is_not_waited_for() -> None:
    buffer = make(rows=LENGTH - 1)
    batch = to_end(buffer)
    assert batch.rest.all()
    np.testing.assert_array_equal(batch.next_observation[STATE][:, 0], np.minimum(batch.index + 2, LENGTH - 2))
    np.testing.assert_allclose(batch.discount, GAMMA ** np.minimum(2, LENGTH - 2 - batch.index))


def test_a_share_of_the_rows_leads_to_the_end() -> None:
    batch = make().sample(400, np.random.default_rng(0), finished_only=True, to_end=0.5)
    steps = batch.next_observation[STATE][:, 0] - batch.index
    early = cut(batch.index) & (batch.index % LENGTH == 0)
    assert 0.3 < (steps[early] == LENGTH - 1).mean() < 0.7
    assert (steps[~cut(batch.index)] <= 2).all()


def test_returns_that_are_dropped_are_not_known() -> None:
    buffer = make("drop")
    assert set(to_end(buffer).index // LENGTH) == {1}
    assert np.isnan(buffer.transitions(np.arange(LENGTH - 1)).returns).all()
    everything = buffer.sample(100, np.random.default_rng(0))
    assert set(everything.index // LENGTH) == {0, 1, 2}


@pytest.mark.parametrize("truncation", ["bootstrap", "fail", "drop"])
def test_what_is_cut_short_is_still_so_after_a_reload(truncation: str, tmp_path: Path) -> None:
    make("fail").save(tmp_path)
    again = make(truncation, rows=0)
    again.load(tmp_path)
    ids = again.sampleable_ids()
    for name in ("rest", "returns"):
        kept = getattr(make(truncation).transitions(ids), name)
        np.testing.assert_array_equal(getattr(again.transitions(ids), name), kept)
    np.testing.assert_array_equal(
        to_end(again).next_observation[STATE], to_end(make(truncation)).next_observation[STATE]
    )


def test_a_replay_of_before_is_loaded(tmp_path: Path) -> None:
    make().save(tmp_path)
    state = json.loads((tmp_path / "replay.json").read_text())
    for name in ("rest", "last"):
        del state["settings"]["columns"][name]
    (tmp_path / "replay.json").write_text(json.dumps(state))
    again = make(rows=0)
    again.load(tmp_path)
    assert to_end(again).rest.any()


def test_batches_of_some_next_observations_can_be_picked_joined_and_changed() -> None:
    own, demos = make(), make("fail")
    rng = np.random.default_rng(1)
    mixed = sample_mixed(own, demos, 32, 0.25, rng, finished_only=True, following="cut", to_end=1.0)
    assert mixed.followed is not None
    assert mixed.followed.sum() == len(mixed.next_observation[STATE])
    index = rng.permutation(32)[:20]
    picked = mixed.rows(index)
    assert picked.followed is not None
    state = np.full(32, np.nan)
    state[mixed.followed] = mixed.next_observation[STATE][:, 0]
    np.testing.assert_array_equal(picked.next_observation[STATE][:, 0], state[index][picked.followed])
    changed = picked.rows(slice(None))
    changed.next_observation = {**changed.next_observation, STATE: -changed.next_observation[STATE].copy()}
    mixed.put(index, changed)
    state[index] *= -1
    np.testing.assert_array_equal(mixed.next_observation[STATE][:, 0], state[mixed.followed])


def test_rows_with_other_goals_lead_as_far_as_their_steps() -> None:
    def relabel(batch: Batch, later: dict[str, Any], steps: np.ndarray) -> Batch:
        np.testing.assert_array_equal(
            batch.next_observation[STATE][:, 0] - batch.index, np.round(np.log(batch.discount) / np.log(GAMMA))
        )
        return batch

    own = Own(hindsight=Hindsight(relabel, share=1.0))
    own.sample(make(), 64, np.random.default_rng(0), to_end=1.0)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="truncation: expected one of bootstrap, fail, drop, got 'forget'"):
        make("forget")
