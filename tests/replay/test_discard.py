"""Episodes that are taken out of replay again, as if they had never been."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rl.replay import ReplayBuffer
from vla_rl.specs import IMAGES, STATE, TASK

CAPACITY = 60


def add(buffer: ReplayBuffer, lanes: list[int], value: int, reward: float = 0.0, over: bool = False) -> None:
    """One row in each of these lanes; its state is `value`, after the end of an episode a final one."""
    count, final = len(lanes), np.array([buffer._ring._phase[lane] == 2 for lane in lanes])
    buffer.add(
        {
            IMAGES + "front": np.full((count, 4, 4, 3), value, np.uint8),
            STATE: np.full((count, 1), value),
            TASK: [f"go to {value}"] * count,
        },
        tokens=np.zeros((count, 1), np.int64),
        reward=np.full(count, reward),
        terminated=np.zeros(count, bool),
        truncated=np.full(count, over),
        final=final,
        lanes=lanes,
    )


def make(**kwargs: Any) -> ReplayBuffer:
    """Two lanes, of which the second is discarded: its rows are 100 and more."""
    buffer = ReplayBuffer(CAPACITY, {"front": (4, 4, 3)}, 1, 1, lanes=2, n_step=3, stack=2, **kwargs)
    for by in ("success", "priority"):
        buffer.can_sample(by=by)  # from now on it keeps count
    for t in range(5):
        add(buffer, [0], t, reward=1.0, over=t == 3)
        add(buffer, [1], 100 + t, reward=1.0)
    return buffer


def check(buffer: ReplayBuffer) -> None:
    """Nothing of the discarded episode is ever drawn, reached or listed."""
    rng = np.random.default_rng(0)
    for by in ("uniform", "success", "priority"):
        batch = buffer.sample(200, rng, by=by)
        assert batch.observation[STATE].max() < 100
        assert batch.next_observation[STATE].max() < 100
        assert set(batch.next_observation[TASK]) <= {f"go to {i}" for i in range(50)}
    ids = buffer.sampleable_ids()
    assert buffer.observations(buffer.futures(ids, rng, 50)[0])[STATE].max() < 100
    assert all(buffer.observations(ids)[STATE].max() < 100 for ids in buffer.episodes())


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("coded", [False, True])
def test_a_discarded_episode_is_gone_and_the_next_one_is_whole(ended: bool, coded: bool, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"ram_bytes": 10_000} if coded else {}
    buffer = make(**limits)
    if ended:
        add(buffer, [1], 110, reward=1.0, over=True)
    before = len(buffer)
    buffer.discard([1])
    assert len(buffer) == before - (6 if ended else 5)
    check(buffer)
    for t in range(4):
        add(buffer, [1], 20 + t, over=t == 2)
    check(buffer)
    assert [buffer.observations(ids)[STATE][:, -1].tolist() for ids in buffer.episodes()] == [
        [0, 1, 2, 3, 4],
        [20, 21, 22, 23],
    ]
    buffer.save(tmp_path / "saved")
    again = ReplayBuffer.of_saved(tmp_path / "saved")
    check(again)
    assert again.sampleable_ids().tolist() == buffer.sampleable_ids().tolist()
    for t in range(3 * CAPACITY):  # over its place, too
        add(buffer, [0, 1], t % 50, over=t % 7 == 5, reward=1.0)
    check(buffer)


def test_an_episode_that_is_forgotten_piece_by_piece_is_discarded_whole() -> None:
    buffer = ReplayBuffer(CAPACITY, {"front": (4, 4, 3)}, 1, 1, lanes=2)
    for t in range(4 * CAPACITY):
        add(buffer, [1], 100 + t % 50)
    buffer.discard([1])
    assert len(buffer) == 0
    buffer.discard()  # nothing there
    assert not buffer.can_sample()
    assert buffer.frames == {IMAGES + "front": 0}


def test_lanes_between_episodes_have_nothing_to_discard() -> None:
    buffer = make()
    buffer.discard([0])
    assert len(buffer) == 10
