"""Cached features are those of one backbone: bit by bit what was cached, and made anew for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rl.replay import Batch, ReplayBuffer
from vla_rl.specs import STATE, TASK

FRONT = "observation.images.front"
SPECS = {"mean": ((2,), "float32")}


def make(digest: str = "one", cached: bool = True, stack: int = 1) -> ReplayBuffer:
    return ReplayBuffer(
        30, {"front": (4, 4, 3)}, 2, 1, SPECS if cached else {}, digest if cached else "", n_step=2, stack=stack
    )


def ground(scale: float):
    """A backbone: the mean of the newest picture, and the instruction's length, times `scale`."""

    def features(seen: dict[str, Any]) -> dict[str, np.ndarray]:
        pictures = seen[FRONT] if seen[FRONT].ndim == 4 else seen[FRONT][:, -1]
        mean = pictures.mean((1, 2, 3))
        length = [len(text) for text in seen[TASK]]
        return {"mean": (scale * np.stack([mean, length], 1)).astype(np.float32)}

    return features


def play(buffer: ReplayBuffer, steps: int, scale: float, seed: int = 0) -> None:
    """Episodes of five decisions, some of whose pictures are the same."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (3, 4, 4, 3), np.uint8)
    for step in range(steps):
        final = step % 6 == 5
        seen = {
            FRONT: pictures[rng.integers(3)][None],
            STATE: rng.normal(size=(1, 2)).astype(np.float32),
            TASK: ["go" if step % 12 < 6 else "stay there"],
        }
        buffer.add(
            seen,
            np.zeros((1, 1), np.int64),
            np.ones(1, np.float32),
            np.array([step % 6 == 4]),
            np.zeros(1, bool),
            np.array([final]),
            features=ground(scale)(seen) if buffer.caches else None,
        )


def every(buffer: ReplayBuffer) -> Batch:
    return buffer.transitions(buffer.sampleable_ids())


def assert_of(buffer: ReplayBuffer, scale: float) -> None:
    batch = every(buffer)
    assert len(batch) > 10
    for cached, seen in ((batch.features, batch.observation), (batch.next_features, batch.next_observation)):
        np.testing.assert_array_equal(cached["mean"], ground(scale)(seen)["mean"])


@pytest.mark.parametrize("stack", [1, 3])
def test_another_digest_makes_them_anew_and_the_next_checkpoint_holds_them(tmp_path: Path, stack: int) -> None:
    first = make(stack=stack)
    play(first, 50, scale=1.0)  # past the capacity
    assert_of(first, 1.0)
    first.save(tmp_path / "first")

    same = make(stack=stack)
    assert not same.load(tmp_path / "first")
    assert_of(same, 1.0)

    other = make("other", stack=stack)
    with pytest.raises(ValueError, match="of digest one, this replay's of other"):
        other.load(tmp_path / "first")
    assert len(other) == 0
    assert other.load(tmp_path / "first", ground(2.0))
    assert_of(other, 2.0)
    play(other, 10, scale=2.0, seed=1)
    other.save(tmp_path / "second", [tmp_path / "first"])
    again = make("other", stack=stack)
    assert not again.load(tmp_path / "second")
    assert_of(again, 2.0)


def test_a_replay_with_a_cache_takes_on_one_without_and_the_other_way_round(tmp_path: Path) -> None:
    plain = make(cached=False)
    play(plain, 40, scale=1.0)
    plain.save(tmp_path / "plain")
    cached = make()
    assert cached.load(tmp_path / "plain", ground(1.0))
    assert_of(cached, 1.0)
    cached.save(tmp_path / "cached", [tmp_path / "plain"])
    assert not make(cached=False).load(tmp_path / "cached")


def test_renewing_for_the_same_digest_does_nothing() -> None:
    buffer = make()
    play(buffer, 20, scale=1.0)
    assert not buffer.renew(ground(2.0), "one")
    assert_of(buffer, 1.0)
    assert buffer.renew(ground(2.0), "two")
    assert_of(buffer, 2.0)


@pytest.mark.parametrize("stack", [1, 2])
def test_equal_numbers_mean_the_same_frames_and_instruction(stack: int) -> None:
    buffers = [make(cached=False, stack=stack), make(cached=False, stack=stack)]
    for seed, buffer in enumerate(buffers):
        play(buffer, 30, scale=1.0, seed=seed)
    batch = Batch.concatenate([every(buffer) for buffer in buffers])
    assert batch.shown is not None
    seen: dict[tuple, tuple] = {}
    for column, observation in enumerate((batch.observation, batch.next_observation)):
        for row, numbers in enumerate(batch.shown[:, column].tolist()):
            what = (observation[FRONT][row].tobytes(), observation[TASK][row])
            assert seen.setdefault(tuple(numbers), what) == what
    assert len(seen) < 2 * len(batch)
    assert every(buffers[0]).rows(slice(3)).shown is not None
    assert buffers[0].transitions(buffers[0].sampleable_ids(), images=False).shown is None
