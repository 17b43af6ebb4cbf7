"""The desk with tools that are given as text: what is seen, what is answered, what is counted."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.gui import offers, themes
from sims.gui.tasks.desk import CODED, NAMED, Desk
from sims.observe import INSTRUCTION_LENGTH
from sims.screen.interaction import Gesture
from vla_rl.specs import IMAGES, TASK, words_of

SCREEN = IMAGES + "screen"
PLAIN: dict[str, Any] = {"unreadable": 1.0, "coded": 0.0, "flawed": 0.0, "budgeted": 0.0}
"""Names that cannot be read, and tools that always answer."""


def desk(**kwargs: Any) -> Any:
    return gymnasium.make("vla_rl/GuiDesk-v0", **kwargs).unwrapped


def tool(env: Any, kind: str) -> dict[str, Any]:
    """A tool of the episode; changing it changes the episode, but not what the instruction says."""
    return next(each for each in env.goal.facts["tools"] if each["kind"] == kind)


def call(env: Any, kind: str, file: int = 0):
    """What comes back of a call of the tool of a kind."""
    at = env.world.where(f"file{file}").middle
    return env.step(env.action(Gesture("call", at=at, text=tool(env, kind)["name"])))


def open_file(env: Any, file: int):
    env.step(env.action(Gesture("click", at=env.world.where(f"file{file}").middle)))
    return env.step(env.action(Gesture("key", key="Enter")))


def wrong(env: Any) -> int:
    """A file that is not wanted."""
    return (env.goal.facts["wanted"] + 1) % env.task.files


def answer(observation: Any) -> str:
    return observation[TASK].split("\n")[-1]


def rename(env: Any) -> np.ndarray:
    """The screen, had the files other names."""
    for number, text in enumerate(("Ab", "Cde", "Fghij", "K")):
        env.world.find(f"file{number}").text = text
    env.world.change()
    return env.world.screenshot()


@pytest.mark.parametrize("size", [(96, 96), (320, 240)])
def test_names_are_told_by_the_picture_only_where_they_are_readable(size: tuple[int, int]) -> None:
    for unreadable in (0.0, 1.0):
        env = desk(unreadable=unreadable, size=size)
        seen = env.reset(seed=0)[0][SCREEN]
        assert np.array_equal(seen, rename(env)) == bool(unreadable)


def test_prices_flaws_budgets_and_tools_are_drawn_and_said() -> None:
    env = desk(files=6)
    prices, flaws, budgets = set(), set(), set()
    for seed in range(60):
        text = env.reset(seed=seed)[0][TASK]
        for each in env.goal.facts["tools"]:
            assert f"{each['name']}: {each['does']}, {each['price']} cents" in text
        prices |= set(re.findall(r"(\d+) cents[,;\n]|(\d+) cents$", text))
        flaws |= set(re.findall(r"fails 1 in 2|lies 1 in 4|takes 3 turns", text))
        budgets |= set(re.findall(r"pay at most (\d+) cents", text))
        assert env.observation_space.contains(env.reset(seed=seed)[0])
    assert {int(one or other) for one, other in prices} >= {2, 5, 10, 20, 40}
    assert (len(flaws), budgets) == (3, {"10", "30", "60"})


def test_the_longest_instruction_can_be_shown_and_every_name_be_copied() -> None:
    said, words = "", 0
    for kind, texts in offers.TEXTS.items():
        listed = [
            offers.ToolText(kind, *text, price=40, **flaw) for text in texts for flaw in ({"fails": 4}, {"turns": 3})
        ]
        said += "; " + max((tool.said for tool in listed), key=len)
        words = max(words, max(len(words_of(tool.said)) for tool in listed))
    longest = max((text.format("x" * 8) for text in (*NAMED, *CODED)), key=len) + "; pay at most 60 cents"
    assert len(longest + said) <= INSTRUCTION_LENGTH
    assert len(words_of(longest)) + 3 * words < Desk.interaction.words  # the last tool's name, after three others


def test_answers_build_on_each_other() -> None:
    env = desk(**PLAIN | {"coded": 1.0}, files=5)
    env.reset(seed=3)
    facts = env.goal.facts
    row = facts["wanted"] + 1
    assert answer(call(env, "find")[0]) == "which name?"
    assert answer(call(env, "translate")[0]) == f"{facts['word']} is {facts['name']}"
    assert answer(call(env, "check", wrong(env))[0]) == f"no, row {wrong(env) + 1}"
    assert answer(call(env, "check", facts["wanted"])[0]) == f"yes, row {row}"
    observation, *_, info = call(env, "find")
    assert answer(observation) == f"{facts['name']} is in row {row}"
    assert info["cost"] == pytest.approx(tool(env, "find")["price"] / 100)
    assert env.step(env.action(Gesture("key", key="Enter")))[4]["is_success"]  # it is selected


def test_tools_fail_lie_are_slow_and_of_no_use() -> None:
    env = desk(**PLAIN)
    env.reset(seed=1)
    tool(env, "check")["fails"] = 2
    answers = [answer(call(env, "check", wrong(env))[0]) for _ in range(12)]
    assert set(answers) == {"no answer", f"no, row {wrong(env) + 1}"}
    assert answer(call(env, "idle")[0]) == "a fine day"
    tool(env, "find")["turns"] = 3
    assert answer(call(env, "find")[0]) == "working"
    assert not open_file(env, env.goal.facts["wanted"])[4]["is_success"]  # the hand waits for the answer
    assert answer(env.step(env.action(Gesture("wait")))[0]).endswith(f"is in row {env.goal.facts['wanted'] + 1}")
    lies = []
    env = desk(**PLAIN | {"flawed": 1.0}, sensors=["instruction", "answer"])
    for seed in range(200):
        env.reset(seed=seed)
        if tool(env, "find")["lies"] == 2:
            lies.append(env.goal.facts["told"] != env.goal.facts["wanted"])
    assert 0.25 < np.mean(lies) < 0.75


def test_calls_beyond_the_budget_are_refused_and_cost_nothing() -> None:
    env = desk(**PLAIN | {"budgeted": 1.0}, prices=(0.2,), budgets=(0.3,))
    assert "pay at most 30 cents" in env.reset(seed=0)[0][TASK]
    assert call(env, "check", wrong(env))[4]["cost"] == pytest.approx(0.2)
    observation, *_, info = call(env, "check", wrong(env))
    assert (answer(observation), info["cost"], info["calls"]) == ("too dear", 0, 1)
    unknown = env.action(Gesture("call", at=(1, 1), text=env.world.instruction.split()[0]))
    assert answer(env.step(unknown)[0]) == "no such tool"


def test_what_an_episode_loses_is_counted() -> None:
    env = desk(**PLAIN, prices=(0.05,))
    assert env.reset(seed=1)[1]["regret"] == 0
    *_, info = call(env, "idle")
    assert (info["over_calls"], info["regret"]) == (1, pytest.approx(0.05))
    *_, info = call(env, "translate")  # no code
    assert (info["over_calls"], info["regret"]) == (2, pytest.approx(0.1))
    *_, info = call(env, "find")
    *_, info = call(env, "find")  # once more
    assert (info["calls"], info["over_calls"], info["regret"]) == (4, 3, pytest.approx(0.15))
    env.reset(seed=1)
    *_, info = open_file(env, wrong(env))
    assert (info["cost"], info["under_calls"], info["calls"]) == (0.25, 1, 0)
    # The best: find, then open: 0.95. A guess gets 1/4, and 3/4 of the same less what a wrong file costs.
    assert info["regret"] == pytest.approx(0.95 - 1 / 4 - 3 / 4 * (0.95 - 0.25))
    truncated = False
    while not truncated:
        *_, truncated, info = env.step(env.action(Gesture("wait")))
    assert info["regret"] > 0.9


def test_who_does_nothing_regrets_what_was_to_be_expected() -> None:
    env = desk()
    for seed in range(3):
        env.reset(seed=seed)
        truncated = False
        while not truncated:
            *_, truncated, info = env.step(env.action(Gesture("wait")))
        assert info["regret"] == pytest.approx(info["optimal_return"])


@pytest.mark.parametrize(
    "kwargs", [{"files": 3}, {"files": 6, "flawed": 1.0, "horizon": 60}, {"budgeted": 1.0, "shift": 2}]
)
def test_the_expert_has_no_regret_and_gets_what_was_to_be_expected(kwargs: dict[str, Any]) -> None:
    env = desk(sensors=["instruction", "answer"], **kwargs)
    got, expected, fixed = [], [], []
    for seed in range(150):
        info = env.reset(seed=seed)[1]
        expected.append(info["optimal_return"])
        fixed.append(info["fixed_regret"])
        total, ended = 0.0, False
        while not ended:
            _, reward, terminated, truncated, info = env.step(env.expert_action())
            total += reward - info["cost"]
            ended = terminated or truncated
        assert info["is_success"]
        assert (info["over_calls"], info["under_calls"], info["regret"]) == (0, 0, 0)
        got.append(total)
    error = np.std(np.subtract(got, expected)) / np.sqrt(len(got))
    assert np.mean(got) == pytest.approx(np.mean(expected), abs=3 * error)
    assert min(fixed) >= -1e-9
    assert np.mean(fixed) > 0.03  # prices matter: no rule that looks at none comes near


def test_a_shift_changes_what_is_answered_and_nothing_says_so() -> None:
    env, other = desk(**PLAIN, shift=1), desk(**PLAIN)
    assert env.reset(seed=0)[0][TASK] == other.reset(seed=0)[0][TASK]
    rows = [int(answer(call(each, "find")[0]).split()[-1]) for each in (env, other)]
    assert rows[0] == rows[1] % 4 + 1


def test_some_tools_are_never_shown_in_training() -> None:
    train, held = desk(split="train"), desk(split="tools")
    for seed in range(20):
        for env in (train, held):
            env.reset(seed=seed)
        names = [{each["name"] for each in env.goal.facts["tools"]} for env in (train, held)]
        assert not names[0] & offers.HELD_OUT_TOOLS
        assert names[1] & offers.HELD_OUT_TOOLS


def test_six_files_fit_in_every_theme() -> None:
    for theme in {**themes.THEMES, **themes.HELD_OUT}:
        env = desk(files=6, theme=theme, sensors=["instruction"])
        for seed in range(2):
            env.reset(seed=seed)
            _, top, _, high = env.world.find("folder").box
            assert 0 <= top <= top + high <= 96


def test_prices_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="prices: at least one"):
        desk(prices=())
