"""Film strips show whole pictures, with what was done and seen drawn where it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from gymnasium import spaces

from vla_rl.actions.binned import Binned
from vla_rl.actions.command import Command, Commands
from vla_rl.actions.pointer import Pointer
from vla_rl.evaluation.outcome import EvalResult, Outcome, Sight
from vla_rl.media import marks
from vla_rl.media.images import look_alike
from vla_rl.media.marks import ACTION, SEEN, Arrow, Click, Pointed, Words, drawn
from vla_rl.report.drawn import frame_marks, shown, steps_told, told, with_marks

TASK = 'type "blue" into the field'
PLACE = spaces.Box(np.zeros(2, np.float32), np.ones(2, np.float32))
COMMANDS = Commands(
    {"wait": (), "click": ("at",), "drag": ("at", "to"), "type": ("words",), "write": ("text",), "key": ("key",)},
    {
        "at": PLACE,
        "to": PLACE,
        "words": spaces.MultiDiscrete([6, 6]),
        "text": spaces.MultiDiscrete([27] * 4),
        "key": spaces.Discrete(2),
    },
    names={"text": "abcdefghijklmnopqrstuvwxyz", "key": ("Enter", "Tab")},
)
COMMAND = Command(grid=(4, 8)).bind(COMMANDS)


def said(kind: str, **arguments: object) -> tuple[str, list[marks.Mark]]:
    each = told(COMMAND.encode(COMMANDS.command(kind, **arguments)), COMMAND, COMMANDS, TASK)
    return each.said, each.marks


@pytest.mark.parametrize(
    ("kind", "arguments", "words", "expected"),
    [
        ("wait", {}, "wait", [Words("wait")]),
        ("click", {"at": [0.95, 0.1]}, "click", [Click((0.875, -0.75))]),
        ("drag", {"at": [0.05, 0.9], "to": [0.95, 0.9]}, "drag", [Arrow((-0.875, 0.75), (0.875, 0.75), drag=True)]),
        ("type", {"words": [1, 1]}, 'type "blue"', [Words('type "blue"')]),
        ("write", {"text": [8, 9, 0, 0]}, 'write "hi"', [Words('write "hi"')]),
        ("key", {"key": 1}, "key Tab", [Words("key Tab")]),
    ],
)
def test_commands_are_told_and_drawn(
    kind: str, arguments: dict[str, object], words: str, expected: list[marks.Mark]
) -> None:
    assert said(kind, **arguments) == (words, expected)


def test_numbers_are_told_by_their_names() -> None:
    space = spaces.Box(-1, 1, (2,), np.float32)
    binned = Binned(bins=5).bind(space)
    tokens = binned.encode(np.array([0.5, -1.0], np.float32))
    assert told(tokens, binned, space, TASK, ["x", "grip"]).said == "x +0.50, grip -1.00"
    assert told(tokens, binned, space, TASK).said == "+0.50, -1.00"
    pointer = Pointer("front", (2, 2)).bind(PLACE)
    assert told(np.array([3]), pointer, PLACE, TASK).marks == [Click((0.5, 0.5))]


def near(picture: np.ndarray, colour: tuple[int, int, int], at: tuple[float, float], reach: int = 12) -> bool:
    """Whether a picture [H, W, 3] has a pixel about of this colour near a place in [-1, 1]."""
    height, width = picture.shape[:2]
    x, y = round((at[0] + 1) / 2 * (width - 1)), round((at[1] + 1) / 2 * (height - 1))
    part = picture[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1].astype(int)
    return bool((np.abs(part - colour).max(-1) < 30).any())


@pytest.mark.parametrize("size", [(48, 64), (320, 420), (64, 64)])
def test_marks_lie_where_they_belong_on_whole_pictures(size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 120, np.uint8)
    painted = drawn(picture, [Click((0.9, -0.8)), Pointed((-0.7, 0.5), "1"), Arrow((-0.5, -0.5), (0.0, 0.2))])
    assert painted.shape[0] / painted.shape[1] == size[0] / size[1]
    assert max(painted.shape) >= 250
    for colour, at in ((ACTION, (0.9, -0.8)), (SEEN, (-0.7, 0.5)), (ACTION, (0.0, 0.2)), (ACTION, (-0.25, -0.15))):
        assert near(painted, colour, at)
    assert not near(painted, ACTION, (-0.7, 0.5))
    assert not near(painted, SEEN, (0.9, -0.8), 30)
    assert (drawn(picture, []) == 120).all()


def test_long_words_are_shortened_and_a_motion_of_nothing_is_a_dot() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    painted = drawn(picture, [Words('write "' + "long " * 50), Arrow((0.5, 0.0), (0.5, 0.0))])
    assert near(painted, ACTION, (-0.9, 0.92))
    assert near(painted, ACTION, (0.5, 0.0), 4)


@pytest.mark.parametrize("text", ["two\nlines", "\ud800 half", "\u202e turned", "日本語 ✓", "", "   "])
def test_words_of_any_kind_are_drawn(text: str) -> None:
    assert drawn(np.zeros((32, 32, 3), np.uint8), [Words(text)]).shape == (256, 256, 3)


def an_outcome(**changes: object) -> Outcome:
    frames = tuple(np.full((32, 32, 3), 100 + step, np.uint8) for step in range(3))
    pointers = np.array([[[0.5, 0.5, 0.9], [0.1, 0.1, 0.2], [-0.5, -0.5, 0.8]]] * 2, np.float32)
    sight = Sight("screen", frames, (TASK, TASK), pointers)
    tokens = np.stack(
        [COMMAND.encode(COMMANDS.command("click", at=[0.9, 0.1])), COMMAND.encode(COMMANDS.command("wait"))]
    )
    whole = Outcome(1_000_000, TASK, True, 1.0, 1.0, 2, False, tokens, frames=frames, sight=sight)
    return dataclasses.replace(whole, **changes)


def test_each_frame_has_the_decision_made_there_and_the_pointers_that_are_sure() -> None:
    outcome = an_outcome()
    assert outcome.sight is not None
    first, second, last = frame_marks(outcome, outcome.sight, COMMAND, COMMANDS)
    assert first == [Pointed((0.5, 0.5), "1"), Pointed((-0.5, -0.5), "hand"), Click((0.875, -0.75))]
    assert second[-1] == Words("wait")
    assert last == []
    assert [each.said for each in steps_told(outcome, COMMAND, COMMANDS)] == ["click", "wait"]


def test_the_hands_motion_is_an_arrow_on_the_frame_before_it() -> None:
    hand = ((0.0, 0.0), (0.2, 0.0), (0.2, 0.4))
    outcome = an_outcome()
    assert outcome.sight is not None
    sight = dataclasses.replace(outcome.sight, hand=hand)
    first, second, last = frame_marks(outcome, sight, COMMAND, COMMANDS)
    assert first[-1] == Arrow(hand[0], hand[1])
    assert second[-1] == Arrow(hand[1], hand[2])
    assert last == []


def test_places_of_another_camera_are_not_drawn_on_this_one() -> None:
    outcome = an_outcome()
    assert outcome.sight is not None
    marks_of = frame_marks(outcome, dataclasses.replace(outcome.sight, camera="wrist"), COMMAND, COMMANDS)
    assert not any(isinstance(mark, Click) for each in marks_of for mark in each)


def test_a_film_of_another_view_stays_as_it_is_and_the_strip_shows_what_was_seen() -> None:
    result = EvalResult("x", (an_outcome(),))
    (same,) = with_marks(result, COMMAND, COMMANDS).outcomes
    assert same.sight is not None
    assert same.frames == same.sight.pictures
    assert near(same.frames[0], ACTION, (0.875, -0.75))
    film = tuple(np.full((40, 40, 3), 7, np.uint8) for _ in range(3))
    sight = dataclasses.replace(an_outcome().sight, same_view=False)  # type: ignore[type-var]
    (other,) = with_marks(EvalResult("x", (an_outcome(frames=film, sight=sight),)), COMMAND, COMMANDS).outcomes
    assert other.frames == film
    assert other.sight is not None
    assert near(other.sight.pictures[0], ACTION, (0.875, -0.75))


def test_films_of_several_tasks_are_named_by_them() -> None:
    result = EvalResult("x", (an_outcome(), an_outcome(seed=1_000_001, success=False), an_outcome(frames=None)))
    assert list(shown({"": result}, COMMAND, COMMANDS)) == ["success", "failure"]
    assert list(shown({"a": result, "b": EvalResult("b", ())}, COMMAND, COMMANDS)) == ["a/success", "a/failure"]


def test_pictures_of_one_view_are_told_from_those_of_another() -> None:
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    large = small.repeat(4, 0).repeat(4, 1)
    assert look_alike(small, large)
    assert not look_alike(small, large[:, ::-1])
    assert not look_alike(small, large[:100])
