"""Who watches a run's episodes: what is heard, what is said, and when success is back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vla_rl.adaptation.on_shift import OnShift, Response
from vla_rl.adaptation.watch import LATEST, Watch
from vla_rl.replay import EndedEpisode
from vla_rl.specs import VALUE, VERIFIED

SETTINGS = OnShift(skip=0, least=0.15)
GAMMA = 0.5


def episode(number: int, won: bool, promised: float | None = None, **more: Any) -> EndedEpisode:
    """Of two decisions, the rows 10 * number and the next one; what it pays comes at its end."""
    signals = {VERIFIED: np.array([False, won])}
    if promised is not None:
        signals[VALUE] = np.array([promised, 0.0], np.float32)
    known = {"whole": True, "demo": False, "terminated": True} | more
    return EndedEpisode(
        ids=np.array([10 * number, 10 * number + 1]),
        tokens=np.zeros((2, 1), np.int64),
        reward=np.array([0.0, won], np.float32),
        signals=signals,
        **known,
    )


def hear(watch: Watch, won: list[bool], begin: int = 0, **more: Any) -> None:
    for number, each in enumerate(won, begin):
        watch.on_episode(episode(number, each, **more))


def test_a_drop_of_success_is_said_with_where_it_began() -> None:
    watch = Watch(SETTINGS, GAMMA)
    hear(watch, [True] * 100)
    assert watch.said == ""
    assert watch.statistics()["shift/alarms"] == 0
    hear(watch, [False] * 30, begin=100)
    assert watch.alarms == watch.shifts == 1
    assert watch.since == 1000
    assert "success fell from 100% to 0%," in watch.said
    assert "the run adapts from here on (alarm 1)" in watch.said
    assert watch.statistics()["shift/former_success"] == 100
    assert "shift/back_after" not in watch.statistics()


def test_what_the_critic_promises_and_does_not_come_gives_an_alarm_while_success_stays() -> None:
    watch = Watch(SETTINGS, GAMMA, value_range=(-0.5, 1.5))
    hear(watch, [True] * 80, promised=GAMMA)
    hear(watch, [True] * 80, begin=80, promised=0.2)  # more comes than was promised
    assert watch.statistics()["shift/evidence_critic"] == 0
    hear(watch, [True] * 80, begin=160, promised=1.5)
    assert watch.alarms == 1
    assert "rose from 0.00 to 0.50 of its range" in watch.said, "and nothing of success, which has not fallen"


def test_of_what_nobody_knows_the_whole_return_nothing_is_made() -> None:
    cut = Watch(SETTINGS, GAMMA, complete=False)
    for terminated, whole in ((False, True), (True, False)):
        hear(cut, [True] * 80, promised=GAMMA, terminated=terminated, whole=whole)
        hear(cut, [True] * 80, promised=1.0, terminated=terminated, whole=whole)
    assert cut.alarms == 0
    assert not cut.tests["critic"]._values


def test_episodes_that_were_shown_and_the_first_ones_do_not_count() -> None:
    watch = Watch(OnShift(skip=100), GAMMA)
    hear(watch, [True] * 100)
    hear(watch, [False] * 100, begin=100)
    hear(watch, [True] * 100, begin=200, demo=True)
    hear(watch, [False] * 100, begin=300)
    assert watch.alarms == 0
    assert watch.episodes == 300
    assert watch.decisions == 600


def test_it_says_when_success_is_back() -> None:
    watch = Watch(SETTINGS, GAMMA)
    hear(watch, [True] * 100 + [False] * 30)
    hear(watch, [True] * (LATEST - 10), begin=130)
    assert "back" not in watch.said
    hear(watch, [True] * 30, begin=200)
    assert watch.said.startswith("shift: success is back at ")
    assert watch.statistics()["shift/back_after"] > 2 * (LATEST - 20)
    hear(watch, [True] * 60 + [False] * 40, begin=300)
    assert "(alarm 2)" in watch.said


def test_an_alarm_of_another_process_begins_everything_anew() -> None:
    watch = Watch(SETTINGS, GAMMA, processes=2)
    hear(watch, [True] * 20)
    watch.heed()
    assert (watch.alarms, watch.shifts, watch.since) == (0, 1, 192)
    hear(watch, [True] * 60 + [False] * 60, begin=20)
    assert (watch.alarms, watch.shifts) == (1, 2)
    watch.heed()
    assert watch.shifts == 2, "its own, which it knows of"


def test_a_saved_one_goes_on() -> None:
    first, second = Watch(SETTINGS, GAMMA), Watch(SETTINGS, GAMMA)
    hear(first, [True] * 90 + [False] * 40, promised=0.4)
    hear(second, [True] * 30)  # as when a replay is loaded
    second.load_state_dict(first.state_dict())
    for watch in (first, second):
        hear(watch, [True] * 80 + [False] * 25, begin=130, promised=0.4)
    assert first.alarms == 2
    assert first.state_dict() == second.state_dict()


def test_the_response_fades_and_old_rows_are_weighed_for_good() -> None:
    settings = OnShift(steps=100, epsilon=0.2, greedy=0.0, anchor=0.5, rate=0.8, recent=0.4)
    assert settings.response(None) == Response()
    assert settings.response(0) == Response(0.2, 0.0, 0.5, 0.8, 0.4, weigh=True)
    half = settings.response(50)
    assert (half.epsilon, half.greedy, half.anchor) == (0.1, 0.5, 0.75)
    assert (half.rate, half.recent) == (0.4, 0.2)
    assert settings.response(10_000) == Response(weigh=True)


def test_all_tests_of_all_processes_give_as_many_false_alarms_as_one_may() -> None:
    alone, of_two = OnShift(critic=False).tests(1)["success"], OnShift().tests(2)["success"]
    assert alone.threshold < of_two.threshold


@pytest.mark.parametrize(
    "wrong", [{"epsilon": 2.0}, {"steps": 0}, {"anchor": -1.0}, {"false_alarms": 0.0}, {"window": 2}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="got"):
        OnShift(**wrong)
