"""What holds for every action space, however nested."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import pytest
from action_strategies import NESTED, SEEDS, anything, binned, pointers
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_rl import registry
from vla_rl.actions import Choice, Chunk, Variant, allowed, uniform
from vla_rl.specs import ActionSpace


def allowed_next(action_space: ActionSpace, prefix: tuple[int, ...]) -> set[int]:
    k = len(prefix)
    mask = action_space.mask(np.asarray([prefix], np.int64).reshape(1, k))
    choices = range(action_space.slots[k].choices)
    return set(choices) if mask is None else {token for token in choices if mask[0, token]}


def spelled(action_space: ActionSpace, prefix: tuple[int, ...] = ()) -> set[tuple[int, ...]]:
    """Every decision that the masks allow, grown token by token."""
    if len(prefix) == len(action_space.slots):
        return {prefix}
    following = allowed_next(action_space, prefix)
    return set().union(*(spelled(action_space, (*prefix, token)) for token in following))


@given(anything(), SEEDS)
@settings(max_examples=60, deadline=None)
def test_an_allowed_decision_survives_the_environments_action(case: Any, seed: int) -> None:
    unbound, space, steps = case
    bound = unbound.bind(space)
    for tokens in uniform(bound, np.random.default_rng(seed), 4):
        action = bound.decode(tokens)
        taken = action if steps > 1 else (action,)
        assert len(taken) == steps
        assert all(space.contains(each) for each in taken)
        assert bound.encode(action).tolist() == tokens.tolist()
        assert allowed(bound, tokens)


@given(anything(), SEEDS)
@settings(max_examples=60, deadline=None)
def test_any_action_of_the_space_has_an_allowed_spelling(case: Any, seed: int) -> None:
    unbound, space, steps = case
    bound = unbound.bind(space)
    space.seed(seed)
    actions = [space.sample() for _ in range(steps)]
    tokens = bound.encode(actions if steps > 1 else actions[0])
    assert tokens.dtype == np.int64
    assert tokens.shape == (len(bound.slots),)
    assert allowed(bound, tokens)


@given(anything())
@settings(max_examples=60, deadline=None)
def test_a_bound_space_is_rebuilt_from_json_without_an_environment(case: Any) -> None:
    unbound, space, _ = case
    for component in (unbound, unbound.bind(space)):
        written = json.dumps(registry.describe(component, "action_spaces"), sort_keys=True)
        assert registry.build("action_spaces", json.loads(written)) == component


@given(anything())
@settings(max_examples=40, deadline=None)
def test_a_bound_space_binds_again_to_the_same_space(case: Any) -> None:
    unbound, space, _ = case
    bound = unbound.bind(space)
    assert bound.bind(space) == bound


@given(anything(), SEEDS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_token_out_of_range_is_refused(case: Any, seed: int, above: bool) -> None:
    unbound, space, _ = case
    bound = unbound.bind(space)
    rng = np.random.default_rng(seed)
    tokens = uniform(bound, rng, 1)[0]
    slot = int(rng.integers(len(tokens)))
    tokens[slot] = bound.slots[slot].choices if above else -1
    with pytest.raises(ValueError, match=rf"token {tokens[slot]} of slot {slot}"):
        bound.decode(tokens)


@given(NESTED)
@settings(max_examples=40, deadline=None)
def test_tokens_of_the_wrong_number_or_kind_are_refused(case: Any) -> None:
    unbound, space = case
    bound = unbound.bind(space)
    with pytest.raises(ValueError, match="tokens"):
        bound.decode(np.zeros(len(bound.slots) + 1, np.int64))
    with pytest.raises(ValueError, match="whole numbers"):
        bound.decode(np.zeros(len(bound.slots), np.float32))


@given(NESTED)
@settings(max_examples=20, deadline=None)
def test_an_unbound_space_says_so(case: Any) -> None:
    unbound, _ = case
    with pytest.raises(ValueError, match="not bound"):
        _ = unbound.slots


@given(binned() | pointers(), SEEDS)
@settings(max_examples=100, deadline=None)
def test_a_decision_is_within_half_a_step_of_the_action(case: Any, seed: int) -> None:
    unbound, space = case
    bound = unbound.bind(space)
    action = np.asarray(np.random.default_rng(seed).uniform(space.low, space.high), np.float32)
    choices = [slot.choices for slot in bound.slots]
    if bound.slots[0].kind == "place":
        rows, columns = bound.slots[0].grid
        step = (space.high - space.low) / (columns, rows)
    else:
        step = (space.high - space.low) / (np.reshape(choices, space.shape) - 1)
    assert (np.abs(bound.decode(bound.encode(action)) - action) <= step / 2 + 1e-5).all()


def test_masks_allow_exactly_the_spellings_that_encode_gives() -> None:
    variant = {
        "type": "variant",
        "parts": [
            {"type": "choice"},
            {"type": "variant", "parts": [{"type": "choice"}, {"type": "binned", "bins": 2}]},
        ],
    }
    inner = spaces.OneOf([spaces.Discrete(2), spaces.Box(0, 1, (1,))])
    space = spaces.OneOf([spaces.Discrete(3), inner])
    bound = registry.build("action_spaces", variant).bind(space)
    actions = [(0, n) for n in range(3)] + [(1, (0, n)) for n in range(2)] + [(1, (1, [x])) for x in (0.0, 1.0)]
    assert spelled(bound) == {tuple(bound.encode(action).tolist()) for action in actions}


def test_a_chunks_masks_are_those_of_each_step() -> None:
    space = spaces.OneOf([spaces.Discrete(2), spaces.Discrete(3)])
    one = Variant([Choice(), Choice()]).bind(space)
    two = Chunk(one, 2)
    assert spelled(two) == {first + second for first, second in product(spelled(one), repeat=2)}


def test_masks_answer_row_by_row() -> None:
    bound = Variant([Choice(), Choice()]).bind(spaces.OneOf([spaces.Discrete(2), spaces.Discrete(3)]))
    assert bound.mask(np.zeros((2, 0), np.int64)) is None
    mask = bound.mask(np.asarray([[0, 1], [1, 0]]))
    assert mask is not None
    assert mask.tolist() == [[True, False, False], [True, True, True]]
