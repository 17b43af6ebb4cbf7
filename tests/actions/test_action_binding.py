"""Binding proves an action space: what it encodes is what is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from vla_rl.actions import Command, Commands
from vla_rl.envs import bind_tokens
from vla_rl.registry import ConfigError
from vla_rl.specs import Slot


@pytest.mark.parametrize(("name", "space"), [("characters", [3, 3, 3]), ("span", [4, 4])])
def test_numbers_that_stand_alone_are_not_taken_for_a_text(name: str, space: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"action_space: .* of MultiDiscrete.* would be carried out as \["):
        bind_tokens(name, spaces.MultiDiscrete(space))


@dataclass(frozen=True)
class Wheel:
    """Speeds of -1, 0 and 1, one token; `fault` says what is wrong with it."""

    fault: str = ""

    def bind(self, space: Any) -> Wheel:
        return self

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (Slot(3),)

    def mask(self, prefix: np.ndarray) -> np.ndarray | None:
        return np.tile([False, True, True], (len(prefix), 1)) if self.fault == "masked" else None

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        return np.array([(float(tokens[0]) - 1) * (2 if self.fault == "outside" else 1)])

    def encode(self, action: Any) -> np.ndarray:
        if self.fault == "lazy":
            return np.array([1])
        turn = -1 if self.fault == "reversed" else 1
        return np.array([int(np.rint(turn * action[0])) + 1])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("lazy", r"Wheel: \[-?1.0\], which tokens \[.\] mean, becomes \[0.0\]"),
        ("reversed", r"Wheel: \[-?1.0\], which tokens"),
        ("outside", r"Wheel: tokens \[.\] mean no action: \[-?2.0\] does not lie in Box"),
    ],
)
def test_an_own_action_space_that_does_something_else_is_refused(fault: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"action_space: {message}"):
        bind_tokens(Wheel(fault), spaces.Box(-1, 1, (1,)))


@pytest.mark.parametrize("fault", ["", "masked"])
def test_an_own_action_space_that_does_as_it_says_is_bound(fault: str) -> None:
    assert bind_tokens(Wheel(fault), spaces.Box(-1, 1, (1,))) == Wheel(fault)


def test_binding_leaves_the_environments_random_actions_as_they_were() -> None:
    space = spaces.MultiDiscrete([9, 9, 9], seed=3)
    expected = spaces.MultiDiscrete([9, 9, 9], seed=3).sample()
    bind_tokens("choice", space)
    assert np.array_equal(space.sample(), expected)


def test_two_characters_with_names_are_a_text_and_no_span() -> None:
    space = Commands({"write": ("text",)}, {"text": spaces.MultiDiscrete([3, 3])}, names={"text": "ab"})
    bound = bind_tokens(Command(), space)
    said = space.command("write", text=(2, 1))
    assert np.array_equal(bound.decode(bound.encode(said))["text"], [2, 1])
