"""Screens that shift in mid-run: their looks, and what tools answer."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.screen.interaction import Gesture
from vla_rl import envs
from vla_rl.specs import TASK


def desk(*stages: dict[str, Any], **kwargs: Any) -> Any:
    made = {"unreadable": 1.0, "coded": 0.0, "flawed": 0.0, "budgeted": 0.0, "sensors": ["instruction", "answer"]}
    return gymnasium.make("vla_rl/GuiDesk-v0", randomise=stages, **made | kwargs).unwrapped


def found(env: Any) -> str:
    """What the tool answers that finds a file."""
    name = next(tool["name"] for tool in env.goal.facts["tools"] if tool["kind"] == "find")
    return env.step(env.action(Gesture("call", at=(1, 1), text=name)))[0][TASK].split()[-1]


def test_a_screen_shifts_in_mid_run_and_stays_shifted() -> None:
    env, before = desk({"theme": "slate", "task": {"shift": 1}, "from_episode": 2}), desk()
    assert (env.shifts, before.shifts) == (True, False)
    for episode in range(4):
        env.reset(seed=episode)
        before.reset(seed=episode)
        assert (env.world.style.theme.name == "slate") == (episode >= 2)
        assert env.expert_action() is not None
        if episode < 2:
            assert found(env) == found(before)
        else:
            assert int(found(env)) == (env.goal.facts["told"] + 1) % 4 + 1


def test_a_screen_goes_on_from_the_episodes_that_its_run_has_had() -> None:
    env = desk({"theme": "dark"}, {"theme": "light", "from_episode": 4})
    assert [env.reset(seed=1)[1]["stage"] for _ in range(6)] == [0, 0, 0, 0, 1, 1]
    env.continue_after(3, stride=0)
    assert [env.reset(seed=1)[1]["stage"] for _ in range(2)] == [0, 0]
    assert "stage" not in desk().reset(seed=1)[1]


def test_a_run_knows_that_its_screen_shifts_and_how_far_it_was() -> None:
    stages = [{"theme": "dark", "from_episode": 4}]
    env = envs.make_env("vla_rl/GuiClickLabel-v0", kwargs={"randomise": stages}, past=envs.Past(4))
    assert envs.shifts(env)
    assert [env.reset(seed=seed)[1]["stage"] for seed in range(3)] == [0, 0, 0]
    assert env.unwrapped.world.style.theme.name == "dark"  # type: ignore[attr-defined]


def test_a_snapshot_carries_the_shift() -> None:
    env, other = (desk({"task": {"shift": 2}, "from_episode": 1}) for _ in range(2))
    for seed in range(2):
        env.reset(seed=seed)
    other.reset(seed=9)
    other.restore(env.snapshot())
    assert other.task.shift == 2
    assert np.array_equal(env.world.screenshot(), other.world.screenshot())
    assert found(env) == found(other)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"theme": "ligth"}, r"randomise\[0\]: theme: 'ligth' is unknown; did you mean 'light'"),
        ({"task": {"shfit": 1}}, r"randomise\[0\]\.task\.shfit: unknown key; did you mean 'shift'"),
        ({"task": {"shift": 9}}, r"randomise\[0\]\.task: shift must lie in \[0, 5\]"),
        ({"from_episode": -1}, "from_episode must be at least 0"),
        ({"camera": 1.0}, r"randomise\[0\]\.camera: unknown key"),
    ],
)
def test_a_stage_that_does_not_fit_is_named(stage: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        desk(stage)


def test_a_stage_cannot_change_what_actions_there_are() -> None:
    with pytest.raises(ValueError, match="the tools would be others"):
        gymnasium.make("vla_rl/GuiChain-v0", randomise=[{"task": {"codes": 0}}])
