"""Gestures survive their actions, in every frame; what cannot be written says so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sims.screen.interaction import KEYS, TAKES, Gesture, Interaction, Tool
from vla_rl.actions import Command, uniform
from vla_rl.actions.command import Commands
from vla_rl.specs import words_of

SIZE = (160, 210)
TEXT = "Type \"hello world\" into the (big) field, then press 'ok'."
EVERYTHING = Interaction(gestures=tuple(TAKES), keys=KEYS)
ZOOM, LOOKUP = Tool("zoom", ("at",), 0.1), Tool("lookup", ("words",), 0.2)

places = st.tuples(st.floats(0, SIZE[0]), st.floats(0, SIZE[1]))


@st.composite
def gestures(draw: st.DrawFn) -> Gesture:
    kind = draw(st.sampled_from([*TAKES, "zoom", "lookup"]))
    takes = TAKES.get(kind) or {"zoom": ("at",), "lookup": ("words",)}.get(kind, ())
    words = words_of(TEXT)
    first = draw(st.integers(0, len(words) - 1))
    last = draw(st.integers(first, len(words) - 1))
    return Gesture(
        kind,
        at=draw(places) if "at" in takes else None,
        to=draw(places) if "to" in takes else None,
        text=TEXT[words[first][0] : words[last][1]]
        if "words" in takes
        else draw(st.text(EVERYTHING.characters, max_size=EVERYTHING.length))
        if "text" in takes
        else "",
        key=draw(st.sampled_from(KEYS)) if "key" in takes else "",
    )


@given(gestures(), st.sampled_from(["pixels", "unit", "thousand"]))
@settings(deadline=None)
def test_a_gesture_survives_its_action(gesture: Gesture, frame: str) -> None:
    hand = Interaction(gestures=tuple(TAKES), keys=KEYS, frame=frame)  # type: ignore[arg-type]
    space = hand.space(SIZE, [ZOOM, LOOKUP])
    found = hand.read(hand.write(gesture, space, SIZE, TEXT), space, SIZE, TEXT)
    assert (found.kind, found.text, found.key) == (gesture.kind, gesture.text, gesture.key)
    for mine, its in ((found.at, gesture.at), (found.to, gesture.to)):
        assert (mine is None) == (its is None)
        if its is not None:
            np.testing.assert_allclose(mine, its, atol=1e-3)


def test_every_random_action_and_every_decision_can_be_read() -> None:
    space = EVERYTHING.space(SIZE, [ZOOM, LOOKUP])
    space.seed(0)
    command = Command(grid=(7, 5)).bind(space)
    kinds = set()
    for tokens in uniform(command, np.random.default_rng(0), 300):
        for action in (space.sample(), command.decode(tokens)):
            gesture = EVERYTHING.read(action, space, SIZE, TEXT)
            kinds.add(gesture.kind)
            for place in (gesture.at, gesture.to):
                assert place is None or (0 <= place[0] <= SIZE[0] and 0 <= place[1] <= SIZE[1])
            assert not gesture.text or gesture.kind == "write" or gesture.text in TEXT
    assert kinds == {*TAKES, "zoom", "lookup"}


def test_only_the_kinds_that_are_allowed_are_used_and_others_are_refused() -> None:
    space = EVERYTHING.space(SIZE, [ZOOM])
    command = Command(grid=(7, 5), kinds=("click", "zoom")).bind(space)
    drawn = {space.kinds[row[0]] for row in uniform(command, np.random.default_rng(0), 100)}
    assert drawn == {"click", "zoom"}
    command.encode(space.command("click", at=(3, 4)))
    with pytest.raises(ValueError, match="one of the kinds click, zoom"):
        command.encode(space.command("done"))
    with pytest.raises(ValueError, match="did you mean 'click'"):
        Command(kinds=("clik",)).bind(space)
    with pytest.raises(ValueError, match="at least one"):
        Command(kinds=())


def test_waiting_comes_first_and_is_always_there() -> None:
    assert Interaction(("key", "click")).gestures == ("wait", "click", "key")
    assert "key" not in Interaction(("click",)).space(SIZE).spaces


def test_a_span_beyond_the_words_ends_with_the_last_one() -> None:
    hand = Interaction(words=24)
    space = hand.space(SIZE)
    last = len(words_of(TEXT)) - 1
    read = [hand.read(space.command("type", words=words), space, SIZE, TEXT).text for words in ((last, 23), (20, 23))]
    assert read == ["ok", ""]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"gestures": ("klick",)}, "gestures: no 'klick'; did you mean 'click'"),
        ({"keys": ("enter",)}, "keys: no 'enter'; did you mean 'Enter'"),
        ({"frame": "percent"}, "frame: one of pixels, unit, thousand; got 'percent'"),
        ({"words": 0}, "at least one"),
    ],
)
def test_what_there_is_not_is_refused(arguments: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Interaction(**arguments)


def test_what_cannot_be_written_says_so() -> None:
    hand = Interaction(("type", "write", "key"), keys=("Enter",), characters="ab", length=2)
    space = hand.space(SIZE)
    for gesture, said in (
        (Gesture("type", text="goodbye"), "does not stand among"),
        (Gesture("write", text="abc"), "at most 2"),
        (Gesture("key", key="Tab"), "no key 'Tab'"),
        (Gesture("click", at=(0, 0)), "no gesture 'click'"),
    ):
        with pytest.raises(ValueError, match=said):
            hand.write(gesture, space, SIZE, TEXT)
    with pytest.raises(ValueError, match="an action is a command"):
        hand.read({"kind": 1}, space, SIZE, TEXT)


def test_a_space_says_what_its_keys_and_characters_are_called() -> None:
    space = Interaction(("write", "key"), characters="ab").space(SIZE)
    assert space.names == {"text": ("a", "b"), "key": ("Enter", "Tab")}
    assert space != Interaction(("write", "key"), characters="ba").space(SIZE)
    assert Interaction(("click",)).space(SIZE).names == {}
    for names in ({"key": ("Enter",)}, {"keys": ("Enter", "Tab")}):
        with pytest.raises(ValueError, match="do not fit"):
            Commands({"key": ("key",)}, {"key": space["key"]}, names=names)
