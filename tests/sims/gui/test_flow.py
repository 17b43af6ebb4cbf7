"""Flow: how long it takes, and that something seen early is needed late."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.gui import themes
from vla_rl.specs import TASK


def flow(**kwargs: Any) -> Any:
    return gymnasium.make("vla_rl/GuiFlow-v0", sensors=["instruction"], **kwargs).unwrapped


@pytest.mark.parametrize("turns", [5, 9, 12])
@pytest.mark.parametrize("noted", [False, True])
def test_a_flow_takes_as_many_turns_as_asked_for(turns: int, noted: bool) -> None:
    env = flow(turns=turns, noted=noted)
    for seed in range(5):
        env.reset(seed=seed)
        steps, reward = 0, 0.0
        while not reward:
            _, reward, _, truncated, _ = env.step(env.expert_action())
            steps += 1
            assert not truncated
        assert steps == turns


def test_one_page_wants_what_only_an_earlier_one_shows() -> None:
    env = flow()
    for seed in range(20):
        text = env.reset(seed=seed)[0][TASK]
        pages = env.goal.facts["pages"]
        (late,) = (page for page in pages if page["noted"])
        assert f"{late['topic']} as noted" in text
        notes, ended = [], False
        while not ended:
            title = env.world.find("window").text
            notes += [(env.world.memory["page"], title)] if title.startswith("Note: ") else []
            *_, ended, _, _ = env.step(env.expert_action())
        assert {note for _, note in notes} == {f"Note: {late['wanted']}"}
        assert {number for number, _ in notes} <= set(range(pages.index(late)))


def test_a_page_is_wrong_where_the_note_was_not_minded() -> None:
    env = flow()
    env.reset(seed=0)
    late = next(page for page in env.goal.facts["pages"] if page["noted"])
    wanted, late["wanted"] = late["wanted"], next(each for each in late["options"] if each != late["wanted"])
    while env.world.memory["page"] < len(env.goal.facts["pages"]):
        env.step(env.expert_action())
    finish = env.expert_action()
    late["wanted"] = wanted
    assert not env.step(finish)[4]["is_success"]


@pytest.mark.parametrize("theme", [*themes.THEMES, *themes.HELD_OUT])
def test_every_page_fits_with_its_note(theme: str) -> None:
    env = flow(theme=theme, turns=9)
    for seed in range(8):
        env.reset(seed=seed)
        terminated = False
        while not terminated:
            left, top, wide, high = env.world.find("window").box
            assert 0 <= left <= left + wide <= 96
            assert 0 <= top <= top + high <= 96
            *_, terminated, _, _ = env.step(env.expert_action())
