"""Where episodes fail, and whether Q says what comes, against sums by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.report.test_report import Seen
from vla_rl.evaluation.outcome import EvalResult, Outcome
from vla_rl.report import breakdown
from vla_rl.report.html import Report, Score, page
from vla_rl.report.sections import breakdowns


def an_episode(
    seed: int, task: str, success: bool, q: tuple[float, ...] = (), rewards: tuple[float, ...] = ()
) -> Outcome:
    steps = max(len(rewards), 1)
    tokens = np.zeros((steps, 1), np.int64)
    return Outcome(1_000_000 + seed, task, success, sum(rewards), 1.0, steps, False, tokens, q, rewards=rewards)


EPISODES = [
    an_episode(i, f"push the {colour} {shape}", colour == "red" or i % 3 == 0)
    for i, (colour, shape) in enumerate([("red", "cube"), ("blue", "ball")] * 12)
] + [an_episode(99, "push the green cube", False)]


def test_instructions_are_counted_the_least_successful_first() -> None:
    found = breakdown.by_instruction(EPISODES)
    assert [(text, each.won, each.episodes) for text, each in found] == [
        ("push the green cube", 0, 1),
        ("push the blue ball", 4, 12),
        ("push the red cube", 12, 12),
    ]


def test_words_are_compared_with_and_without_and_those_that_come_together_are_one() -> None:
    first, *_, last = breakdown.by_word(EPISODES)
    assert (first.text, first.having, first.lacking) == ("blue ball", (4, 12), (12, 13))
    assert first.difference == pytest.approx(100 * (4 / 12 - 12 / 13))
    assert first.high < 0
    assert (last.text, last.having, last.lacking) == ("red", (12, 12), (4, 13))
    assert not any(word.text in ("push", "the", "green") for word in breakdown.by_word(EPISODES))


def test_returns_are_discounted_from_each_decision_on() -> None:
    episode = an_episode(0, "x", True, (0.0,) * 3, (0.0, 0.5, 1.0))
    assert breakdown.returns(episode, 0.9) == pytest.approx([0.9 * 0.5 + 0.81, 0.5 + 0.9, 1.0])


def test_a_critic_that_knows_lies_on_the_diagonal_and_one_that_hopes_above_what_comes() -> None:
    rng, gamma = np.random.default_rng(0), 0.9
    knows, hopes = [], []
    for i in range(60):
        rewards = (*[0.0] * rng.integers(2, 9), float(i % 2))
        came = breakdown.returns(an_episode(i, "x", True, (), rewards), gamma)
        knows.append(an_episode(i, "x", bool(i % 2), tuple(came), rewards))
        hopes.append(dataclasses.replace(knows[-1], q=tuple(0.3 + 0.7 * value for value in came)))
    for each in breakdown.calibration(knows, gamma):
        assert each.came == pytest.approx(each.expected)
        assert each.low <= each.came <= each.high
    bins = breakdown.calibration(hopes, gamma)
    assert sum(each.decisions for each in bins) == sum(len(each.rewards) for each in hopes)
    assert [each.expected for each in bins] == sorted(each.expected for each in bins)
    assert all(each.expected > each.came + 0.05 for each in bins[:4])


def test_without_q_there_is_no_calibration() -> None:
    assert breakdown.calibration(EPISODES, 0.9) == []
    assert len(breakdown.q_over_time(EPISODES)[0]) == 0


def test_q_over_time_is_the_mean_at_each_share_of_an_episode() -> None:
    shares, means = breakdown.q_over_time(
        [an_episode(0, "x", True, (0.0, 1.0)), an_episode(1, "x", True, (1.0, 1.0, 1.0))], 3
    )
    assert shares.tolist() == [0, 0.5, 1]
    assert means == pytest.approx([0.5, 0.75, 1.0])


def test_the_page_tells_where_it_fails() -> None:
    q = [an_episode(i, t.task, t.success, tuple(np.linspace(0, 1, 8)), (0.0,) * 8) for i, t in enumerate(EPISODES)]
    seen = Seen(
        page(Report("A", [Score("a", "x", 16, 25)], results=[EvalResult("x", tuple(q))], gamma=0.9, config="seed: 3\n"))
    )
    for part in (
        "Success by instruction", "4 of 12", "Success by word", "blue ball", "Where in time episodes fail",
        "What the critic expects, and what comes", "The whole config", "seed: 3",
    ):  # fmt: skip
        assert part in seen.text
    assert seen.tags.count("svg") == 3


def test_many_instructions_are_not_all_shown_and_invalid_episodes_never() -> None:
    many = [an_episode(i, f"task {i} of many", True) for i in range(40)]
    html = "".join(breakdowns([EvalResult("x", tuple(many))], None))
    assert "28 more are not shown" in html
    spoilt = [dataclasses.replace(each, invalid=True) for each in many]
    assert breakdowns([EvalResult("x", tuple(spoilt))], None) == []


def test_further_sections_take_their_place() -> None:
    html = page(Report("A", [Score("a", "x", 1, 2)], more=["<section><h2>Interventions</h2></section>"]))
    assert html.index("Interventions") < html.index("<footer")
