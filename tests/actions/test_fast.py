"""Chunks as compressed tokens: what comes back, what is fitted, and that nothing fails to decode."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.actions.action_strategies import SEEDS, boxes
from vla_rl import registry
from vla_rl.actions import Binned, Chunk, Compose, Fast, allowed, uniform
from vla_rl.actions.fit import prove
from vla_rl.data.demos import Episode, fitted

BOX = spaces.Box(np.array([-1, -2, 0], np.float32), np.array([1, 2, 5], np.float32))


def smooth(box: spaces.Box, steps: int, count: int, seed: int = 0) -> list[np.ndarray]:
    """Walks from the middle of a box, `steps` long."""
    rng = np.random.default_rng(seed)
    walks = np.cumsum(rng.normal(size=(count, steps, *box.shape)), 1) * 0.1 * (box.high - box.low)
    return list((box.low + box.high) / 2 + walks)


FITTED = Fast(6).bind(BOX).fit(smooth(BOX, 6, 80))


@settings(max_examples=25, deadline=None)
@given(boxes(), SEEDS, st.integers(2, 12), st.sampled_from([2.0, 10.0, 40.0]), st.booleans())
def test_what_comes_back_is_as_near_as_is_said(box, seed, steps, scale, fit) -> None:
    space = Fast(steps, scale, vocabulary=600).bind(box)
    space = space.fit(smooth(box, steps, 20, seed)) if fit else space
    box.seed(seed)
    chunk = [box.sample() for _ in range(steps)] if not fit else smooth(box, steps, 20, seed)[0]
    back = space.decode(space.encode(chunk))
    half = (box.high.astype(float) - box.low) / 2
    missed = np.abs(np.stack(back) - np.clip(chunk, box.low, box.high)) / half
    assert missed.max(initial=0) <= steps**0.5 / (2 * scale) + 1e-5
    assert all(step in box for step in back)


@settings(max_examples=15, deadline=None)
@given(boxes(), SEEDS, st.booleans())
def test_whatever_is_allowed_decodes(box, seed, fit) -> None:
    space = Fast(4).bind(box)
    space = space.fit(smooth(box, 4, 20, seed)) if fit else space
    tokens = uniform(space, np.random.default_rng(seed), 10)
    assert all(allowed(space, decision) for decision in tokens)
    meant = (np.stack([space.decode(decision) for decision in tokens]) - box.low) / (box.high - box.low) * 2 - 1
    assert np.allclose(meant.reshape(10, -1), space.vectors(tokens), atol=1e-4)


def test_a_fit_says_the_same_in_fewer_tokens() -> None:
    chunks = smooth(BOX, 6, 80)
    plain = Fast(6).bind(BOX)
    for space in (plain, FITTED):
        prove(space, BOX)
    assert (plain.fitted, FITTED.fitted, FITTED.fresh) == (False, True, plain)
    assert len(plain.slots) == 18 > len(FITTED.slots)
    assert plain.slots[0].choices < FITTED.slots[0].choices <= 256
    for chunk in chunks:
        assert np.count_nonzero(FITTED.encode(chunk)) < np.count_nonzero(plain.encode(chunk))
        assert np.array_equal(np.stack(FITTED.decode(FITTED.encode(chunk))), plain.decode(plain.encode(chunk)))
    assert plain.fit(chunks[::-1]) == FITTED == plain.fit(chunks)
    assert FITTED.bind(BOX) == FITTED == pickle.loads(pickle.dumps(FITTED))


def test_it_is_saved_as_json() -> None:
    told = json.loads(json.dumps(registry.describe(FITTED, "action_spaces")))
    assert told["type"] == "fast"
    again = registry.build("action_spaces", told).bind(BOX)
    assert again == FITTED
    chunk = smooth(BOX, 6, 1, seed=5)[0]
    assert np.array_equal(again.encode(chunk), FITTED.encode(chunk))


def test_a_decision_that_is_too_long_keeps_its_low_frequencies() -> None:
    assert len(Fast(6).bind(BOX).fit([]).slots) == 18
    short = Fast(6, tokens=3).bind(BOX)
    chunk = smooth(BOX, 6, 1)[0]
    back = np.stack(short.decode(short.encode(chunk)))
    assert np.allclose(back, np.mean(chunk, 0), atol=0.2)  # the mean of each number, and no movement
    assert not np.ptp(back, axis=0).any()


def test_a_space_of_demonstrations_is_fitted_once() -> None:
    walk = np.concatenate(smooth(BOX, 6, 3))
    episode = Episode(
        **{name: np.zeros(len(walk)) for name in Episode.__dataclass_fields__ if name not in ("action", "label")},
        action=walk,
        label=walk[::-1],
    )
    plain = Fast(6).bind(BOX)
    first = fitted(plain, [episode])
    assert first.fitted
    assert first == fitted(plain, [episode])
    assert fitted(plain, [], first) is first, "a policy keeps its own"
    assert fitted(Fast(6, scale=5).bind(BOX), [episode], first) != first, "unless it was made otherwise"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fast(1), "horizon: 2 to"),
        (lambda: Fast(8, scale=0), "scale: a positive number"),
        (lambda: Fast(16, scale=100), "vocabulary: 256 tokens, and 802 at least are needed"),
        (lambda: Fast(4, tokens=0), "tokens: 1 to"),
        (lambda: Fast(4).bind(spaces.Discrete(3)), "fast needs a Box"),
        (lambda: Fast(4).bind(spaces.Box(-np.inf, 1, (2,))), "unbounded: give `low` and `high`"),
        (lambda: Fast(4, low=(0, 0)).bind(BOX), "low has 2 entries"),
        (lambda: Fast(4, low=1, high=0).bind(BOX), "dimension 0: low 1.0 must not be above high 0.0"),
        (lambda: Fast(4).slots, "not bound"),
        (lambda: Fast(4, merges="1+99999").bind(BOX).slots, "'1\\+99999' is no pair of tokens"),
        (lambda: Fast(4, merges=" ".join(f"{i}+{i}" for i in (1, *range(42, 64)))).bind(BOX).slots, "too many to keep"),
        (lambda: Fast(1000, scale=1).bind(spaces.Box(0, 1, (17,))).slots, "more than 16384 tokens"),
        (lambda: Fast(4, vocabulary=42, merges="1+1 2+2").bind(BOX).slots, "44 tokens, more than vocabulary=42"),
        (lambda: Chunk(Fast(4), 2), "a chunk cannot lie inside"),
        (lambda: Compose([Fast(4), Binned()]), "a chunk cannot lie inside"),
        (lambda: FITTED.encode(np.zeros((5, 3))), "a chunk is of 6 actions"),
        (lambda: FITTED.encode(np.zeros((6, 2))), r"expected shape \(3,\); got \(2,\)"),
        (lambda: FITTED.encode(np.full((6, 3), np.nan)), "cannot hold NaN"),
        (lambda: FITTED.decode([0, *[1] * (len(FITTED.slots) - 1)]), "are no chunk"),
        (lambda: Fast(2).bind(spaces.Box(0, 1, ())).decode([1, 1, 1]), "expected 2 tokens"),
    ],
)
def test_what_is_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
