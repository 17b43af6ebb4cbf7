"""What a training keeps for people: who has which lane and how long, what may be asked, and what it costs."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests import fakes
from vla_rl.actions import Binned, Choice, Chunk, Variant
from vla_rl.algorithms.algorithm import Decision
from vla_rl.cockpit import wire
from vla_rl.cockpit.desk import Attached, Desk
from vla_rl.cockpit.holds import AHEAD, GRACE, IDLE, Holds
from vla_rl.envs.vector import Steps
from vla_rl.play.controls import RefusedError
from vla_rl.rollout.pilot import SUCCESS, Turn
from vla_rl.specs import STATE, TASK

LANES, TOKENS = 3, Binned(bins=5).bind(fakes.Line().action_space)
NOBODY = np.zeros(LANES, bool)
WHOLE = slice(0, LANES)


class Clock:
    """The time, which passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(clock: Clock) -> Desk:
    """A desk that somebody watches."""
    made = Desk(LANES, TOKENS, cameras=[fakes.CAMERA], holds=Holds(clock))
    made.joined()
    return made


def seen() -> dict[str, Any]:
    pictures = np.arange(LANES, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 8, 8, 3), np.uint8)
    return {fakes.CAMERA: pictures, STATE: np.zeros((LANES, 1), np.float32), TASK: ["go"] * LANES}


def turn(desk: Desk, final: np.ndarray = NOBODY) -> Turn:
    return desk.turn(WHOLE, seen(), final, Decision(np.full((LANES, 1), 2), {}))


def came(desk: Desk, done: Turn, infos: list[dict[str, Any]] | None = None, over: np.ndarray = NOBODY) -> None:
    steps = Steps(seen(), np.ones(LANES), over, NOBODY, infos or [{}] * LANES)
    desk.saw(WHOLE, steps, ~done.rests, NOBODY)


def ask(desk: Desk, what: str, **more: Any) -> dict[str, Any]:
    return desk.answer({"ask": what, "who": "me", **more})[0]


def test_nothing_is_done_while_nobody_looks() -> None:
    desk, decision = Desk(LANES, TOKENS), Decision(np.full((LANES, 1), 2), {})
    got = desk.turn(WHOLE, seen(), NOBODY, decision)
    assert got.decision is decision
    assert got.whole
    desk.joined()
    assert desk.answer({"ask": "look", "lanes": [0]})[0]["pictures"] == []


def test_a_lane_that_is_taken_over_rests_until_there_is_a_decision_for_it(desk: Desk) -> None:
    ask(desk, "take", lane=1)
    assert turn(desk).rests.tolist() == [False, True, False]
    ask(desk, "act", tokens=[4])
    ask(desk, "act", tokens=[0])
    first, second, third = turn(desk), turn(desk), turn(desk)
    assert first.decision.tokens.ravel().tolist() == [2, 4, 2]
    assert first.shown.tolist() == [False, True, False]
    assert second.decision.tokens.ravel().tolist() == [2, 0, 2]
    assert third.rests.tolist() == [False, True, False]
    ask(desk, "give")
    assert turn(desk).whole


def test_a_newer_movement_takes_the_place_of_one_that_waits(desk: Desk) -> None:
    ask(desk, "take", lane=0)
    ask(desk, "act", tokens=[4])
    ask(desk, "act", tokens=[1], newest=True)
    assert turn(desk).decision.tokens.ravel().tolist() == [1, 2, 2]
    assert turn(desk).rests[0]


def test_an_episode_that_is_over_never_rests(desk: Desk) -> None:
    ask(desk, "take", lane=1)
    ask(desk, "act", tokens=[4])
    over = np.array([False, True, False])
    assert turn(desk, over).whole
    assert turn(desk).decision.tokens[1] == 4  # what waits is of the next one


def test_whoever_is_gone_hands_back(desk: Desk, clock: Clock) -> None:
    ask(desk, "take", lane=1)
    clock.now = GRACE - 1
    ask(desk, "keep")
    clock.now = 2 * GRACE - 2
    assert turn(desk).rests[1]
    clock.now = 2 * GRACE
    assert turn(desk).whole
    with pytest.raises(RefusedError, match="take over first"):
        ask(desk, "act", tokens=[4])


