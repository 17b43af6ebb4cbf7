"""Each action space by itself: values, frames, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from vla_rl.actions import Binned, Choice, Chunk, Compose, Pointer, Variant, horizon
from vla_rl.specs import Slot

UNIT = spaces.Box(-1, 1, (3,))


@given(st.integers(1, 100), st.floats(0.0625, 1024, width=32))
def test_odd_counts_hold_zero_and_both_ends_exactly(half: int, end: float) -> None:
    bound = Binned(2 * half + 1).bind(spaces.Box(-end, end, (1,)))
    values = [bound.decode([token])[0] for token in (0, half, 2 * half)]
    assert values == [np.float32(-end), 0.0, np.float32(end)]


def test_binned_values_are_even_and_rise() -> None:
    bound = Binned(5).bind(UNIT)
    assert [bound.decode([token, 2, 2])[0] for token in range(5)] == [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_binned_takes_bins_for_each_dimension_of_any_shape() -> None:
    bound = Binned((2, 3, 4, 5)).bind(spaces.Box(0, 1, (2, 2)))
    assert bound.slots == tuple(Slot(count, "bin") for count in (2, 3, 4, 5))
    assert bound.decode([1, 2, 3, 4]).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert Binned(2).bind(spaces.Box(0, 1, ())).decode([1]).shape == ()


def test_binned_ties_go_down_and_actions_beyond_an_end_to_that_end() -> None:
    bound = Binned(3).bind(UNIT)
    assert bound.encode([0.5, -0.5, 0.0]).tolist() == [1, 0, 1]
    assert bound.encode([9.0, -9.0, np.inf]).tolist() == [2, 0, 2]


def test_binned_whole_numbers_stay_whole() -> None:
    bound = Binned(4).bind(spaces.Box(0, 9, (1,), np.int32))
    assert [bound.decode([token]).tolist() for token in range(4)] == [[0], [3], [6], [9]]
    assert bound.decode([0]).dtype == np.int32


def test_binned_bounds_may_narrow_a_box_or_bound_an_open_one() -> None:
    narrow = Binned(3, low=-0.5, high=(0.5, 0.25, 1.0)).bind(UNIT)
    assert narrow.decode([0, 2, 2]).tolist() == [-0.5, 0.25, 1.0]
    opened = Binned(3, low=-2, high=2).bind(spaces.Box(-np.inf, np.inf, (2,)))
    assert opened.decode([0, 2]).tolist() == [-2.0, 2.0]


@pytest.mark.parametrize(
    ("component", "space", "message"),
    [
        (Binned((3, 3)), UNIT, r"action dimension: bins has 2 entries \(3, 3\); expected 3"),
        (Binned(low=(0.0,), high=1), UNIT, "action dimension: low has 1 entries"),
        (Binned(), spaces.Box(-np.inf, np.inf, (2,)), "unbounded: give `low` and `high`"),
        (Binned(low=-2), UNIT, r"low of dimension 0: -2 lies outside the action space's \[-1.0, 1.0\]"),
        (Binned(low=0.5, high=0.5), UNIT, "low 0.5 must be below high 0.5"),
        (Binned(5), spaces.Box(0, 2, (1,), np.int32), "5 bins are too close for int32"),
        (Binned(), spaces.Discrete(3), r"binned needs a Box action space; got Discrete\(3\)"),
        (Binned().bind(UNIT), spaces.Box(-1, 1, (4,)), r"expected shape \(3,\); the space has \(4,\)"),
        (Choice(), UNIT, "choice needs a Discrete"),
        (Choice(), spaces.MultiDiscrete([1, 1]), "has nothing to choose"),
        (Binned(), spaces.Box(1, 1, (2,)), "every dimension .* is locked"),
        (Choice().bind(spaces.Discrete(3)), spaces.Discrete(4), "expected 3 alternatives from 0; the space has 4"),
        (Pointer("front"), UNIT, r"needs a Box of shape \(2,\)"),
        (Pointer("front"), spaces.Box(0, np.inf, (2,)), "unbounded: give `bottom_right`"),
        (Pointer("front", top_left=(0, 9)), spaces.Box(0, 1, (2,)), "top_left .* lies outside"),
        (Pointer("front", top_left=(0, 1)), spaces.Box(0, 1, (2,)), "enclose no area"),
        (Pointer("front", (8, 8)), spaces.Box(0, 3, (2,), np.int32), "cells are too small for int32"),
        (Compose([Choice()]), spaces.Tuple([spaces.Discrete(2)] * 2), "expected a space of 1 parts; got 2"),
        (Compose([Choice()]), spaces.Dict(a=spaces.Discrete(2)), "parts in a list need a Tuple"),
        (Compose([Binned()]), UNIT, "give `sizes` to compose over a Box"),
        (
            Compose({"a": Choice()}),
            spaces.Dict(b=spaces.Discrete(2)),
            "are not the space's keys",
        ),
        (Compose({"a": Choice()}), spaces.Tuple([spaces.Discrete(2)]), "need a Dict"),
        (Compose({"a": Choice()}), spaces.Dict(a=UNIT), "parts.a: choice needs a Discrete"),
        (Compose([Binned(), Binned()], (1, 1)), UNIT, r"action dimension: sizes \(1, 1\) need a Box of shape \(2,\)"),
        (Variant([Choice()]), spaces.Discrete(2), "variant needs a OneOf"),
        (Variant([Choice()]), spaces.OneOf([spaces.Discrete(2)] * 2), "expected a space of 1 alternatives; got 2"),
        (Variant([Choice()]), spaces.OneOf([UNIT]), r"parts\[0\]: choice needs a Discrete"),
        (Chunk(Choice(), 2), UNIT, "choice needs a Discrete"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(component: Any, space: spaces.Space, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        component.bind(space)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Binned(1), "bins: at least 2"),
        (lambda: Binned(()), "bins: at least 2"),
        (lambda: Pointer("front", (0, 3)), "grid: at least one row"),
        (lambda: Chunk(Choice(), 1), "horizon: at least 2"),
        (lambda: Chunk(Chunk(Choice(), 2), 2), "a chunk cannot lie inside a chunk"),
        (lambda: Compose([Chunk(Choice(), 2)]), "put the chunk outermost"),
        (lambda: Variant([Chunk(Choice(), 2)]), "put the chunk outermost"),
        (lambda: Compose([]), "parts: at least one"),
        (lambda: Compose(["binned"]), "made of action spaces"),  # type: ignore[list-item]
        (lambda: Compose({"a": Choice()}, (1,)), "sizes: one positive number for each part of a list"),
        (lambda: Variant([]), "parts: at least one"),
    ],
)
def test_a_component_that_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("component", "action", "message"),
    [
        (Binned().bind(UNIT), [0.0, 0.0], r"action dimension: expected shape \(3,\); got \(2,\)"),
        (Binned().bind(UNIT), [0.0, 0.0, np.nan], "NaN"),
        (Choice().bind(spaces.Discrete(3, start=1)), 0, "from 1 to 3; got 0"),
        (Choice().bind(spaces.Discrete(3)), 1.5, "got 1.5"),
        (Pointer("front").bind(spaces.Box(0, 1, (2,))), [0.0], r"expected shape \(2,\)"),
        (Chunk(Choice(), 2).bind(spaces.Discrete(2)), [1], "a chunk of 2 actions cannot encode 1"),
        (Compose([Choice()]).bind(spaces.Tuple([spaces.Discrete(2)])), (0, 0), "expected an action of 1 parts"),
        (Compose({"a": Choice()}).bind(spaces.Dict(a=spaces.Discrete(2))), {"b": 0}, r"with the keys \['a'\]"),
        (Variant([Choice()]).bind(spaces.OneOf([spaces.Discrete(2)])), (1, 0), "a kind from 0 to 0; got 1"),
    ],
)
def test_an_action_that_has_no_tokens_is_refused(component: Any, action: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        component.encode(action)


def test_choice_respects_where_the_alternatives_start() -> None:
    bound = Choice().bind(spaces.Discrete(3, start=-1))
    assert [bound.decode([token]) for token in range(3)] == [-1, 0, 1]
    assert bound.encode(np.int64(1)).tolist() == [2]


def test_choice_takes_an_entry_of_several_in_a_token_each() -> None:
    bound = Choice().bind(spaces.MultiDiscrete([3, 1, 4], start=[0, 7, -1]))
    assert bound.slots == (Slot(3), Slot(4))  # where there is one alternative only, there is nothing to choose
    assert bound.decode(np.array([2, 3])).tolist() == [2, 7, 2]
    assert bound.encode(np.array([1, 7, -1])).tolist() == [1, 0]
    speeds = Choice(ordered=True).bind(spaces.MultiDiscrete([[5], [5]]))
    assert speeds.slots == (Slot(5, "bin"), Slot(5, "bin"))
    assert speeds.decode(np.array([4, 0])).tolist() == [[4], [0]]
    switches = Choice().bind(spaces.MultiBinary(3))
    assert switches.slots == (Slot(2), Slot(2), Slot(2))
    assert switches.decode(np.array([1, 0, 1])).dtype == np.int8
    assert switches.encode([True, False, True]).tolist() == [1, 0, 1]


def test_a_dimension_that_a_box_locks_takes_no_token() -> None:
    box = spaces.Box(np.array([-1, 0.5, 0], np.float32), np.array([1, 0.5, 2], np.float32))
    bound = Binned((3, 4, 5)).bind(box)
    assert bound.slots == (Slot(3, "bin"), Slot(5, "bin"))
    assert bound.decode(np.array([2, 0])).tolist() == [1.0, 0.5, 0.0]
    assert bound.encode([0.1, 0.5, 1.9]).tolist() == [1, 4]
    assert Binned((3, 4, 5)).bind(box) == bound.bind(box)
    parts = Compose([Choice(), Binned(3)]).bind(spaces.Tuple([spaces.Discrete(2), box]))
    assert parts.decode(parts.encode((1, box.high)))[1].tolist() == [1.0, 0.5, 2.0]


def test_a_pointers_cells_run_right_and_down_from_the_images_top_left() -> None:
    bound = Pointer("front", (2, 4)).bind(spaces.Box(np.float32([0, 0]), np.float32([64, 32])))
    assert bound.slots == (Slot(8, "place", (2, 4), "front"),)
    assert [bound.decode([token]).tolist() for token in (0, 3, 4)] == [[8, 8], [56, 8], [8, 24]]
    assert bound.encode([63, 31]).tolist() == [7]


def test_a_pointers_corners_may_turn_an_axis_round() -> None:
    bound = Pointer("front", (2, 2), top_left=(-1, 1), bottom_right=(1, -1)).bind(spaces.Box(-1, 1, (2,)))
    assert bound.decode([0]).tolist() == [-0.5, 0.5]


def test_compose_cuts_a_box_into_consecutive_pieces() -> None:
    bound = Compose([Binned(3), Binned(2)], sizes=(2, 1)).bind(UNIT)
    assert [slot.choices for slot in bound.slots] == [3, 3, 2]
    assert bound.decode([0, 1, 1]).tolist() == [-1.0, 0.0, 1.0]
    assert bound.decode([0, 1, 1]).dtype == np.float32


def test_compose_orders_its_slots_by_key_whatever_the_configs_order() -> None:
    space = spaces.Dict(arm=spaces.Discrete(2), tool=spaces.Discrete(3))
    one, other = Compose({"tool": Choice(), "arm": Choice()}), Compose({"arm": Choice(), "tool": Choice()})
    assert one.bind(space).decode([1, 2]) == other.bind(space).decode([1, 2]) == {"arm": 1, "tool": 2}


def test_a_variants_unused_slots_hold_nothing() -> None:
    bound = Variant([Choice(), Choice()]).bind(spaces.OneOf([spaces.Discrete(2), spaces.Discrete(2)]))
    assert bound.decode([1, 0, 1]) == (1, 1)
    with pytest.raises(ValueError, match="slot 1 belongs to another kind than 1; expected 0, got 1"):
        bound.decode([1, 1, 0])


def test_a_chunk_tells_how_many_actions_a_decision_is() -> None:
    bound = Chunk(Binned(3), 4).bind(UNIT)
    assert (horizon(bound), horizon(bound.inner)) == (4, 1)
    assert len(bound.slots) == 12
    assert len(bound.decode(np.ones(12, np.int64))) == 4


def test_bound_spaces_are_values() -> None:
    assert Binned().bind(UNIT) == Binned().bind(UNIT)
    assert hash(Chunk(Binned(), 2).bind(UNIT)) == hash(Chunk(Binned(), 2).bind(UNIT))


def test_choice_binds_again_to_the_same_entries_only() -> None:
    with pytest.raises(ValueError, match=r"expected \(2, 3\) alternatives from \(0, 0\); the space has \(3, 2\)"):
        Choice().bind(spaces.MultiDiscrete([2, 3])).bind(spaces.MultiDiscrete([3, 2]))
