"""How acting by the critic does beside acting without it: the verdict, its interval, and the words."""

import numpy as np
import pytest

from vla_rl.evaluation.critic_health import CriticHealth
from vla_rl.specs import BY_CRITIC, GREEDY, SAMPLED


def between(by_critic: tuple[int, int], greedy: tuple[int, int]) -> CriticHealth:
    return CriticHealth.between(by_critic, greedy, best_of=16)


@pytest.mark.parametrize(
    ("by_critic", "greedy", "verdict", "trusted", "said"),
    [
        ((124, 200), (162, 200), "worse", False, "is worse than greedy acting: 62% of 200 against 81% of 200 episodes"),
        ((162, 200), (124, 200), "better", True, "is better than greedy acting: 81% of 200 against 62% of 200"),
        ((12, 20), (16, 20), "alike", None, "is not known to differ from greedy acting: 60% of 20 against 80% of 20"),
        ((16, 20), (16, 20), "alike", True, "(+0 points, 95% interval"),
        ((0, 30), (0, 30), "alike", True, "0% of 30"),
        ((3, 3), (0, 0), "alike", None, ""),
        ((0, 0), (0, 0), "alike", None, ""),
    ],
)
def test_the_verdict_and_its_words(
    by_critic: tuple[int, int], greedy: tuple[int, int], verdict: str, trusted: bool | None, said: str
) -> None:
    found = between(by_critic, greedy)
    assert found.verdict == verdict
    assert found.trusted is trusted
    assert said in found.said
    assert bool(found.metrics) == bool(found.said)


def test_the_words_say_how_to_act() -> None:
    assert between((1, 50), (49, 50)).said.endswith("; eval.best_of=0")
    assert between((49, 50), (1, 50)).said.endswith("; eval.best_of=16")
    assert between((25, 50), (25, 50)).said.endswith(")")


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.9), (0.97, 0.97), (0.6, 0.8)])
@pytest.mark.parametrize("episodes", [(20, 80), (100, 100)])
def test_the_interval_holds_the_truth_nineteen_times_in_twenty(
    shares: tuple[float, float], episodes: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    truth, hits = 100 * (shares[0] - shares[1]), 0
    for _ in range(2000):
        won = [int(rng.binomial(count, share)) for count, share in zip(episodes, shares, strict=True)]
        low, high = between((won[0], episodes[0]), (won[1], episodes[1])).interval
        hits += low <= truth <= high
    assert hits / 2000 >= 0.93


def counts(*tasks: dict[int, tuple[int, int]]) -> np.ndarray:
    found = np.zeros((len(tasks), BY_CRITIC + 1, 2), np.int64)
    for number, ways in enumerate(tasks):
        for way, (won, episodes) in ways.items():
            found[number, way] = won, episodes
    return found


def test_tasks_are_compared_each_for_itself() -> None:
    """One is hard and mostly acted in by the critic, the other easy and mostly greedy: in both the two are alike."""
    hard, easy = {BY_CRITIC: (20, 100), GREEDY: (2, 10)}, {BY_CRITIC: (9, 10), GREEDY: (90, 100)}
    assert CriticHealth.of(counts(hard, easy), 16).gain == pytest.approx(0)
    pooled = {BY_CRITIC: (29, 110), GREEDY: (92, 110)}
    assert CriticHealth.of(counts(pooled), 16).verdict == "worse"
    apart = CriticHealth.of(counts({BY_CRITIC: (9, 10)}, {GREEDY: (90, 100)}), 16)
    assert (apart.said, apart.metrics, apart.trusted) == ("", {}, None)


def test_without_greedy_lanes_samples_are_what_it_is_held_against() -> None:
    found = CriticHealth.of(counts({SAMPLED: (90, 100), BY_CRITIC: (50, 100)}), 8)
    assert "is worse than the policy's own samples: 50% of 100 against 90% of 100" in found.said
    beside = CriticHealth.of(counts({SAMPLED: (90, 100), GREEDY: (50, 100), BY_CRITIC: (90, 100)}), 8)
    assert "is better than greedy acting" in beside.said
    assert beside.metrics["critic/gain"] == pytest.approx(40)
    assert beside.metrics["critic/gain_low"] < 40 < beside.metrics["critic/gain_high"]