def test_whoever_does_nothing_hands_back(desk: Desk, clock: Clock) -> None:
    ask(desk, "take", lane=1)
    while clock.now < IDLE:
        assert turn(desk).rests[1]
        clock.now += GRACE / 2
        ask(desk, "keep")
    clock.now += GRACE / 2
    assert turn(desk).whole


def test_everything_is_handed_back_when_the_last_viewer_goes(desk: Desk) -> None:
    ask(desk, "take", lane=1)
    desk.left()
    desk.joined()
    assert turn(desk).whole


def test_a_lane_has_one_person_and_a_person_one_lane(desk: Desk) -> None:
    ask(desk, "take", lane=1)
    with pytest.raises(RefusedError, match="somebody else"):
        ask(desk, "take", lane=1, who="you")
    ask(desk, "take", lane=1)  # whose page was loaded again
    ask(desk, "take", lane=2)
    assert desk.answer({"ask": "look"})[0]["held"] == {"2": "me"}
    ask(desk, "take", lane=1, who="you")


def test_a_person_who_is_faster_than_the_world_is_told(desk: Desk) -> None:
    ask(desk, "take", lane=0)
    for _ in range(AHEAD):
        ask(desk, "act", tokens=[4])
    with pytest.raises(RefusedError, match="slower than you"):
        ask(desk, "act", tokens=[4])


@pytest.mark.parametrize(
    "tokens", [None, [], [5], [-1], [1.5], [True, 1], "4", [[4]], [10**30], {"0": 4}, ["4"], [None]]
)
def test_what_is_no_decision_is_refused(desk: Desk, tokens: Any) -> None:
    ask(desk, "take", lane=0)
    with pytest.raises(RefusedError):
        ask(desk, "act", tokens=tokens)
    assert turn(desk).rests[0]


@pytest.mark.parametrize("lane", [-1, LANES, None, "0", 1.0])
def test_a_lane_that_there_is_not_is_refused(desk: Desk, lane: Any) -> None:
    with pytest.raises(RefusedError):
        ask(desk, "take", lane=lane)


def test_a_grammar_holds_for_people_too() -> None:

    space = gymnasium.spaces.OneOf([gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(4)])
    desk = Desk(1, Variant((Choice(), Choice())).bind(space))
    desk.joined()
    ask(desk, "take", lane=0)
    ask(desk, "act", tokens=desk._tokens.encode((1, 3)).tolist())
    with pytest.raises(RefusedError, match="no decision of this action space"):
        ask(desk, "act", tokens=[0, 1, 3])


def test_people_say_how_an_episode_ends_where_nothing_else_does(desk: Desk) -> None:
    came(desk, turn(desk))
    ask(desk, "take", lane=1)
    ask(desk, "label", lane=1, success=True, tokens=[2])
    judged = turn(desk)
    assert judged.verdict.tolist() == [0, SUCCESS, 0]
    assert judged.shown.tolist() == [False, True, False]
    came(desk, judged, [{}, {"is_success": True}, {}], np.array([False, True, False]))
    look = desk.answer({"ask": "look"})[0]
    assert look["ended"] == ["", "success", ""]
    assert look["labels"]  # what a person said does not mean that the environment says such things
    ask(desk, "label", lane=2, success=False)  # of a lane that the policy is at
    assert turn(desk).verdict.tolist() == [0, 0, -1]
    came(desk, turn(desk), [{"is_success": False}] * LANES)
    with pytest.raises(RefusedError, match="itself tells"):
        ask(desk, "label", lane=2, success=True)


def test_nobody_judges_what_somebody_else_flies(desk: Desk) -> None:
    ask(desk, "take", lane=1)
    with pytest.raises(RefusedError, match="somebody else"):
        ask(desk, "label", lane=1, success=True, who="you")


