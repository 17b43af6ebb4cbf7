"""Whether an action space carries out what it encodes, and whether an action is one of a space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from action_strategies import binned, choices, commands, composed, pointers, several, variants
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_rl.actions import Chunk, Commands
from vla_rl.actions.fit import fitted, prove

PROVEN = binned() | choices() | several() | pointers() | commands()


@given(PROVEN | composed(PROVEN) | variants(PROVEN), st.integers(1, 2))
@settings(max_examples=40, deadline=None)
def test_every_action_space_of_ours_is_proven(case: Any, steps: int) -> None:
    unbound, space = case
    prove((Chunk(unbound, steps) if steps > 1 else unbound).bind(space), space)


def test_random_commands_have_one_spelling() -> None:
    arguments = {"text": spaces.MultiDiscrete([3] * 4), "words": spaces.MultiDiscrete([5, 5])}
    space = Commands({"write": ("text",), "copy": ("words",)}, arguments, seed=0)
    for _ in range(50):
        drawn = space.sample()
        text, (first, last) = drawn["text"].tolist(), drawn["words"]
        assert first <= last
        assert 0 not in text or not any(text[text.index(0) :])


def test_an_action_is_fitted_to_the_dtypes_of_its_space() -> None:
    space = spaces.Dict(arm=spaces.Box(-1, 1, (2,)), tool=spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)]))
    found = fitted({"arm": [0.1, 1], "tool": (1, np.array([0, 1]))}, space)
    assert found["arm"].dtype == np.float32
    assert found["tool"][1].dtype == np.int8
    for wrong in ({"arm": [0.1, 2], "tool": (1, [0, 1])}, {"arm": [0.1, 1]}, [0.1], {"arm": [0, 0], "tool": (1, 0.5)}):
        with pytest.raises(ValueError, match="does not lie in Dict"):
            fitted(wrong, space)
    with pytest.raises(ValueError, match=r"\[0.5\] does not lie in Box"):
        fitted([0.5], spaces.Box(0, 9, (1,), np.int32))
