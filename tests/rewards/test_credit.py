"""Credit estimators: each against numbers worked out by hand, and against a naive reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rl.algorithms.configs import PaRl
from vla_rl.replay import ReplayBuffer
from vla_rl.rewards.credit import Credit, Lambda, MonteCarlo, NStep, OneStep
from vla_rl.rewards.credit_tables import AnchorStates, Book, Counted, Milestones, Redistributed
from vla_rl.specs import CREDIT, SIGNALS, STATE

GAMMA = 0.5


def remembering(book: Book | None, n_step: int = 1, capacity: int = 400) -> ReplayBuffer:
    return ReplayBuffer(
        capacity,
        {"front": (2, 2, 3)},
        1,
        slots=1,
        choices=5,
        signals=SIGNALS,
        gamma=GAMMA,
        n_step=n_step,
        listeners=[book.listener()] if book else [],
    )


def play(replay: ReplayBuffer, screens: str, tokens: list[int], success: bool, truncated: bool = False) -> np.ndarray:
    """An episode that shows these letters, decides so, and is paid 1 at its end if it succeeds; the ids of its rows."""
    ids = []
    for step, letter in enumerate((*screens, "$")):
        last, final = step == len(screens) - 1, letter == "$"
        observation: dict[str, Any] = {
            "observation.images.front": np.full((1, 2, 2, 3), ord(letter), np.uint8),
            STATE: np.full((1, 1), replay.added, np.float32),  # which no estimator reads
            "task": ["go"],
        }
        ids += replay.add(
            observation,
            np.array([[0 if final else tokens[step]]]),
            np.array([float(last and success)]),
            np.array([last and not truncated]),
            np.array([last and truncated]),
            np.array([final]),
            signals={"verified": np.array([last and success])},
        ).tolist()
    return np.array(ids[:-1])


def credit(replay: ReplayBuffer, ids: np.ndarray) -> np.ndarray:
    return replay.transitions(ids).extra[CREDIT.name]


def test_a_decision_is_held_against_all_decisions_in_the_same_state() -> None:
    replay = remembering(AnchorStates(every=3).book(GAMMA, "fail"))
    good = play(replay, "ab", [0, 0], success=True)  # returns .5, 1
    bad = play(replay, "ab", [1, 0], success=False)  # returns 0, 0
    assert credit(replay, good).tolist() == [[0, 0], [0, 0]]  # nothing is known yet
    other = play(replay, "cb", [0, 0], success=True)  # .5, 1
    # a: mean of .5 and 0; b: mean of 1, 0, 1; c: met once, so that nothing is known.
    assert credit(replay, good) == pytest.approx(np.array([[0.25, 1], [1 / 3, 1]]))
    assert credit(replay, bad) == pytest.approx(np.array([[-0.25, 1], [-2 / 3, 1]]))
    assert credit(replay, other) == pytest.approx(np.array([[0, 0], [1 / 3, 1]]))


def test_with_a_history_the_way_to_a_screen_is_part_of_the_state() -> None:
    replay = remembering(AnchorStates(every=3, history=1).book(GAMMA, "fail"))
    for screens, success in (("ab", True), ("cb", False), ("ab", False)):
        ids = play(replay, screens, [0, 0], success)
    assert credit(replay, ids) == pytest.approx(np.array([[-0.25, 1], [-0.5, 1]]))
    assert credit(replay, ids - 3) == pytest.approx(np.array([[0, 0], [0, 0]]))


def test_with_a_history_what_was_done_before_is_part_of_the_state() -> None:
    replay = remembering(AnchorStates(every=3, history=9).book(GAMMA, "fail"))
    good, bad, ids = (play(replay, "ab", [first, 0], success) for first, success in ((0, True), (1, False), (0, False)))
    # b after a0: returns 1 and 0; b after a1: met once.
    assert credit(replay, good) == pytest.approx(np.array([[0.5 - 0.5 / 3, 1], [0.5, 1]]))
    assert credit(replay, bad) == pytest.approx(np.array([[-0.5 / 3, 1], [0, 0]]))
    assert credit(replay, ids) == pytest.approx(np.array([[-0.5 / 3, 1], [-0.5, 1]]))


def test_what_is_paid_is_dealt_out_by_what_it_made_likelier() -> None:
    replay = remembering(Redistributed(every=4).book(GAMMA, "fail"))
    episodes = [play(replay, "ab", tokens, success) for tokens, success in WAYS]
    # From the start .5 are paid; after a0, of two one; after a1, of two one. So far nothing is due to the first one.
    rewards = [replay.transitions(ids).reward.tolist() for ids in episodes]
    assert rewards == [[0, 0.5], [0, -0.5], [0, 0.5], [0, -0.5]]
    assert [sum(each) for each in rewards] == [float(success) - 0.5 for _, success in WAYS]
    # Had a1 always failed, all would be due to a0.
    replay = remembering(Redistributed(every=4).book(GAMMA, "fail"))
    episodes = [play(replay, "ab", [token, 0], token == 0) for token in (0, 1, 0, 1)]
    assert replay.transitions(episodes[0]).reward.tolist() == [0.5, 0]
    assert replay.transitions(episodes[1]).reward.tolist() == [-0.5, 0]


WAYS = [([0, 0], True), ([0, 1], False), ([1, 0], True), ([1, 1], False)]


def test_milestones_are_what_successes_have_in_common_and_their_potential_changes_no_order() -> None:
    replay = remembering(Milestones(every=3).book(GAMMA, "fail"))
    good = play(replay, "abc", [0, 2, 0], success=True)
    same = play(replay, "abc", [0, 3, 0], success=True)
    bad = play(replay, "abc", [1, 2, 0], success=False)
    # a0 and c0 were taken by both successes; c0 by all failures too, so that a0 alone is one. Phi is 0, 1, 1, and 0.
    for ids, paid in ((good, 1.0), (same, 1.0)):
        batch = replay.transitions(ids)
        assert batch.reward.tolist() == [0.5, -0.5, paid - 1]
        assert batch.returns.tolist() == pytest.approx([0.25 - 0, 0.5 - 1, 1 - 1])  # G - Phi
    assert replay.transitions(bad).reward.tolist() == [0, 0, 0]


@pytest.mark.parametrize("truncation", ["fail", "bootstrap"])
def test_behind_a_limit_of_steps_a_potential_stays_where_something_would_have_followed(truncation: Any) -> None:
    book = Milestones(every=2).book(GAMMA, truncation)
    replay = remembering(book)
    play(replay, "ab", [0, 0], success=True)
    play(replay, "ab", [1, 0], success=False)
    cut = play(replay, "ab", [0, 1], success=False, truncated=True)
    kept = truncation == "bootstrap"
    assert replay.transitions(cut).reward.tolist() == [0.5, 0.5 - 1 if kept else -1]


@pytest.mark.parametrize("estimator", [AnchorStates(every=3), Redistributed(every=3), Milestones(every=3)])
def test_a_replay_that_is_loaded_has_the_credit_that_it_had(estimator: Counted, tmp_path: Path) -> None:
    replay, rng = remembering(estimator.book(GAMMA, "fail"), capacity=60), np.random.default_rng(0)
    replay.save(tmp_path / "empty")
    remembering(estimator.book(GAMMA, "fail"), capacity=60).load(tmp_path / "empty", state=replay.state_dict())

    def some(into: ReplayBuffer, draws: np.random.Generator, count: int) -> None:
        for _ in range(count):
            tokens = draws.integers(2, size=3).tolist()
            play(into, "abc", tokens, sum(tokens) == 0)

    some(replay, rng, 20)  # the oldest are forgotten
    replay.save(tmp_path / "saved")
    again = remembering(estimator.book(GAMMA, "fail"), capacity=60)
    again.load(tmp_path / "saved", state=replay.state_dict())
    drawn = rng.bit_generator.state
    for _ in range(3):
        ids = replay.sampleable_ids()
        one, other = replay.transitions(ids), again.transitions(again.sampleable_ids())
        for name in ("reward", "returns"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        for name, values in one.extra.items():
            np.testing.assert_array_equal(values, other.extra[name])
        rng.bit_generator.state = drawn
        some(replay, rng, 4)
        rng.bit_generator.state = drawn
        some(again, rng, 4)


def test_demonstrations_have_the_credit_of_what_was_learnt_since() -> None:
    book = Milestones(every=2).book(GAMMA, "fail")
    demos, own = remembering(book), remembering(book)
    shown = play(demos, "ab", [0, 0], success=True)
    play(own, "ab", [1, 0], success=False)
    assert demos.transitions(shown).reward.tolist() == [0, 1]
    demos.reconsider()
    assert demos.transitions(shown).reward.tolist() == [0.5, 0]


def test_lambda_draws_the_steps_so_that_the_mean_target_is_the_lambda_return() -> None:
    replay = remembering(None, capacity=20)
    ids = play(replay, "abcd", [0, 0, 0, 0], success=True)
    decay, value = Lambda(0.6).decay, np.array([0.9, 0.3, 0.7, 0.1])
    # The naive reference, backwards: G = r + gamma ((1 - decay) V' + decay G').
    expected = 1.0
    for step in (2, 1, 0):
        expected = GAMMA * ((1 - decay) * value[step + 1] + decay * expected)
    batch = replay.sample(40_000, np.random.default_rng(0), going_on=decay)
    first = batch.index == ids[0]
    follows = value[np.minimum(batch.steps[first], 3)]
    targets = batch.reward[first] + batch.discount[first] * follows
    assert targets.mean() == pytest.approx(expected, abs=0.01)
    counts = np.bincount(batch.steps[first], minlength=5)[1:] / first.sum()
    assert counts == pytest.approx([0.4, 0.24, 0.144, 0.216], abs=0.02)


def test_settings_have_the_names_of_estimators() -> None:
    for estimator, n_step, weight, going_on in (
        (OneStep(), 1, 0.0, 0.0),
        (NStep(4), 4, 0.0, 0.0),
        (MonteCarlo(), None, 1.0, 0.0),
        (Lambda(0.8), None, 0.0, 0.8),
    ):
        settings = PaRl(credit=estimator)
        assert isinstance(estimator, Credit)
        needs = settings.needs
        assert (needs.n_step, settings.mc_weight, needs.going_on) == (n_step, weight, going_on)
        assert needs.finished_only == (weight == 1.0)
        assert needs.credit is None
    assert PaRl(credit=Milestones()).needs.finished_only
    assert not PaRl(credit=AnchorStates()).needs.finished_only
    assert PaRl().needs.n_step is None


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"decay": 0.0}])
def test_a_decay_that_is_another_estimator_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="monte_carlo"):
        Lambda(**wrong)
