"""A person plays on drawn screens and pages, by lines and in the window; what is kept can be cloned from."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

import sims  # noqa: F401  (registers the environments)
from sims.screen.interaction import Gesture
from tests.play.players import say, window
from tests.sims.web.browsers import form, needs_browser
from vla_rl import cli, config
from vla_rl.actions.command import KIND, Commands
from vla_rl.data import demos
from vla_rl.play.controls import RefusedError
from vla_rl.play.hand import Hand
from vla_rl.play.hand_pad import HandPad
from vla_rl.play.session import SIDE, Session
from vla_rl.registry import ConfigError
from vla_rl.sft import sft
from vla_rl.specs import IMAGES, TASK

TYPE = "vla_rl/GuiTypeAndSubmit-v0"
EVERYTHING = ["click", "double_click", "drag", "scroll_up", "scroll_down", "type", "write", "key", "done"]


@pytest.fixture
def desk(tmp_path: Path) -> Session:
    """The desk with its tools, and every gesture."""
    sensors = [{"type": "screenshot"}, {"type": "instruction"}, {"type": "answer"}]
    tools = ["zoom", "read", "lookup"]
    env = gymnasium.make("vla_rl/GuiDesk-v0", sensors=sensors, gestures=EVERYTHING, coded=1.0, flawed=0.0, tools=tools)
    return Session(env, tmp_path / "demos")


def gestures(session: Session) -> list[Gesture]:
    """What the screen took for done."""
    return session.env.unwrapped.world.gestures  # type: ignore[attr-defined]


def dictated(env: gymnasium.Env, seed: int) -> list[str]:
    """The lines that do what the expert does."""
    observation, _ = env.reset(seed=seed)
    hand, lines, ended = Hand(env.action_space), list[str](), False  # type: ignore[arg-type]
    while not ended:
        action = env.unwrapped.expert_action()  # type: ignore[attr-defined]
        lines.append(hand.told(action, observation[TASK]))
        observation, _, ended, _, _ = env.step(action)
    return lines


# By lines


def test_a_screen_is_played_by_lines_and_trains(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = dictated(gymnasium.make(TYPE), 0)
    assert [line.split()[0] for line in lines] == ["click", "type", "click"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*lines, "save"])))
    assert cli.main(["play", "gui_type_and_submit", "--lines", f"demos.path={tmp_path}/demos"]) == 0
    assert "1 episode(s) kept" in capsys.readouterr().out
    (episode,) = demos.load(tmp_path / "demos")
    assert len(episode) == 3
    assert episode.reward.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(episode.action, episode.label)
    run = config.load([*quick, "env=gui_type_and_submit", "action_space.type=command"], command="sft")
    assert (sft(run) / "pretrained_model" / "config.json").is_file()


@pytest.mark.parametrize("frame", ["pixels", "unit", "thousand"])
def test_places_are_said_as_the_space_counts_them(frame: str, tmp_path: Path) -> None:
    session = Session(gymnasium.make(TYPE, frame=frame, size=(160, 120)), tmp_path / "demos")
    said = {"pixels": "40 90", "unit": "0.25 0.75", "thousand": "250 750"}[frame]
    answers = say(session, tmp_path, f"click {said}", "click 2000 0", "help")
    assert gestures(session) == [Gesture("click", at=(40, 90))]
    end = {"pixels": 160, "unit": 1, "thousand": 1000}[frame]
    assert answers[1].startswith(f"? 2000 is not in [0, {end}]")
    assert any(f"X: from 0 to {end}" in line for line in answers)


def test_every_gesture_can_be_said(desk: Session, tmp_path: Path) -> None:
    env: Any = desk.env.unwrapped
    word = desk.text.split()[-1]
    lines = [
        *("drag 0 0 0.5 1", "double_click 0.5 0.5", "scroll_down 0 0.5 2", f"type {word}", "write b-2 !", "key Enter"),
        *(f"lookup {word}", "wait", ""),
    ]
    say(desk, tmp_path, *lines)
    assert [(each.kind, each.at, each.to, each.text, each.key) for each in gestures(desk)] == [
        ("drag", (0, 0), (48, 96), "", ""),
        ("double_click", (48, 48), None, "", ""),
        *[("scroll_down", (0, 48), None, "", "")] * 2,
        ("type", None, None, word, ""),
        ("write", None, None, "b-2 !", ""),
        ("key", None, None, "", env.interaction.keys[0]),
        ("lookup", None, None, word, ""),
        *[("wait", None, None, "", "")] * 2,
    ]
    hand: Any = desk.controls
    steps = [hand.told(env.action(each), desk.text) for each in gestures(desk)]
    assert steps == [*lines[:2], *["scroll_down 0 0.5"] * 2, *lines[3:7], "wait", "wait"]


def test_what_a_tool_answers_is_told_and_can_be_said(desk: Session, tmp_path: Path) -> None:
    facts = desk.env.unwrapped.goal.facts  # type: ignore[attr-defined]
    tool, name = next(each["name"] for each in facts["tools"] if each["kind"] == "translate"), facts["name"]
    desk.env.unwrapped.world.memory["left"] = None  # type: ignore[attr-defined]
    assert f" | {facts['word']} is {name}'; episode" in say(desk, tmp_path, f"call 0.5 0.5 {tool}")[0]
    say(desk, tmp_path, f"type {name}")
    assert gestures(desk)[-1].text == name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("clik 0.5 0.5", "cannot read 'clik'; did you mean 'click'?"),
        ("hepl", "cannot read 'hepl'; did you mean 'help'?"),
        ("0.5 0.5", "cannot read '0.5'"),
        ("click 0.5", "click: say `click X Y [STEPS]`; got 'click 0.5'"),
        ("click 0.5 low", "click: 'low' is no number"),
        ("click 0.5 nan", "click: 'nan' is no number"),
        ("click 0.5 -1", "-1 is not in [0, 1]"),
        ("click 0.5 0.5 0.5", "'0.5': expected the number of steps"),
        ("type", "type: say `type WORDS`; got 'type'"),
        ("type fiel", "only words of the text can be said here, not 'fiel'; did you mean 'file'?"),
        ("type file open", "'file open' does not stand like this in the text"),
        ("lookup nobody", "only words of the text"),
        ("write caf\u00e9", "'\u00e9' cannot be written here"),
        ("write abcdefghijklm", "at most 12 characters can be written at once, not 13"),
        ("key Entr", "no key 'Entr'; did you mean 'Enter'?"),
        ("key", "key: say `key KEY [STEPS]`"),
        ("done it", "'it': expected the number of steps"),
        ("zoom", "zoom: say `zoom X Y [STEPS]`"),
    ],
)
def test_a_bad_line_is_answered_and_changes_nothing(line: str, message: str, desk: Session, tmp_path: Path) -> None:
    desk.tape.observation[TASK] = "open the file"  # whatever the episode's words are
    (answer,) = say(desk, tmp_path, line)
    assert answer.startswith("? ")
    assert message in answer
    assert not len(desk.tape)


def test_show_draws_the_screen_large_whatever_is_observed_of_it(tmp_path: Path) -> None:
    sensors = [{"type": "screenshot", "name": "near", "width": 32, "height": 32, "crop": True}, {"type": "instruction"}]
    session = Session(gymnasium.make(TYPE, sensors=sensors), tmp_path / "demos")
    with Image.open(say(session, tmp_path, "show")[0]) as picture:
        assert picture.size == (SIDE, SIDE)
        shown = np.asarray(picture)
    times = SIDE // 96
    np.testing.assert_array_equal(shown[::times, ::times], session.env.unwrapped.world.screenshot())  # type: ignore[attr-defined]


def test_an_expert_that_does_not_know_how_to_go_on_says_so(
    desk: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise ValueError("only a part is shown")

    monkeypatch.setattr(desk.env.unwrapped, "expert_action", lost)
    assert say(desk, tmp_path, "expert") == ["? the expert does not know how to go on: only a part is shown"]


class Panel(gymnasium.Env):
    """A screen of somebody else's: two pictures, commands whose choices have no names; `turn` by 2 is right."""

    def __init__(self, part: spaces.Space | None = None) -> None:
        image = spaces.Box(0, 255, (8, 16, 3), np.uint8)
        views = {f"{IMAGES}{name}": image for name in ("front", "wrist")}
        self.observation_space = spaces.Dict({**views, TASK: spaces.Text(9)})
        place = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 4], np.float32))
        arguments = {"how": part or spaces.Discrete(3, start=1), "where": place}
        self.action_space = Commands({"tap": ("where",), "turn": ("how", "where")}, arguments)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        super().reset(seed=seed)
        return {key: np.zeros((8, 16, 3), np.uint8) for key in self.observation_space if key != TASK} | {TASK: "go"}, {}

    def step(self, action: dict[str, Any]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.taken = action
        right = bool(action[KIND] == 1 and action["how"] == 2)
        return self.reset()[0], float(right), right, False, {"is_success": right}


def test_commands_of_others_are_played_by_what_their_space_says(tmp_path: Path) -> None:
    session = Session(Panel(), tmp_path / "demos")
    assert session.picture().size == (2 * SIDE, SIDE)  # the front alone
    answers = say(session, tmp_path, "", "turn 0 0 4", "turn -0.5 4 2", "save")
    assert answers[0] == "? tap: say `tap X Y [STEPS]`; got ''"
    assert answers[1] == "? no how '4'; known: 1, 2, 3"
    assert answers[3].startswith("kept")
    assert session.env.unwrapped.taken["where"].tolist() == [-0.5, 4]  # type: ignore[attr-defined]


def test_commands_that_cannot_be_said_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'how', which a person cannot say"):
        Session(Panel(spaces.MultiBinary(3)), tmp_path / "demos")


@needs_browser
def test_a_page_is_played_by_lines(tmp_path: Path) -> None:
    gestures = ["click", "type", "write", "key", "scroll_down"]
    env = form(tmp_path, size=(240, 160), gestures=gestures, frame="pixels")
    try:
        lines = dictated(env, 0)
        session = Session(env, tmp_path / "demos")
        assert session.picture().size == (720, 480)
        answers = say(session, tmp_path, "key End", *lines, "save")
    finally:
        env.close()
    assert answers[0].startswith("? no key 'End'")
    assert [line.split()[0] for line in lines] == ["click", "type", "click"]
    assert "kept: an episode of 3 steps" in answers[-2]


# In the window


class Waits(list[Callable[[], str | None]]):
    """What shall be done later, until it is."""

    def __call__(self, milliseconds: int, act: Callable[[], str | None]) -> None:
        self.append(act)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def pad(desk: Session, waits: Waits) -> HandPad:
    """Mouse and keyboard on the desk, shown four times as large as it is."""
    made = HandPad(desk, desk.controls, waits)  # type: ignore[arg-type]
    made.size = (384, 384)
    return made


def write(pad: HandPad, text: str) -> None:
    for letter in text:
        pad.key(letter, letter)


def click(pad: HandPad, x: int, y: int, to: tuple[int, int] | None = None) -> str | None:
    pad.press(x, y)
    return pad.release(*(to or (x, y)))


def test_a_click_waits_for_a_second_one(pad: HandPad, waits: Waits, desk: Session) -> None:
    click(pad, 200, 100)
    assert not len(desk.tape)
    waits[0]()
    assert gestures(desk)[0] == Gesture("click", at=pytest.approx((50.125, 25.125)))
    click(pad, 200, 100)
    click(pad, 202, 100)
    waits[1]()
    click(pad, 200, 100)
    click(pad, 20, 10)  # elsewhere: another click, not a second one
    pad.key("F1", "")
    assert [each.kind for each in gestures(desk)] == ["click", "double_click", "click", "click", "wait"]
    for act in waits:
        act()
    assert len(desk.tape) == 5


def test_a_click_is_sent_at_once_where_there_is_no_double_click(tmp_path: Path, waits: Waits) -> None:
    session = Session(gymnasium.make(TYPE), tmp_path / "demos")
    pad = HandPad(session, session.controls, waits)  # type: ignore[arg-type]
    pad.size = (96, 96)
    click(pad, 0, 95)
    assert gestures(session) == [Gesture("click", at=pytest.approx((0.5, 95.5), rel=1e-5))]
    assert not waits
    with pytest.raises(RefusedError, match="no 'drag' here"):
        click(pad, 0, 0, to=(50, 50))
    with pytest.raises(RefusedError, match="no 'double_click' here; did you mean"):
        session.controls.command("double_click", (), "", "")  # type: ignore[union-attr]


def test_the_mouse_drags_and_scrolls(pad: HandPad, desk: Session) -> None:
    click(pad, 40, 80, to=(500, 200))  # let go beyond the picture
    pad.move(8, 16)
    pad.wheel(up=True)
    pad.wheel(up=False)
    ends = [(each.kind, each.at, each.to) for each in gestures(desk)]
    assert ends == [
        ("drag", pytest.approx((10.125, 20.125)), pytest.approx((95.875, 50.125))),
        ("scroll_up", pytest.approx((2.125, 4.125)), None),
        ("scroll_down", pytest.approx((2.125, 4.125)), None),
    ]
    assert click(pad, 500, 20) is None
    pad.move(-1, 5)
    with pytest.raises(RefusedError, match="point at the picture"):
        pad.wheel(up=True)
    assert len(desk.tape) == 3


def test_what_is_typed_is_words_of_the_text_or_else_written(pad: HandPad, desk: Session) -> None:
    word = desk.text.split()[-1]
    write(pad, f"{word}x")
    assert pad.prompt == f"> {word}x_"
    pad.key("BackSpace", "")
    assert pad.key("Return", "") == f"type {word}"
    write(pad, "a b?")
    pad.key("Return", "")
    write(pad, "forgotten")
    pad.key("Escape", "")
    pad.key("Return", "")
    did = [(each.kind, each.text or each.key) for each in gestures(desk)]
    assert did == [("type", word), ("write", "a b?"), ("key", "Enter")]
    write(pad, "much too long to be written")
    with pytest.raises(RefusedError, match="at most 12 characters"):
        pad.key("Return", "")
    with pytest.raises(RefusedError, match="enter sends 'much too long"):
        pad.key("F1", "")
    with pytest.raises(RefusedError, match="escape forgets it"):
        click(pad, 5, 5)
    assert len(desk.tape) == 3


def test_only_words_can_be_typed_where_nothing_can_be_written(tmp_path: Path, waits: Waits) -> None:
    session = Session(gymnasium.make(TYPE), tmp_path / "demos")
    pad = HandPad(session, session.controls, waits)  # type: ignore[arg-type]
    write(pad, "xyzzy")
    with pytest.raises(RefusedError, match="only words of the text can be said here, not 'xyzzy'"):
        pad.key("Return", "")
    assert pad.prompt == "> xyzzy_"
    assert not len(session.tape)
    session = Session(gymnasium.make(TYPE, gestures=["click", "key"], keys=["Enter"]), tmp_path / "demos")
    pad = HandPad(session, session.controls, waits)  # type: ignore[arg-type]
    assert pad.prompt == ""
    for name, letter in (("x", "x"), ("Left", "")):
        with pytest.raises(RefusedError, match="no key"):
            pad.key(name, letter)
    assert pad.key("Shift_L", "") is None
    assert pad.key("KP_Enter", "") == "key Enter"


def test_other_kinds_have_function_keys(pad: HandPad, desk: Session) -> None:
    assert any("F1: wait, F2: done, F3: call at the mouse" in line for line in pad.help)
    assert any("F6: lookup with what is typed" in line for line in pad.help)
    word = desk.text.split()[-1]
    pad.move(40, 80)
    pad.key("F5", "")
    with pytest.raises(RefusedError, match="type what lookup shall take first, then press F6"):
        pad.key("F6", "")
    write(pad, word)
    assert pad.key("F6", "") == f"lookup {word}"
    did = [(each.kind, each.at, each.text) for each in gestures(desk)]
    assert did == [("read", pytest.approx((10.125, 20.125)), ""), ("lookup", None, word)]


def test_keys_of_a_browser_are_pressed_as_they_are(tmp_path: Path, waits: Waits) -> None:
    env = gymnasium.make(TYPE, keys=["Enter", "SelectAll", "ArrowLeft", "Backspace"])
    session = Session(env, tmp_path / "demos")
    pad = HandPad(session, session.controls, waits)  # type: ignore[arg-type]
    for name in ("Control-a", "Left", "BackSpace"):
        pad.key(name, "")
    assert [each.key for each in gestures(session)] == ["SelectAll", "ArrowLeft", "Backspace"]


def test_mouse_and_keyboard_in_a_real_window(screen: None, tmp_path: Path) -> None:
    session = Session(gymnasium.make(TYPE), tmp_path / "demos")
    made, press = window(session)
    env: Any = session.env.unwrapped
    left, top = made.scene.winfo_rootx(), made.scene.winfo_rooty()

    def point() -> None:
        x, y = (int(SIDE / 96 * place) for place in env.task.expert(env.world, env.goal).at)
        press("<Motion>", "<ButtonPress-1>", "<ButtonRelease-1>", rootx=left + x, rooty=top + y)

    point()
    word = env.task.expert(env.world, env.goal).text
    press(*(f"<Key-{letter}>" for letter in word))
    assert made.prompt["text"] == f"> {word}_"
    press("<Return>")
    assert f"type {word}" in made.status["text"]
    press("<Left>")
    assert "no key 'ArrowLeft' here" in made.status["text"]
    point()
    assert "SUCCESS" in made.status["text"]
    press("<Control-s>", "<Control-e>", "<Control-d>")
    assert "dropped 1 step(s)" in made.status["text"]
    press("<Control-q>")
    (kept,) = demos.load(tmp_path / "demos")
    assert len(kept) == 3
