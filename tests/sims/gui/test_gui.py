"""Drawn screens: what widgets do, what is drawn again, what sensors read, and that everything fits."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.gui import layout, themes
from sims.gui.choices import Radio, Slider
from sims.gui.containers import ScrollArea, Table, Tabs, Window
from sims.gui.controls import Button, Field, Label
from sims.gui.menus import Menu, Popup, Row
from sims.gui.paint import style_of
from sims.gui.screen import Screen
from sims.gui.widget import Event
from sims.gui.words import HELD_OUT_WORDS, LABELS
from sims.register import SCREENS
from sims.screen.interaction import Gesture
from sims.vocabulary import HELD_OUT_COMBINATIONS
from vla_rl import config, envs
from vla_rl.actions.command import Command
from vla_rl.data.flat import pack
from vla_rl.specs import IMAGES, STATE, TASK

SCREEN = IMAGES + "screen"
ALL = {**themes.THEMES, **themes.HELD_OUT}


def screen_of(*widgets, size=(96, 96), theme="light") -> Screen:
    made = Screen(size)
    made.clear(ALL[theme], ALL[theme].fonts[0])
    made.widgets.extend(widgets)
    made.change()
    return made


def click(screen: Screen, name: str) -> None:
    screen.do(Gesture("click", at=screen.where(name).middle))


def press(screen: Screen, *keys: str) -> None:
    for key in keys:
        screen.do(Gesture("key", key=key))


def form() -> Screen:
    return screen_of(
        Window(
            "window",
            (4, 4, 88, 88),
            "Form",
            [
                Field("a", (8, 20, 40, 12), "city", value="old"),
                Field("b", (8, 36, 40, 12), "name"),
                Button("ok", (8, 52, 30, 12), "OK", default=True),
            ],
        )
    )


def test_a_click_selects_what_a_field_holds_so_that_typing_replaces_it():
    screen = form()
    click(screen, "a")
    assert (screen.focus, screen.focused) == ("a", "city")
    screen.do(Gesture("type", text="new town"))
    assert screen.find("a").value == "new town"
    screen.do(Gesture("write", text="s"))
    assert screen.find("a").value == "new towns"


def test_keys_edit_where_the_caret_is():
    screen = form()
    click(screen, "a")
    press(screen, "ArrowLeft", "Backspace")
    assert screen.find("a").value == "od"
    press(screen, "Delete")
    assert screen.find("a").value == "o"
    screen.do(Gesture("type", text="n"))
    assert screen.find("a").value == "on"
    press(screen, "SelectAll", "Backspace", "Backspace")
    assert screen.find("a").value == ""


def test_nothing_is_typed_without_a_focus_and_a_field_holds_only_so_much():
    screen = form()
    screen.do(Gesture("type", text="x"))
    assert screen.find("a").value == "old"
    click(screen, "b")
    for _ in range(20):
        screen.do(Gesture("write", text="0123456789"))
    assert len(screen.find("b").value) == 60


def test_tab_goes_round_and_enter_presses_the_default_button():
    screen = form()
    order = []
    for _ in range(4):
        press(screen, "Tab")
        order.append(screen.focus)
    assert order == ["a", "b", "ok", "a"]
    press(screen, "Enter")
    assert screen.events == [Event("ok", "press")]
    assert screen.find("ok").down
    screen.do(Gesture("wait"))
    assert not screen.find("ok").down


def test_a_modal_window_takes_everything():
    screen = form()
    dialog = Window("dialog", (10, 40, 60, 40), "?", [Button("yes", (14, 60, 30, 12), "Yes")], modal=True)
    screen.widgets.append(dialog)
    screen.change()
    click(screen, "a")
    assert screen.focus == ""
    press(screen, "Tab", "Tab")
    assert screen.focus == "yes"
    assert not screen.shown("a")


def menus() -> Screen:
    inner = Popup("p2", (0, 0, 0, 0), [Menu("pdf", (0, 0, 0, 0), "Pdf")])
    items = [Menu("save", (0, 0, 0, 0), "Save"), Menu("export", (0, 0, 0, 0), "Export", inner)]
    bar = [
        Menu("file", (0, 0, 0, 0), "File", Popup("p1", (0, 0, 0, 0), items), in_bar=True),
        Menu(
            "edit",
            (0, 0, 0, 0),
            "Edit",
            Popup("p3", (0, 0, 0, 0), [Menu("undo", (0, 0, 0, 0), "Undo")]),
            in_bar=True,
        ),
    ]
    screen = screen_of()
    layout.menu_bar(screen.style, (2, 2), bar)
    screen.widgets.extend(bar)
    screen.change()
    return screen


def test_menus_open_lead_on_and_close():
    screen = menus()
    click(screen, "file")
    click(screen, "export")
    click(screen, "pdf")
    assert screen.happened("pdf", "choose")
    assert screen.find("save") is None
    click(screen, "file")
    click(screen, "edit")
    assert (screen.find("save"), bool(screen.find("undo"))) == (None, True)
    screen.do(Gesture("click", at=(90, 90)))
    assert screen.find("undo") is None
    click(screen, "file")
    press(screen, "Escape")
    assert screen.find("save") is None


def test_a_list_scrolls_by_wheel_and_bar_and_hides_what_is_outside():
    rows = [Row(f"r{i}", (11, 11 + 12 * i, 50, 12), f"Row {i}") for i in range(10)]
    area = ScrollArea("list", (10, 10, 60, 50), rows, content=120)
    screen = screen_of(area)
    assert screen.shown("r0")
    assert not screen.shown("r8")
    screen.do(Gesture("click", at=(20, 70)))  # where r5 would be, below the area
    assert screen.events == []
    for _ in range(9):
        screen.do(Gesture("scroll_down", at=screen.where("list").middle))
    assert area.offset == area.furthest == 120 - 48
    click(screen, "r8")
    assert screen.happened("r8", "press")
    screen.do(Gesture("drag", at=(67, 50), to=(67, 5)))
    assert area.offset == 0


def test_sliders_follow_a_pull_a_click_and_keys():
    knob = Slider("s", (10, 10, 70, 14), "s", value=20)
    screen = screen_of(knob)
    places = {value: knob.place_of(screen.style, value) for value in range(0, 101, 10)}
    for value, (x, y) in places.items():
        screen.do(Gesture("drag", at=(12, 17), to=(10 + x, 10 + y)))
        assert knob.value == value
    press(screen, "ArrowLeft")
    assert knob.value == 90


def test_tabs_tables_and_radio_buttons_keep_one_choice():
    radios = [Radio(f"r{i}", (8, 30 + 12 * i, 40, 11), f"R{i}", "g") for i in range(2)]
    tabs = Tabs("tabs", (4, 10, 88, 60), ["One", "Two"], [list(radios), [Label("l", (8, 30, 40, 12), "here")]])
    table = Table("table", (4, 70, 80, 26), ("A", "B"), [("1", "2")], (40, 40))
    screen = screen_of(tabs, table)
    click(screen, "r0")
    click(screen, "r1")
    assert [radio.chosen for radio in radios] == [False, True]
    press(screen, "ArrowUp")
    assert [radio.chosen for radio in radios] == [True, False]
    start, _ = tabs.spans(screen.style)[1]
    screen.do(Gesture("click", at=(4 + start + 3, 14)))
    assert (tabs.active, bool(screen.find("l")), screen.find("r0")) == (1, True, None)
    screen.do(Gesture("click", at=(20, 70 + screen.style.row + 4)))
    assert (table.chosen, screen.events) == (0, [Event("table", "select")])


@pytest.mark.parametrize("env_id", SCREENS)
def test_what_is_kept_between_steps_is_what_would_be_drawn_anew(env_id):
    env = gymnasium.make(env_id, horizon=12, sensors=["screenshot", "instruction"]).unwrapped
    fresh = Screen(env.world.size, env.world.kinds)
    env.action_space.seed(1)
    env.reset(seed=1)
    for step in range(12):
        action = env.expert_action() if step % 2 else env.action_space.sample()
        observation, _, terminated, truncated, _ = env.step(action)
        fresh.restore(env.world.snapshot())
        np.testing.assert_array_equal(observation[SCREEN], fresh.screenshot())
        if terminated or truncated:
            break


@pytest.mark.parametrize("env_id", SCREENS)
def test_everything_fits_in_every_theme_font_and_size(env_id):
    for size in ((96, 96), (320, 240)):
        for theme in ALL:
            env = gymnasium.make(env_id, theme=theme, size=size, sensors=["screenshot", "instruction"]).unwrapped
            for seed in range(len(ALL[theme].fonts) + 1):
                observation, _ = env.reset(seed=seed)
                assert observation[SCREEN].shape == (size[1], size[0], 3)
                assert env.world.style.font in ALL[theme].fonts
                for placed in env.world.placed():
                    if type(placed.widget) in (Button, Field, Window):
                        x, y, (_, _, wide, high) = placed.x, placed.y, placed.widget.box
                        assert 0 <= x <= x + wide <= size[0], placed
                        assert 0 <= y <= y + high <= size[1], placed


def test_words_fit_on_their_buttons_and_fonts_have_every_letter():
    for theme in ALL.values():
        for font in theme.fonts:
            style = style_of(theme, font, 1.0)
            assert max(style.width(word.capitalize()) for word in LABELS) <= 56
            letters = string.ascii_letters + string.digits
            assert len({style.mask(letter).tobytes() for letter in letters}) >= len(letters) - 2  # such as I and l


def test_held_out_themes_fonts_words_and_pairs_are_apart_from_training():
    fonts = {font for theme in themes.THEMES.values() for font in theme.fonts}
    held = {font for theme in themes.HELD_OUT.values() for font in theme.fonts}
    assert (len(themes.THEMES) >= 6, len(fonts) >= 5, len(held & fonts)) == (True, True, 0)
    assert len(LABELS) >= 60
    env = gymnasium.make("vla_rl/GuiClickLabel-v0", theme="held_out", split="words").unwrapped
    for seed in range(5):
        env.reset(seed=seed)
        assert env.world.style.theme.name in themes.HELD_OUT
        assert env._goal.words[0] in HELD_OUT_WORDS
    env = gymnasium.make("vla_rl/GuiFillForm-v0", split="train").unwrapped
    for seed in range(10):
        env.reset(seed=seed)
        assert env.world.style.theme.name in themes.THEMES
        assert HELD_OUT_WORDS.isdisjoint(env._goal.words)
    env = gymnasium.make("vla_rl/GuiClickShape-v0", split="combination").unwrapped
    for seed in range(5):
        env.reset(seed=seed)
        assert env._goal.pairs[0] in HELD_OUT_COMBINATIONS


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"theme": "ligth"}, "did you mean 'light'"),
        ({"split": "word"}, "did you mean 'words'"),
        ({"size": (64, 64)}, "from 96 to 2048"),
        ({"gestures": ["clik"]}, "did you mean 'click'"),
        ({"tools": ["close_up"]}, "no tool of screens"),
        ({"buttons": 9}, r"buttons must lie in \[2, 6\]"),
        ({"sensors": [{"type": "screenshot", "crop": True}]}, "both for a crop"),
        ({"sensors": ["camera"]}, "camera"),
    ],
)
def test_what_does_not_fit_is_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make("vla_rl/GuiClickLabel-v0", **kwargs)


def test_sensors_read_what_is_there():
    sensors = [
        "screenshot",
        {"type": "screenshot", "name": "small", "width": 48, "height": 32},
        {"type": "screenshot", "name": "near", "width": 20, "height": 10, "crop": True},
        "cursor",
        {"type": "last_gestures", "count": 2},
        "instruction",
        "focused",
    ]
    env = gymnasium.make("vla_rl/GuiTypeAndSubmit-v0", sensors=sensors).unwrapped
    observation, _ = env.reset(seed=0)
    kinds = len(env.action_space.kinds)
    assert observation[STATE].shape == (2 + 2 * (5 + kinds),)
    assert observation[STATE][2 :: 5 + kinds].tolist() == [1, 1]
    assert observation[TASK] == env.world.instruction
    observation, *_ = env.step(env.expert_action())
    assert env.observation_space.contains(observation)
    assert observation[TASK].endswith("\nfocused: field")
    x, y = (int(place) for place in env.world.cursor)
    np.testing.assert_array_equal(
        observation[IMAGES + "near"], observation[SCREEN][y - 5 : y + 5, x - 10 : x + 10], strict=True
    )
    latest = observation[STATE][2 : 7 + kinds]
    assert latest[0] == 0
    assert latest[1 + env.action_space.kinds.index("click")] == 1
    np.testing.assert_allclose(latest[-4:-2], observation[STATE][:2])
    assert observation[IMAGES + "small"].shape == (32, 48, 3)


def test_the_last_gestures_are_marks_where_the_hand_was():
    env = gymnasium.make("vla_rl/GuiTypeAndSubmit-v0", sensors=["screenshot", "cursor", "last_gestures"])
    env.reset(seed=0)
    for _ in range(2):
        observation, *_ = env.step(env.unwrapped.expert_action())
    state, kinds = observation[STATE], env.unwrapped.action_space.kinds
    latest, before = envs.marks(env)
    assert (latest.camera, len(latest.flags)) == ("screen", len(kinds))
    done = [[kinds[i] for i, flag in enumerate(mark.flags) if state[flag]] for mark in (latest, before)]
    assert done == [["type"], ["click"]]
    for mark in (latest, before):  # typing has no place of its own: the hand was where it had clicked
        np.testing.assert_array_equal(state[mark.at : mark.at + 2], state[:2])
    assert envs.marks(gymnasium.make("vla_rl/GuiTypeAndSubmit-v0", sensors=["screenshot", "instruction"])) == ()


@pytest.mark.parametrize("frame", ["pixels", "unit", "thousand"])
def test_the_expert_acts_in_every_frame(frame):
    env = gymnasium.make("vla_rl/GuiDragSlider-v0", frame=frame).unwrapped
    env.reset(seed=0)
    assert env.action_space["at"].high.tolist() == {"pixels": [96, 96], "unit": [1, 1], "thousand": [1000, 1000]}[frame]
    assert env.step(env.expert_action())[4]["is_success"]


@dataclass(frozen=True)
class Echo:
    """Says what is below the cursor."""

    name: str = "echo"
    takes: tuple[str, ...] = ("at",)
    cost: float = 0.25

    def call(self, screen: Screen, gesture: Gesture) -> str:
        return f"secret {len(screen.gestures)}"


def test_what_a_tool_answers_can_be_read_and_typed():
    env = gymnasium.make("vla_rl/GuiTypeAndSubmit-v0", tools=[Echo()], sensors=["screenshot", "instruction", "answer"])
    env = env.unwrapped
    env.reset(seed=0)
    observation, reward, *_, info = env.step(env.action(Gesture("echo", at=(3, 3))))
    assert (reward, info["cost"]) == (0, 0.25)
    assert observation[TASK] == f"{env.world.instruction}\nsecret 1"
    env.step(env.expert_action())
    env.step(env.action(Gesture("type", text="secret")))
    assert env.world.find("field").value == "secret"


@pytest.mark.parametrize("env_id", SCREENS)
def test_tokens_are_exact_enough_for_the_expert_and_a_config_names_every_number(env_id):
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", env_id.removeprefix("vla_rl/").removesuffix("-v0")).lower()
    run = config.load([f"env={name}", "action_space.type=command"])
    assert run.env.id == env_id
    env = gymnasium.make(env_id, sensors=["last_gestures", "instruction"]).unwrapped
    tokens = Command().bind(env.action_space)
    for seed in range(5):
        env.reset(seed=seed)
        assert len(pack(env.expert_action(), env.action_space)) == len(run.env.actions)
        ended = False
        while not ended:
            *_, terminated, ended, info = env.step(tokens.decode(tokens.encode(env.expert_action())))
            ended = ended or terminated
        assert info["is_success"]


def test_things_are_what_can_be_clicked_and_how():
    env = gymnasium.make("vla_rl/GuiDialog-v0", sensors=["instruction"]).unwrapped
    env.reset(seed=0)
    while not env.world.gestures:  # a dialog is in the way: what is behind it is none of them
        within = {each.widget.text.lower() for each in env.world.reachable() if getattr(each.widget, "text", "")}
        things = dict(env.things())
        assert things
        assert things.keys() <= within
        env.step(next(iter(things.values())))
    assert env.world._at(*env.world.gestures[0].at) is not None
