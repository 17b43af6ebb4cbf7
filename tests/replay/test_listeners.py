"""What hears of an episode when it has ended, what it adds to the rows, and what it has forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rl.replay import EndedEpisode, EpisodeListener, ReplayBuffer
from vla_rl.rewards.steps_left import StepsLeft
from vla_rl.rollout.task_statistics import TaskStatistics
from vla_rl.specs import SIGNALS, STATE, Signal


class Ear(EpisodeListener):
    """Remembers what it has heard, forgets episodes whose first token is 3, and tells what came before each reward."""

    def __init__(self) -> None:
        self.heard: list[EndedEpisode] = []

    @property
    def columns(self) -> Sequence[Signal]:
        return (Signal("before", shape=(2,)),)

    def on_episode(self, episode: EndedEpisode) -> Mapping[str, Any] | None:
        self.heard.append(episode)
        if episode.tokens[0, 0] == 3:
            return None
        before = np.cumsum(episode.reward) - episode.reward
        return {"before": np.stack([before, -before], axis=1)}


def remembering(listeners: Sequence[EpisodeListener], capacity: int = 200, lanes: int = 2) -> ReplayBuffer:
    images = {"front": (2, 2, 3)}
    return ReplayBuffer(
        capacity, images, 1, slots=1, lanes=lanes, choices=5, signals=SIGNALS, listeners=listeners, n_step=2
    )


def add(replay: ReplayBuffer, lane: int, token: int, reward: float = 0.0, **flags: Any) -> int:
    """One row of one lane; its id."""
    told = {name: np.array([flags.get(name, False)]) for name in ("terminated", "truncated", "final")}
    signals = {name: np.array([value]) for name, value in flags.items() if name not in told and name != "demo"}
    observation = {
        "observation.images.front": np.full((1, 2, 2, 3), replay.added % 256, np.uint8),
        STATE: np.full((1, 1), replay.added, np.float32),
        "task": ["go"],
    }
    demo = flags.get("demo", False)
    rows = replay.add(observation, [[token]], [reward], **told, lanes=[lane], signals=signals, demo=demo)  # type: ignore[arg-type]
    return int(rows[0])


def episode(replay: ReplayBuffer, lane: int, rewards: Sequence[float], token: int = 0, **flags: Any) -> list[int]:
    """An episode with these rewards that ends by itself; the ids of its decisions."""
    last = len(rewards) - 1
    ids = [add(replay, lane, token, reward, terminated=i == last, **flags) for i, reward in enumerate(rewards)]
    add(replay, lane, 0, final=True)
    return ids


def test_an_episode_is_heard_of_once_with_all_of_its_decisions() -> None:
    ear = Ear()
    replay = remembering([ear])
    first = [add(replay, 0, 1, 0.5, cost=2.0)]
    other = episode(replay, 1, [0, 0, 1], verified=True)  # in between
    assert [each.ids.tolist() for each in ear.heard] == [other]
    first.append(add(replay, 0, 2, 0.25, truncated=True))
    one, two = ear.heard
    assert two.ids.tolist() == first
    assert (one.whole, one.terminated, one.demo) == (True, True, False)
    assert (two.whole, two.terminated, two.demo) == (True, False, False)
    assert two.tokens.tolist() == [[1], [2]]
    assert two.reward.tolist() == [0.5, 0.25]
    assert two.signals["cost"].tolist() == [2, 0]
    assert one.signals["verified"].tolist() == [True] * 3


def test_what_is_worked_out_lies_in_a_column_of_batches() -> None:
    replay = remembering([Ear(), StepsLeft()])
    ids = episode(replay, 0, [1, 2, 4])
    running = [add(replay, 1, 1, 8.0), add(replay, 1, 1, 8.0)]
    batch = replay.transitions(np.array([*ids, running[0]]))
    assert batch.extra["before"].tolist() == [[0, 0], [1, -1], [3, -3], [0, 0]]
    assert batch.extra["steps_left"].tolist() == [2, 1, 0, 0]  # nothing is known of a running one


def test_an_episode_can_be_forgotten_and_the_lane_goes_on() -> None:
    replay = remembering([Ear()])
    kept = episode(replay, 1, [0, 1])
    before = len(replay)
    episode(replay, 0, [0, 1, 1], token=3)
    assert len(replay) == before + 1  # its last observation, which nothing leads to
    assert sorted(replay.sampleable_ids()) == kept
    assert replay.sampleable_ids(by="success").tolist() == kept
    after = episode(replay, 0, [1, 1])
    assert sorted(replay.sampleable_ids()) == sorted(kept + after)
    assert [each.tolist()[:-1] for each in replay.episodes()] == [kept, after]


def test_all_of_it_is_worked_out_anew_from_what_is_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ear = Ear()
    replay = remembering([ear], capacity=60)
    for number in range(30):
        episode(replay, number % 2, rng.random(rng.integers(1, 6)).tolist(), token=int(rng.integers(4)))
    add(replay, 0, 1)
    replay.save(tmp_path)
    again = Ear()
    loaded = remembering([again, StepsLeft()], capacity=60)
    loaded.load(tmp_path)
    ids = replay.sampleable_ids()
    assert loaded.sampleable_ids().tolist() == ids.tolist()
    assert np.array_equal(loaded.transitions(ids).extra["before"], replay.transitions(ids).extra["before"])
    known = {int(each.ids[0]): each.reward.tolist() for each in ear.heard}
    assert [each.reward.tolist() for each in again.heard if each.whole] == [
        known[int(each.ids[0])] for each in again.heard if each.whole
    ]
    assert len(again.heard) > 5
    bare = remembering([], capacity=60)
    bare.load(tmp_path)  # listeners come and go
    assert bare.transitions(ids).extra.keys() == {each.name for each in SIGNALS}


def test_slots_that_are_used_again_begin_at_0() -> None:
    replay = remembering([Ear()], capacity=20)
    for _ in range(12):
        episode(replay, 0, [1, 1, 1])
    first, second = add(replay, 0, 1), add(replay, 0, 1)
    assert second == first + 1
    assert replay.transitions(np.array([first])).extra["before"].tolist() == [[0, 0]]


def test_a_column_of_another_shape_is_an_error() -> None:
    class Deaf(Ear):
        def on_episode(self, episode: EndedEpisode) -> Mapping[str, Any]:
            return {"before": np.zeros(len(episode))}

    with pytest.raises(ValueError, match=r"Deaf.on_episode: expected before \[2, 2\], got \[2\]"):
        episode(remembering([Deaf()]), 0, [0, 1])
    with pytest.raises(ValueError, match="Ear: has columns"):
        remembering([]).listen(Ear())


def test_success_and_cost_are_told_of_each_task_and_outlive_a_restart(tmp_path: Path) -> None:
    def made() -> tuple[ReplayBuffer, TaskStatistics]:
        replay, found = remembering([]), TaskStatistics(["reach", "push", "pick"], recent=3)
        replay.listen(found)
        return replay, found

    replay, found = made()
    assert np.isnan(found.success_rate)
    for won in (True, True, False, False):  # the first one is beyond the latest three
        episode(replay, 0, [0, 1], task=0, verified=won, cost=1.5)
    episode(replay, 1, [1], task=1, verified=True)
    episode(replay, 1, [1], task=1, verified=True, demo=True)  # which says nothing of the policy
    expected = {
        "train/success_rate": pytest.approx(1 / 3),
        "train/cost": pytest.approx(2.0),
        "train/costly": pytest.approx(2 / 3),
        "train/success_rate/reach": pytest.approx(1 / 3),
        "train/success_rate/push": 1.0,
    }
    assert found.statistics() == replay.statistics() == expected
    replay.save(tmp_path)
    again, found = made()
    again.load(tmp_path)
    assert found.statistics() == expected
