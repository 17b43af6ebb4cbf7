"""What the page's messages mean, whatever the actions are; and that no message of whatever kind gets further."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import fakes
from vla_rl import envs
from vla_rl.actions.command import KIND
from vla_rl.cockpit.controls import action_of, controls_of, described, marks_of, told_of
from vla_rl.play.controls import RefusedError
from vla_rl.play.entries import Entries
from vla_rl.play.hand import Hand


class Arm(gymnasium.Env):
    """Moves by x, y, z and fingers."""

    action_names = ("x", "y", "z", "fingers")
    action_space = gymnasium.spaces.Box(np.float32([-1, -1, -1, -1]), np.float32([1, 1, 1, 1]))


class Buttons(gymnasium.Env):
    """Has four actions."""

    action_space = gymnasium.spaces.Discrete(4)


@pytest.fixture(scope="module")
def screen() -> Hand:
    env = envs.make_env("vla_rl/GuiFillForm-v0")
    env.close()
    controls = controls_of(env)
    assert isinstance(controls, Hand)
    return controls


TEXT = "tag is ella and name is walter, pick new, then press submit"


@pytest.mark.parametrize(
    ("asked", "action"),
    [
        ({"do": "move", "keys": ["ArrowRight"]}, [1, 0, 0, 1]),
        ({"do": "move", "keys": ["ArrowUp", "ArrowLeft", "s"]}, [-1, 1, -1, 1]),
        ({"do": "move", "keys": ["ArrowLeft", "ArrowRight"]}, [0, 0, 0, 1]),
        ({"do": "move", "axes": [0.5, -0.25, 0, 0.7]}, [0.5, -0.25, 0, 1]),
        ({"do": "move", "keys": ["ArrowRight"], "axes": [0.5, 0, 0, 0]}, [1, 0, 0, 1]),
        ({"do": "move", "keys": ["Shift", "q"]}, [0, 0, 0, 1]),
        ({"do": "wait"}, [0, 0, 0, 1]),
        ({"do": "fingers"}, [0, 0, 0, -1]),
        ({"do": "entry", "number": 3, "sign": -1}, [0, 0, -1, 1]),
    ],
)
def test_keys_and_sticks_move_an_arm(asked: dict[str, Any], action: list[float]) -> None:
    assert action_of(controls_of(Arm()), asked, "").tolist() == action


def test_fingers_stay_as_they_were_put() -> None:
    controls = controls_of(Arm())
    controls.follow(action_of(controls, {"do": "fingers"}, ""))
    moved = action_of(controls, {"do": "move", "keys": ["ArrowRight"]}, "")
    assert moved.tolist() == [1, 0, 0, -1]
    assert action_of(controls, {"do": "fingers"}, "").tolist() == [0, 0, 0, 1]
    assert told_of(controls, moved, "") == "x +1.00  fingers -1.00"
    assert marks_of(controls, moved) == []


def test_digits_choose() -> None:
    assert action_of(controls_of(Buttons()), {"do": "choose", "number": 3}, "") == 3
    for asked in ({"do": "choose", "number": 4}, {"do": "choose", "number": 1.5}, {"do": "move", "keys": ["w"]}):
        with pytest.raises(RefusedError):
            action_of(controls_of(Buttons()), asked, "")


def test_one_clicks_and_types_in_the_picture(screen: Hand) -> None:
    click = action_of(screen, {"do": "gesture", "kind": "click", "at": [[0.25, 1.0]]}, TEXT)
    assert screen.kinds[int(click[KIND])] == "click"
    assert marks_of(screen, click) == [[0.25, 1.0]]
    assert told_of(screen, click, TEXT).startswith("click ")
    typed = action_of(screen, {"do": "type", "said": "ella"}, TEXT)
    assert told_of(screen, typed, TEXT) == "type ella"
    key = action_of(screen, {"do": "gesture", "kind": "key", "said": "Tab"}, TEXT)
    assert told_of(screen, key, TEXT) == "key Tab"


@pytest.mark.parametrize(
    "asked",
    [
        {"do": "type", "said": "nobody said this"},
        {"do": "type", "said": "x" * 10_000},
        {"do": "type", "said": 5},
        {"do": "gesture", "kind": "click"},
        {"do": "gesture", "kind": "click", "at": [["0", 0]]},
        {"do": "gesture", "kind": "click", "at": [[float("nan"), 0.0]]},
        {"do": "gesture", "kind": ["click"], "at": [[0, 0]]},
        {"do": "gesture", "kind": "fly", "at": [[0, 0]]},
        {"do": "gesture", "kind": "key", "said": "Power"},
        {"do": "move", "keys": ["ArrowRight"]},
        {"do": None},
        {},
    ],
)
def test_what_cannot_be_done_on_a_screen_is_refused(screen: Hand, asked: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        action_of(screen, asked, TEXT)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
WORDS = ("do", "keys", "axes", "kind", "at", "said", "number", "sign")
DONE = ("move", "wait", "fingers", "entry", "choose", "gesture", "type")
ASKED = st.dictionaries(st.sampled_from(WORDS), PLAIN | st.sampled_from([*DONE, "click", "key", "w"]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(asked=ASKED, what=st.sampled_from(DONE))
def test_whatever_arrives_is_an_action_or_is_refused(screen: Hand, asked: dict[str, Any], what: str) -> None:
    for controls in (controls_of(Arm()), controls_of(Buttons()), screen):
        space = screen.space if controls is screen else controls.space  # type: ignore[union-attr]
        try:
            action = action_of(controls, {**asked, "do": what}, TEXT)
        except RefusedError:
            continue
        assert space.contains(action)


def test_the_page_is_told_what_there_is_to_do(screen: Hand) -> None:
    arm, buttons, line = (described(controls_of(env)) for env in (Arm(), Buttons(), fakes.Line()))
    assert (arm["device"], arm["fingers"], arm["axes"]) == ("arm", True, ["x", "y", "z"])
    assert "q" not in arm["keys"]  # nothing turns
    assert (buttons["device"], buttons["choices"]) == ("choice", 4)
    assert line["entries"] == ["a0"]
    told = described(screen)
    assert told["device"] == "screen"
    assert told["kinds"]["click"]["places"] == 1
    assert told["others"] == ["wait"]
    assert all(len(each["help"]) % 2 == 0 for each in (arm, buttons, line, told))


def test_entries_without_a_key_have_a_number() -> None:
    controls = controls_of(fakes.Line())
    assert isinstance(controls, Entries)
    assert action_of(controls, {"do": "entry", "number": 1, "sign": 1}, "").tolist() == [1.0]
