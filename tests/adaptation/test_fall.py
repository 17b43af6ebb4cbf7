"""A test for a fall of the mean: what it computes, how seldom it is wrong, and how soon it is right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_rl.adaptation.fall import SHORTEST, FallTest, evidence_of, threshold

RATE = 0.05 / 1000 / 2
"""Of false alarms for each episode and test, by default."""


def coins(chance: float | np.ndarray, seed: int, count: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random(np.size(chance) if np.size(chance) > 1 else count) < chance).astype(
        float
    )


def alarms(values: np.ndarray, rate: float, least: float = 0.0) -> list[int]:
    """At which values there is an alarm."""
    test = FallTest(rate, window=200, least=least)
    return [place for place, value in enumerate(values.tolist()) if test.add(value) is not None]


def log_likelihood(values: np.ndarray) -> float:
    """Of coins, each as likely to come up as they do on average."""
    mean = values.mean()
    return sum(math.log(mean if value else 1 - mean) for value in values if 0 < mean < 1)


def test_the_evidence_is_what_two_means_explain_better_than_one() -> None:
    values = np.concatenate([coins(0.8, 0, 30), coins(0.4, 1, 20)])
    lengths = np.arange(SHORTEST, 43)
    found, drop = evidence_of(values, lengths)
    for length, evidence, fallen in zip(lengths.tolist(), found, drop, strict=True):
        older, newer = values[:-length], values[-length:]
        assert fallen == pytest.approx(older.mean() - newer.mean())
        gained = log_likelihood(older) + log_likelihood(newer) - log_likelihood(values)
        assert evidence == pytest.approx(gained if fallen > 0 else 0.0, abs=1e-9)


@pytest.mark.parametrize("splits", [1, 20])
def test_the_threshold_is_where_the_bound_is_the_rate(splits: int) -> None:
    x = threshold(1e-4, splits)
    assert splits * (1 + x) * math.exp(-x) == pytest.approx(1e-4)


@pytest.mark.parametrize("chance", [0.03, 0.5, 0.9])
def test_false_alarms_are_as_rare_as_it_says_whatever_the_rate_of_success(chance: float) -> None:
    rate, count = 0.02, 1500
    found = sum(len(alarms(coins(chance, seed, count), rate)) for seed in range(2))
    assert found <= 2 * count * rate
    assert not alarms(coins(chance, 9, count), RATE)


def test_a_rate_that_rises_gives_none() -> None:
    assert not alarms(coins(np.linspace(0.05, 0.95, 1500), 0), RATE)


def test_numbers_between_0_and_1_keep_to_it_as_well() -> None:
    rng = np.random.default_rng(0)
    assert not alarms(rng.beta(2.0, 1.0, 1500), RATE)
    assert len(alarms(np.concatenate([rng.beta(6.0, 1.0, 200), rng.beta(1.0, 3.0, 100)]), RATE)) == 1


def test_a_drop_is_noticed_soon_and_where_it_began() -> None:
    delays = []
    for seed in range(20):
        test = FallTest(RATE, least=0.15)
        assert not any(test.add(value) for value in coins(0.89, seed, 300).tolist())
        after = coins(0.25, 100 + seed, 100).tolist()
        delay, fall = next((n, fall) for n, value in enumerate(after, 1) if (fall := test.add(value)) is not None)
        delays.append(delay)
        assert abs(fall.ago - delay) <= 12
        assert fall.before == pytest.approx(0.89, abs=0.1)
        assert fall.after < 0.6
        assert test.evidence == 0, "it begins anew"
    assert 5 < np.median(delays) < 25
    assert max(delays) < 60


def test_a_drop_that_is_too_small_to_matter_gives_none() -> None:
    values = np.concatenate([coins(0.95, 0, 100), coins(0.5, 1, 100)])
    assert alarms(values, 0.01)
    assert not alarms(values, 0.01, least=0.7)


def test_a_saved_one_goes_on() -> None:
    values = np.concatenate([coins(0.9, 0, 60), coins(0.1, 1, 60)]).tolist()
    first, second = FallTest(RATE), FallTest(RATE)
    for value in values[:63]:
        first.add(value)
    second.load_state_dict(first.state_dict())
    assert [first.add(value) for value in values[63:]] == [second.add(value) for value in values[63:]]


def test_what_no_rate_or_window_can_be_is_refused() -> None:
    for rate, window, least in ((0.0, 100, 0.0), (0.1, 3, 0.0), (0.1, 100, 1.0)):
        with pytest.raises(ValueError, match="are needed"):
            FallTest(rate, window, least)
