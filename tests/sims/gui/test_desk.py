"""The desk with tools: what is seen, what is answered, what is counted."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.gui import themes
from sims.screen.interaction import Gesture
from vla_rl.specs import IMAGES, TASK

SCREEN = IMAGES + "screen"


def desk(**kwargs):
    return gymnasium.make("vla_rl/GuiDesk-v0", **kwargs).unwrapped


def call(env, kind: str, name: str = "", **arguments):
    """A gesture on a widget; what comes back of the step."""
    place = {"at": env.world.where(name).middle} if name else {}
    return env.step(env.action(Gesture(kind, **place, **arguments)))


def rename(env) -> np.ndarray:
    """The screen, had the files other names."""
    for number, text in enumerate(("Ab", "Cde", "Fghij", "K")):
        env.world.find(f"file{number}").text = text
    env.world.change()
    return env.world.screenshot()


@pytest.mark.parametrize("size", [(96, 96), (320, 240)])
def test_names_are_told_by_the_picture_only_where_they_are_readable_or_enlarged(size):
    for unreadable in (0.0, 1.0):
        env = desk(unreadable=unreadable, coded=0.0, size=size)
        seen = env.reset(seed=0)[0][SCREEN]
        assert np.array_equal(seen, rename(env)) == bool(unreadable)
        env.reset(seed=0)
        seen = call(env, "zoom", "folder0")[0][SCREEN]
        assert seen.shape == (size[1], size[0], 3)
        assert not np.array_equal(seen, rename(env))


def test_who_points_into_what_was_enlarged_points_at_the_thing_behind_it():
    env = desk(unreadable=1.0, coded=0.0)
    env.reset(seed=0)
    before = env.world.screenshot().copy()
    call(env, "zoom", "folder1")
    left, top, *_ = env.world.view
    x, y = env.world.where("file3").middle
    action = env.action(Gesture("click", at=(x, y)))
    np.testing.assert_allclose(action["at"], np.array([x - left, y - top]) * 2 / 96, atol=1e-6)
    env.step(action)
    assert (env.world.focus, env.world.view) == ("file3", None)
    call(env, "zoom", "folder1")
    with pytest.raises(ValueError, match="is shown, enlarged"):
        env.action(Gesture("click", at=env.world.where("file0").middle))
    env.step(env.action(Gesture("wait")))
    assert env.world.screenshot().shape == before.shape


def test_tools_answer_in_words_or_say_that_they_cannot():
    env = desk(unreadable=1.0, coded=1.0, stale=0.0)
    env.reset(seed=3)
    task, wanted = env.world.instruction, env.goal.facts["wanted"]
    name = env.world.find(f"file{wanted}").text
    observation, *_, info = call(env, "lookup", text=env.goal.words[0])
    assert observation[TASK] == f"{task}\n{env.goal.words[0]} is {name.lower()}"
    assert info["cost"] == 0.05
    assert call(env, "lookup", text=task.split()[0])[0][TASK].endswith("\nnot in the table")
    observation, *_, info = call(env, "read", f"file{wanted}")
    assert (observation[TASK], info["cost"]) == (f"{task}\n{name}", 0.03)
    corner = next(at for at in ((0.5, 0.5), (0.5, 95.5)) if not any(p.holds(*at) for p in env.world.placed()))
    assert env.step(env.action(Gesture("read", at=corner)))[0][TASK] == f"{task}\nnothing"


def test_what_an_episode_loses_is_counted():
    env = desk(unreadable=1.0, coded=0.0)
    assert env.reset(seed=1)[1]["regret"] == 0
    *_, info = call(env, "lookup", text=env.goal.words[0])  # no code
    assert (info["over_calls"], info["regret"]) == (1, pytest.approx(0.05))
    call(env, "zoom", "folder0")
    env.step(env.action(Gesture("wait")))
    *_, info = call(env, "zoom", "folder0")  # once more
    assert (info["calls"], info["over_calls"], info["regret"]) == (3, 2, pytest.approx(0.09))
    env.reset(seed=1)
    wrong = next(i for i in range(4) if i != env.goal.facts["wanted"])
    call(env, "click", f"file{wrong}")
    *_, info = call(env, "key", key="Enter")
    assert (info["cost"], info["under_calls"], info["calls"]) == (0.25, 1, 0)
    # A guess gets 1/4 and 3/4 of what is left: of three, one alone in its folder, the best is to enlarge the others.
    left = 1 - 0.04
    assert info["regret"] == pytest.approx(0.945 - 0.25 - 0.75 * (left - 0.25))
    for _ in range(10):
        *_, truncated, info = env.step(env.action(Gesture("wait")))
    assert truncated
    assert info["regret"] > 0.9


def test_who_does_nothing_regrets_what_was_to_be_expected():
    env = desk()
    for seed in range(3):
        env.reset(seed=seed)
        truncated = False
        while not truncated:
            *_, truncated, info = env.step(env.action(Gesture("wait")))
        assert info["regret"] == pytest.approx(info["optimal_return"])


def test_the_expert_has_no_regret_and_gets_what_was_to_be_expected():
    env = desk(sensors=["instruction", "answer"], stale=0.3, coded=0.6)
    got, expected = [], []
    for seed in range(150):
        expected.append(env.reset(seed=seed)[1]["optimal_return"])
        total, ended = 0.0, False
        while not ended:
            _, reward, terminated, truncated, info = env.step(env.expert_action())
            total += reward - info["cost"]
            ended = terminated or truncated
        assert (info["over_calls"], info["under_calls"], info["regret"]) == (0, 0, 0)
        got.append(total)
    error = np.std(np.subtract(got, expected)) / np.sqrt(len(got))
    assert np.mean(got) == pytest.approx(np.mean(expected), abs=3 * error)


@pytest.mark.parametrize("size", [(96, 96), (128, 128), (320, 240)])
def test_a_folder_can_be_enlarged_as_a_whole_in_every_theme_and_never_two(size):
    for theme in {**themes.THEMES, **themes.HELD_OUT}:
        env = desk(files=3, unreadable=1.0, coded=0.0, theme=theme, size=size, sensors=["instruction"])
        for seed in range(3):
            env.reset(seed=seed)
            call(env, "zoom", "file4")
            assert env.world.memory["read"] == [False] * 3 + [True] * 3, theme
            for place in np.random.default_rng(seed).uniform(0, size, (20, 2)):
                env.reset(seed=seed)
                env.step(env.action(Gesture("zoom", at=tuple(place))))
                read = env.world.memory["read"]
                assert not (any(read[:3]) and any(read[3:]))
