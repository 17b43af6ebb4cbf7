"""What can be read on a drawn screen: now, in its fields, and on the screens before."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.gui import themes
from sims.gui.choices import Checkbox, Radio, Slider
from sims.gui.containers import Table, Tabs, Window
from sims.gui.controls import Button, Field, Label
from sims.gui.files import File
from sims.gui.screen import Screen
from sims.gui.widget import Widget
from sims.observe import spelled
from sims.register import SCREENS
from sims.screen.interaction import Gesture
from sims.screen.sensors import Entered, Notebook, Written
from vla_rl.registry import ConfigError
from vla_rl.specs import TASK

READING = ["instruction", "notebook", "entered", "written"]


def screen_of(*widgets: Widget) -> Screen:
    theme = themes.THEMES["light"]
    made = Screen((96, 96))
    made.clear(theme, theme.fonts[0])
    made.widgets.extend(widgets)
    made.change()
    return made


def texts(screen: Screen) -> list[str]:
    return [text for text, _ in screen.written()]


def test_it_is_read_line_by_line_from_the_top() -> None:
    below, right, left = (
        Button("a", (4, 60, 30, 14), "Send"),
        Label("b", (50, 20, 30, 12), "City"),
        Label("c", (4, 21, 30, 12), "Plan"),
    )
    screen = screen_of(below, right, left)
    assert texts(screen) == ["Plan", "City", "Send"]
    assert Written().read(screen) == "shown: plan, city, send"


def test_what_is_covered_cut_off_or_scrolled_away_is_not_read() -> None:
    hidden, shown = Button("a", (20, 30, 40, 14), "Below"), Button("b", (4, 80, 40, 14), "Beside")
    above = Window("w", (10, 20, 60, 40), "Above", [Label("l", (14, 40, 40, 12), "Part")])
    outside = Button("c", (90, 4, 40, 14), "Outside")
    assert texts(screen_of(hidden, shown, outside, above)) == ["Above", "Part", "Beside"]


def test_an_enlarged_part_is_all_that_is_read() -> None:
    fine = File("f", (4, 4, 40, 12), "Report", fine=1.5)
    screen = screen_of(fine, Button("b", (50, 80, 40, 14), "Send"))
    assert texts(screen) == ["Send"]
    screen.enlarge((0, 0, 48, 48))
    assert texts(screen) == ["Report"]


def test_what_stands_in_fields_and_what_is_chosen_is_said_apart() -> None:
    things: list[Widget] = [
        Field("f", (4, 4, 60, 14), "city", "lima"),
        Field("p", (4, 20, 60, 14), "code", "secret", secret=True),
        Radio("r", (4, 36, 40, 12), "Large", "size", chosen=True),
        Checkbox("c", (4, 50, 40, 12), "Mail"),
        Slider("s", (4, 66, 60, 10), "Volume"),
    ]
    screen = screen_of(*things)
    assert texts(screen) == ["field", "field", "Large", "Mail"]
    assert screen.entered() == ["lima", "Large"]
    assert Entered().read(screen) == "entered: lima, large"
    assert Entered().read(screen_of()) == "entered:"


def test_titles_of_tabs_and_cells_of_tables_are_read() -> None:
    tabs = Tabs("t", (4, 4, 80, 40), ["One", "Two"], [[], []])
    table = Table("r", (4, 46, 88, 40), ("Name", "Age"), [("Ada", "36"), ("Bo", "7")], (44, 44), chosen=1)
    screen = screen_of(tabs, table)
    assert texts(screen) == ["One", "Two", "Name", "Age", "Ada", "36", "Bo", "7"]
    assert screen.entered() == ["Bo"]


def test_it_can_be_told_where_a_text_stands() -> None:
    tabs = Tabs("t", (48, 0, 48, 30), ["One"], [[]])
    table = Table("r", (0, 48, 96, 48), ("Name", "Age"), [("Ada", "36")], (48, 48))
    screen = screen_of(Window("w", (0, 0, 48, 48), "Top", [Button("b", (12, 24, 24, 12), "Save")]), tabs, table)
    said = Written(places=True).read(screen)
    assert "save <25,31>" in said
    row = screen.style.row / 96
    assert f"name <25,{round(50 + 50 * row)}>, age <75," in said
    assert f"36 <75,{round(50 + 150 * row)}>" in said
    screen.enlarge((0, 0, 48, 48))
    assert "save <50,62>" in Written(places=True).read(screen)
    env: Any = gymnasium.make("vla_rl/GuiCalculator-v0", sensors=[{"type": "written", "places": True}]).unwrapped
    text = env.reset(seed=0)[0][TASK]
    for key in "789-456+123=c0":
        x, y = env.world.where(key.upper()).middle
        assert f" {key} <{round(x / 0.96)},{round(y / 0.96)}>" in text


def test_a_line_is_cut_at_whole_texts() -> None:
    screen = screen_of()
    screen.noted = tuple(f"text {number:02d}" for number in range(40))
    said = Notebook(length=100).read(screen)
    assert len(said) <= 100
    assert said.startswith("noted: text ")
    assert said.endswith("text 39")
    with pytest.raises(ValueError, match="length must be at least 80, got 10"):
        Notebook(length=10).spec(screen)


def test_the_notebook_keeps_what_earlier_pages_showed() -> None:
    env: Any = gymnasium.make("vla_rl/GuiFlow-v0", sensors=READING).unwrapped
    for seed in range(10):
        text, ended = env.reset(seed=seed)[0][TASK], False
        page = next(page for page in env.goal.facts["pages"] if page["noted"])
        while not ended:
            noted, shown = text.splitlines()[1], text.splitlines()[3]
            assert set(shown.removeprefix("shown: ").split(", ")) >= {env.world.find("window").text.lower()}
            if env.world.memory["page"] == env.goal.facts["pages"].index(page):
                assert f"note: {page['wanted']}" in noted
                assert "note:" not in shown
            seen, _, ended, *_ = env.step(env.expert_action())
            text = seen[TASK]
        assert env.reset(seed=seed)[0][TASK].count("noted:") == 1
        assert len(env.world.noted) <= 2  # a new episode begins with an empty notebook


def test_a_snapshot_holds_the_notebook() -> None:
    env: Any = gymnasium.make("vla_rl/GuiFlow-v0", sensors=READING).unwrapped
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.expert_action())
    kept, noted = env.snapshot(), env.world.noted
    env.reset(seed=1)
    env.restore(kept)
    assert env.world.noted == noted


def test_numbers_are_said_digit_by_digit() -> None:
    assert spelled("compute 12+7, then 105 - 3") == "compute 1 2 + 7, then 1 0 5 - 3"
    assert spelled("as-is, route b2") == "as-is, route b2"
    digits = [{"type": "instruction", "digits": True}, {"type": "entered", "digits": True}, {"type": "written"}]
    env: Any = gymnasium.make("vla_rl/GuiCalculator-v0", sensors=digits).unwrapped
    env.reset(seed=3)
    for key in ("1", "2", "+"):
        middle = env.world.where(key).middle
        said = env.step(env.action(Gesture("click", at=middle)))[0][TASK]
    assert said.splitlines()[1] == "entered: 1 2 +"
    assert said.splitlines()[2].endswith("7, 8, 9, -, 4, 5, 6, +, 1, 2, 3, =, c, 0")


@pytest.mark.parametrize("env_id", SCREENS)
def test_every_screen_can_be_read(env_id: str) -> None:
    env = gymnasium.make(env_id, sensors=READING).unwrapped
    for seed in range(3):
        seen, _ = env.reset(seed=seed)
        assert env.observation_space.contains(seen)
        assert "\nshown: " in seen[TASK]


def test_a_table_top_has_nothing_that_is_read() -> None:
    with pytest.raises(ConfigError, match=r"written.*nothing that it reads"):
        gymnasium.make("vla_rl/Reach-v0", sensors=["instruction", "written"])
