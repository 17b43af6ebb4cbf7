"""What our rivals remember and draw: returns of several steps as a naive walk through the episodes has them."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.agents.course import NUMBERS, PIXELS, Transitions
from scripts.agents.experience import Experience

GAMMA = 0.9


def episodes(count: int, seed: int = 0) -> list[Transitions]:
    """Of random lengths and rewards; every observation has a number of its own; every second one terminates."""
    rng = np.random.default_rng(seed)
    made, first = [], 0
    for i in range(count):
        length = int(rng.integers(1, 7))
        names = np.arange(first, first + length + 1)
        first += length + 1
        seen = {PIXELS: np.repeat(names[:, None, None, None], 2, 2).astype(np.uint8), NUMBERS: names[:, None] * 1.0}
        terminated = np.zeros(length, bool)
        terminated[-1] = i % 2 == 0
        reward = rng.normal(size=length).astype(np.float32)
        made.append(Transitions(seen, rng.normal(size=(length, 2)).astype(np.float32), reward, terminated))
    return made


def naive(found: list[Transitions], name: int, n_step: int) -> tuple[float, float, int]:
    """The return from the observation `name`, its discount, and the observation that follows."""
    for episode in found:
        names = episode.seen[NUMBERS][:, 0].astype(int).tolist()
        if name in names[:-1]:
            begin = names.index(name)
            end = min(begin + n_step, len(episode))
            total = sum(GAMMA**i * float(episode.reward[step]) for i, step in enumerate(range(begin, end)))
            return total, 0.0 if episode.terminated[begin:end].any() else GAMMA ** (end - begin), names[end]
    raise AssertionError(f"no step begins at {name}")


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("capacity", [200, 30])
def test_what_is_drawn_is_what_happened(n_step: int, capacity: int) -> None:
    found = episodes(20)
    memory = Experience(capacity, GAMMA, n_step, seed=1)
    memory.extend(found)
    batch = memory.sample(400)
    begun = batch.seen[NUMBERS][:, 0].long().tolist()
    for row, name in enumerate(begun):
        reward, discount, following = naive(found, name, n_step)
        assert batch.reward[row].item() == pytest.approx(reward, abs=1e-5)
        assert batch.discount[row].item() == pytest.approx(discount)
        assert batch.following[NUMBERS][row, 0].item() == following
    steps = sum(map(len, found))
    assert len(set(begun)) >= (steps if capacity == 200 else 20) * 0.95


def test_an_episode_under_way_counts_as_far_as_it_went() -> None:
    memory = Experience(10, GAMMA, n_step=3, seed=0)
    for name in range(4):
        memory.begin({NUMBERS: np.array([float(name)])}, np.zeros(1, np.float32), 1.0, False)
    batch = memory.sample(50)
    begun = batch.seen[NUMBERS][:, 0].tolist()
    assert set(begun) == {0.0, 1.0, 2.0}  # of the last one, nobody knows what follows
    assert {batch.following[NUMBERS][row, 0].item() for row in range(50)} == {3.0}
    for row, name in enumerate(begun):
        assert batch.discount[row].item() == pytest.approx(GAMMA ** (3 - name))


def test_batches_join() -> None:
    memory = Experience(100, GAMMA, 1, seed=0)
    memory.extend(episodes(5))
    one, other = memory.sample(3), memory.sample(5)
    both = one.join(other)
    assert both.action.shape == (8, 2)
    assert both.seen[PIXELS].shape[0] == both.following[NUMBERS].shape[0] == 8
    assert both.reward.tolist() == [*one.reward.tolist(), *other.reward.tolist()]
