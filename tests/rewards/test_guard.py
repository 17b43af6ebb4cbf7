"""Who is paid for what is not done: the gap and its interval, the alarm, and what it does to replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.replay.test_listeners import add, episode, remembering
from vla_rl import config, train
from vla_rl.registry import ConfigError
from vla_rl.replay import ReplayBuffer
from vla_rl.rewards.gap import HackGap, share_paid
from vla_rl.rewards.guard import GamedError, RewardGuard
from vla_rl.rewards.verified import VerifiedReward


def play(replay: ReplayBuffer, paid: bool, done: bool, **flags: Any) -> list[int]:
    """An episode of three decisions that is paid at its end, and verified at its end."""
    ids = [add(replay, 0, 0, 0.0, **flags), add(replay, 0, 0, 0.0, **flags)]
    ids.append(add(replay, 0, 0, float(paid), terminated=True, verified=done, **flags))
    add(replay, 0, 0, final=True)
    return ids


def test_the_gap_is_the_difference_of_the_means_and_its_interval_holds_the_truth() -> None:
    assert HackGap.of([1.0, 1.0, 0.0, 0.5], [True, False, False, True]).points == pytest.approx(12.5)
    assert share_paid(np.array([0.25, 0.5]), 1.5) == 0.5
    assert share_paid(np.array([9.0, -1.0])) == 1.0
    rng = np.random.default_rng(0)
    # (paid and done, paid alone, done alone, neither)
    for chances in ([0.5, 0.2, 0.0, 0.3], [0.6, 0.05, 0.05, 0.3], [0.3, 0.0, 0.0, 0.7]):
        truth, held = 100 * (chances[1] - chances[2]), 0
        for _ in range(2000):
            ways = rng.choice(4, 40, p=chances)
            low, high = HackGap.of((ways <= 1).tolist(), ((ways == 0) | (ways == 2)).tolist()).interval
            held += low <= truth <= high
        assert held / 2000 >= 0.94, chances
    assert HackGap(0.0, 0.0, 0).interval[0] < 0 < HackGap(0.0, 0.0, 0).interval[1]


def test_an_honest_task_never_gives_an_alarm() -> None:
    guard = RewardGuard(share=1.0, least=1)
    replay, rng = remembering([guard], capacity=6000), np.random.default_rng(0)
    for _ in range(1000):
        done = rng.random() < 0.4
        play(replay, done, done)
    assert not guard.said
    assert guard.statistics()["guard/gap"] == 0
    assert guard.audits == 1000


def test_what_is_paid_and_not_done_gives_an_alarm_that_says_how_much() -> None:
    guard = RewardGuard(share=1.0, price=0.5)
    replay = remembering([guard], capacity=2000)
    for number in range(60):
        play(replay, paid=number % 2 == 0, done=number % 2 == 0)
    for _ in range(60):
        play(replay, paid=True, done=False)
        if guard.said:
            break
    assert "more is paid than is done: +" in guard.said
    assert "what is paid went from 50% to" in guard.said
    told = guard.statistics()
    assert told["guard/gap_low"] > 0
    assert told["guard/alarm"] == 1
    assert told["guard/spent"] == 0.5 * told["guard/audits"]


def test_no_alarm_where_less_is_paid_than_at_first() -> None:
    guard = RewardGuard(share=1.0, recent=20)
    replay = remembering([guard], capacity=2000)
    for _ in range(20):
        play(replay, paid=True, done=True)
    for _ in range(20):
        play(replay, paid=True, done=False)
        play(replay, paid=False, done=False)
        play(replay, paid=False, done=False)
    assert not guard.said


def test_a_share_is_audited_and_the_same_one_after_a_restart(tmp_path: Path) -> None:
    guard = RewardGuard(share=0.2, then="quarantine")
    replay = remembering([guard], capacity=2000)
    for number in range(200):
        play(replay, paid=True, done=number % 3 > 0)
    assert guard.audits - guard.quarantined >= 20  # drawn, beside those that were audited because of the alarm
    replay.save(tmp_path)
    again = RewardGuard(share=0.2, then="quarantine")
    loaded = remembering([again], capacity=2000)
    loaded.load(tmp_path)
    assert again.statistics() == guard.statistics()
    assert again.said == guard.said != ""
    ids = replay.sampleable_ids()
    assert np.array_equal(loaded.transitions(ids).returns, replay.transitions(ids).returns)


def test_quarantine_takes_back_what_was_paid_before_and_after_the_alarm() -> None:
    guard = RewardGuard(share=0.5, then="quarantine")
    replay = remembering([guard], capacity=3000)
    honest = [play(replay, paid=True, done=True) for _ in range(10)]
    early = [play(replay, paid=True, done=False) for _ in range(40)]
    assert guard.alarm
    late = [play(replay, paid=True, done=False) for _ in range(5)]
    shown = play(replay, paid=True, done=False, demo=True)  # who demonstrates is trusted
    for ids in early + late:
        batch = replay.transitions(np.array(ids))
        assert batch.returns.tolist() == [0, 0, 0]
        assert batch.reward.tolist() == [0, 0, 0]  # of two steps
    for ids in [*honest, shown]:
        np.testing.assert_allclose(replay.transitions(np.array(ids)).returns, [0.97**2, 0.97, 1], rtol=1e-6)
    wins = {row for ids in [*honest, shown] for row in ids}
    assert set(replay.sampleable_ids(by="success").tolist()) == wins
    late_win = play(replay, paid=True, done=True)
    assert set(replay.sampleable_ids(by="success").tolist()) == wins | set(late_win)
    assert guard.quarantined == 45
    assert guard.audits == 56  # all that were paid
    assert replay.recorded(np.array(early[0]))["reward"].tolist() == [0, 0, 1]  # what was paid stays beside it


def test_a_guard_that_only_looks_changes_nothing() -> None:
    alone, watched = remembering([], capacity=600), remembering([RewardGuard(share=1.0)], capacity=600)
    for replay in (alone, watched):
        for number in range(40):
            play(replay, paid=number % 2 == 0, done=False)
    ids = alone.sampleable_ids()
    one, two = alone.transitions(ids), watched.transitions(ids)
    assert np.array_equal(one.returns, two.returns)
    assert np.array_equal(one.reward, two.reward)
    assert "reward" not in two.extra


def test_what_is_verified_counts_instead_of_what_was_paid() -> None:
    replay = remembering([VerifiedReward(full=2.0)])
    gamed, won = play(replay, paid=True, done=False), play(replay, paid=False, done=True)
    assert replay.transitions(np.array(gamed)).returns.tolist() == [0, 0, 0]
    np.testing.assert_allclose(replay.transitions(np.array(won)).returns, [2 * 0.97**2, 2 * 0.97, 2], rtol=1e-6)
    running = add(replay, 1, 0, 1.0)
    add(replay, 1, 0, 1.0)
    assert replay.transitions(np.array([running])).reward.tolist() == [1.0]  # nothing is verified yet
    assert episode(replay, 0, [1.0])  # and the lane goes on


def test_a_run_that_is_to_stop_does_so_with_a_checkpoint(line: list[str], tmp_path: Path) -> None:
    guarded = [*line, "env.id=fake/Gamed-v0", "plugins=[tests.fakes]", "train.steps=400"]
    guard = "replay.on_episode=[{type: reward_guard, share: 1.0, then: stop}]"
    with pytest.raises(GamedError, match=r"more is paid than is done[^;]*; the run ends here") as caught:
        train.train(config.load([*guarded, guard]))
    assert any("a checkpoint of step" in note for note in caught.value.__notes__)
    assert (tmp_path / "run" / "checkpoints" / "last").exists()


def test_an_alarm_is_said_once_and_logged(line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guarded = [*line, "env.id=fake/Gamed-v0", "plugins=[tests.fakes]", "train.steps=400", "train.log_every=50"]
    train.train(config.load([*guarded, "replay.on_episode=[{type: reward_guard, share: 1.0, then: quarantine}]"]))
    assert capsys.readouterr().out.count("reward guard: more is paid than is done") == 1
    lines = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["guard/alarm"] == 1
    assert lines[-1]["guard/quarantined"] > 0


def test_two_that_say_what_rewards_count_for_are_refused(line: list[str]) -> None:
    both = "replay.on_episode=[{type: reward_guard, then: quarantine}, {type: verified_reward}]"
    with pytest.raises(ConfigError, match=r"replay\.on_episode, algorithm\.credit: 'reward' is a column already"):
        train.train(config.load([*line, both]))
    with pytest.raises(ConfigError, match=r"share: in \(0, 1\]"):
        config.load([*line, "replay.on_episode=[{type: reward_guard, share: 0.0}]"])


@pytest.mark.parametrize("then", ["warn", "quarantine"])
def test_a_guard_goes_on_with_what_it_has_heard(tmp_path: Path, then: Any) -> None:
    guards = [RewardGuard(share=1.0, then=then, recent=12) for _ in range(2)]
    first, second = (remembering([guard], capacity=90) for guard in guards)
    for number in range(40):  # of which replay has forgotten most
        play(first, paid=True, done=number % 4 == 0)
    first.save(tmp_path)
    second.load(tmp_path, state=first.state_dict())
    assert guards[1].said == guards[0].said != ""
    for replay in (first, second):
        for number in range(5):
            play(replay, paid=True, done=number % 2 == 0)
    assert guards[1].statistics() == guards[0].statistics()
    ids = first.sampleable_ids()
    np.testing.assert_array_equal(second.transitions(ids).returns, first.transitions(ids).returns)