def test_pictures_come_once_they_have_changed(desk: Desk) -> None:
    came(desk, turn(desk))
    turn(desk)
    look, blobs = desk.answer({"ask": "look", "lanes": [0, 2]})
    assert [(each["lane"], each["text"], each["tokens"]) for each in look["pictures"]] == [
        (0, "go", [2]),
        (2, "go", [2]),
    ]
    assert blobs == [bytes([0]) * 192, bytes([2]) * 192]
    versions = {str(lane): version for lane, version in enumerate(look["version"])}
    assert desk.answer({"ask": "look", "lanes": [0, 2], "seen": versions})[1] == []
    ask(desk, "take", lane=0)
    came(desk, turn(desk))
    turn(desk)
    again, _ = desk.answer({"ask": "look", "lanes": [0, 2], "seen": versions})
    assert [each["lane"] for each in again["pictures"]] == [2]  # lane 0 has rested


def test_pointers_are_told_as_shares_of_the_picture() -> None:
    desk = Desk(LANES, TOKENS, cameras=[fakes.CAMERA], stack=2)
    desk.joined()
    places = np.zeros((LANES, 10, 2), np.float32)
    places[1, 5] = (-1, 1)  # the first pointer of the newer view
    features = {"places": places, "confidence": np.full((LANES, 10), 0.5, np.float32)}
    desk.turn(WHOLE, seen(), NOBODY, Decision(np.full((LANES, 1), 2), features))
    (camera,) = desk.answer({"ask": "look", "lanes": [1]})[0]["pictures"][0]["cameras"]
    assert camera["pointers"] == [[0.0, 1.0, 0.5], *[[0.5, 0.5, 0.5]] * 4]


def test_q_is_worked_out_of_the_lane_that_is_looked_at() -> None:
    asked: list[int] = []

    def worth(observation: Any, decision: Decision, row: int) -> float:
        asked.append(row)
        return 0.25

    desk = Desk(LANES, TOKENS, worth=worth)
    desk.joined()
    turn(desk)
    assert asked == []
    desk.answer({"ask": "look", "lanes": [], "value": [2]})
    turn(desk)
    assert asked == [2]
    assert desk.answer({"ask": "look", "value": [2]})[0]["values"] == {"2": [(0, 0, 0.25)]}


def test_a_chunk_is_one_decision() -> None:
    tokens = Chunk(Binned(bins=5), horizon=2).bind(fakes.Line().action_space)
    desk = Desk(1, tokens)
    desk.joined()
    ask(desk, "take", lane=0)
    ask(desk, "act", tokens=[4, 4])


def test_another_process_asks_through_a_socket_of_the_user_alone(tmp_path: Path) -> None:
    attached = Attached(tmp_path, Desk(LANES, TOKENS))
    said = tmp_path / wire.ADDRESS
    assert stat.S_IMODE(said.stat().st_mode) == 0o600
    address = Path(json.loads(said.read_text())["socket"])
    assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
    with socket.socket(socket.AF_UNIX) as one, one.makefile("rwb") as stream:
        one.connect(str(address))
        wire.write(stream, {"ask": "about"})
        assert wire.read(stream, wire.MOST_TOLD)[0]["lanes"] == LANES
        wire.write(stream, {"ask": "take", "who": "me", "lane": 99})
        assert "lanes go from 0" in wire.read(stream, wire.MOST_TOLD)[0]["refused"]
        wire.write(stream, {"ask": "x" * wire.MOST_ASKED})
        with pytest.raises(wire.WireError, match="gone"):
            wire.read(stream, wire.MOST_TOLD)
    attached.close()
    assert not said.exists()
    assert not address.parent.exists()


@pytest.mark.parametrize(
    "data", [b"\xff" * 8, b"\x00\x00\x00\x02\x00\x00\x00\x00[]", b"\x00\x00\x00\x03\x00\x00\x00\x00{x}", b"\x00"]
)
def test_what_is_no_message_ends_the_talk_and_nothing_else(tmp_path: Path, data: bytes) -> None:
    attached = Attached(tmp_path, Desk(LANES, TOKENS))
    address = json.loads((tmp_path / wire.ADDRESS).read_text())["socket"]
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(address)
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        assert one.recv(10) == b""
    with socket.socket(socket.AF_UNIX) as one, one.makefile("rwb") as stream:
        one.connect(address)
        wire.write(stream, {"ask": "about"})
        assert wire.read(stream, wire.MOST_TOLD)[0]["lanes"] == LANES
    attached.close()
