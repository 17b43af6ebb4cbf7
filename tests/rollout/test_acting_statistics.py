"""Which episodes count for a way of acting."""

import numpy as np

from vla_rl.replay import EndedEpisode
from vla_rl.rollout.acting_statistics import ActingStatistics
from vla_rl.specs import ACTING, BY_CRITIC, EPISODE_TASK, GREEDY, SAMPLED, VERIFIED


def episode(*ways: int, won: bool = True, task: int = 0, demo: bool = False) -> EndedEpisode:
    steps = len(ways)
    signals = {
        ACTING: np.array(ways, np.int8),
        VERIFIED: np.array([False] * (steps - 1) + [won]),
        EPISODE_TASK: np.full(steps, task, np.int32),
    }
    ids, reward = np.arange(steps), np.zeros(steps, np.float32)
    return EndedEpisode(ids, True, demo, True, np.zeros((steps, 1), np.int64), reward, signals)


def test_episodes_are_counted_by_task_and_way() -> None:
    statistics = ActingStatistics(tasks=2)
    for each in (
        episode(GREEDY, GREEDY),
        episode(GREEDY, won=False),
        episode(BY_CRITIC, BY_CRITIC, BY_CRITIC, task=1),
        episode(SAMPLED, BY_CRITIC),  # the critic was found fit to act within it
        episode(0, 0),  # nobody told
        episode(GREEDY, demo=True),
    ):
        assert statistics.on_episode(each) == {}
    expected = np.zeros((2, 4, 2), np.int64)
    expected[0, GREEDY], expected[1, BY_CRITIC] = (1, 2), (1, 1)
    assert np.array_equal(statistics.counts, expected)


def test_only_the_latest_of_all_ways_count() -> None:
    statistics = ActingStatistics(recent=4)
    for each in [episode(GREEDY)] * 5 + [episode(BY_CRITIC, won=False)] * 3:
        statistics.on_episode(each)
    assert statistics.counts[0, GREEDY].tolist() == [1, 1]
    assert statistics.counts[0, BY_CRITIC].tolist() == [0, 3]


def test_a_replay_that_keeps_no_ways_counts_nothing() -> None:
    untold = episode(GREEDY)
    del untold.signals[ACTING]
    statistics = ActingStatistics()
    statistics.on_episode(untold)
    assert not statistics.counts.any()
