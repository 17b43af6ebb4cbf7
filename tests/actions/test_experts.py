"""The scripted expert of an environment is asked in the actions that the environment takes, whatever wraps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.fakes import LINE
from vla_rl import envs
from vla_rl.audit import command
from vla_rl.audit.probes import expert_action
from vla_rl.data import demos
from vla_rl.data.record import missing_expert
from vla_rl.play.session import Session
from vla_rl.registry import ConfigError


class Doubled(gymnasium.ActionWrapper):
    """Its actions go twice as far as those inside."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.action_space = gymnasium.spaces.Box(-0.5, 0.5, (1,), np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        return 2 * action


class Taught(Doubled):
    """The same, and tells its expert's actions in its own."""

    def expert_action(self) -> np.ndarray:
        return self.env.get_wrapper_attr("expert_action")() / 2


class Steps(gymnasium.Wrapper):
    """Whole steps to the left or to the right; no ActionWrapper."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.action_space = gymnasium.spaces.Discrete(2)

    def step(self, action: Any) -> Any:
        return self.env.step(np.array([-1.0 if action == 0 else 1.0], np.float32))


@pytest.mark.parametrize(
    "wrap",
    [Doubled, Steps, lambda env: gymnasium.wrappers.RescaleAction(env, np.float32(-2), np.float32(2))],
    ids=["own", "own step", "Gymnasium's"],
)
def test_an_expert_inside_a_wrapper_that_changes_the_actions_is_refused(wrap: Any) -> None:
    env = wrap(gymnasium.make(LINE))
    said = r"its wrapper \w+ changes the actions, .*; give \w+ a method `expert_action\(\)` that makes an action of"
    with pytest.raises(ConfigError, match=said):
        demos.demonstrate(env, episodes=1)
    with pytest.raises(ConfigError, match=said):
        expert_action(env)
    assert "changes the actions" in missing_expert(env)
    assert any("changes the actions" in why for why in command.examine(env, 2).skipped.values())


def test_a_wrapper_with_an_expert_of_its_own_is_asked() -> None:
    env = Taught(gymnasium.make(LINE))
    for episode in demos.demonstrate(gymnasium.wrappers.TimeLimit(env, 50), episodes=3, noise=0.2):
        place = episode.observations["observation.state"][:-1]
        np.testing.assert_allclose(episode.label, np.clip(-place / 0.25, -1, 1) / 2, atol=1e-6)


def test_wrappers_that_leave_actions_as_they_are_do_not_hide_the_expert() -> None:
    env = gymnasium.wrappers.StickyAction(gymnasium.wrappers.ClipAction(gymnasium.make(LINE)), 0.1)
    assert missing_expert(env) == ""
    env.reset(seed=1)
    assert env.action_space.contains(expert_action(env))


class Wide(gymnasium.Wrapper):
    """An expert that does not know its own bounds, or the kind of its actions."""

    answer: Any = np.array([3.0])

    def expert_action(self) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", [np.array([3.0]), 0, {"arm": 1}, np.zeros(2)])
def test_an_experts_answer_that_is_no_action_is_refused_with_it(answer: Any) -> None:
    env = Wide(gymnasium.make(LINE))
    env.answer = answer
    with pytest.raises(
        ConfigError, match=r"answer of its `expert_action\(\)` is no action of the environment: .* does not"
    ):
        demos.demonstrate(env, episodes=1)


def test_an_experts_numbers_take_the_dtype_of_the_actions() -> None:
    env = Wide(gymnasium.make(LINE))
    env.answer = [0.1]
    env.reset(seed=1)
    assert expert_action(env).dtype == np.float32


def test_a_person_asks_the_same_expert(tmp_path: Path) -> None:
    session = Session(Taught(gymnasium.make(LINE)), tmp_path / "demos")
    place = float(session.tape.observation["observation.state"][0])
    session.expert()
    moved = float(session.tape.observation["observation.state"][0]) - place
    np.testing.assert_allclose(moved, 0.25 * np.clip(-place / 0.25, -1, 1), atol=1e-6)


class Foreign(gymnasium.Env):
    """Somebody's own environment with an expert, whose observations are plain numbers."""

    observation_space = gymnasium.spaces.Box(-2, 2, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 1)
        return self.place, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.place = self.place + action
        done = bool(abs(self.place[0]) < 0.01)
        return self.place, 0.0, done, False, {"is_success": done}

    def expert_action(self) -> np.ndarray:
        return -self.place


def test_an_adapted_environments_own_expert_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = gymnasium.envs.registration.EnvSpec("own/Foreign-v0", entry_point=Foreign, disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    adapter = {"instruction": "go to the middle", "success": "is_success"}
    env = envs.make_env(spec.id, [{"type": "foreign_vector", "name": "place"}], {}, adapter=adapter)
    env.reset(seed=3)
    np.testing.assert_allclose(expert_action(env), -env.unwrapped.world.observation, atol=1e-6)  # type: ignore[attr-defined]
    assert env.step(expert_action(env))[4]["is_success"]
    env.close()
