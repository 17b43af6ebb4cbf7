"""Every page of MiniWoB++ loads, ends and repeats itself; experts succeed; the proxy is told from the truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.web import experts, miniwob
from sims.web.names import NAMES
from tests.sims.web.browsers import needs_pages
from vla_rl.registry import ConfigError, SetupError
from vla_rl.specs import IMAGES, TASK

SCREEN = IMAGES + "screen"
LADDER = ("click-test-2", "click-color", "focus-text", "click-button", "click-dialog", "enter-text")


@pytest.fixture(scope="module")
def browser() -> Iterator[None]:
    """Keeps one browser for the whole module."""
    from sims.web import chromium

    held = chromium.shared()
    yield
    del held


def make(name: str, **settings: Any) -> Any:
    return gymnasium.make(f"vla_rl/MiniWoB-{name}-v0", disable_env_checker=True, **settings).unwrapped


def play(env: Any, seed: int, act: Any) -> dict[str, Any]:
    """One episode's last info."""
    env.reset(seed=seed)
    ended = False
    while not ended:
        _, reward, terminated, truncated, info = env.step(act())
        ended = terminated or truncated
    return info | {"paid": reward, "truncated": truncated}


def test_every_page_is_registered_whether_or_not_the_package_is_there() -> None:
    assert len(NAMES) == len(set(NAMES)) == 130
    assert {f"vla_rl/MiniWoB-{name}-v0" for name in NAMES} <= set(gymnasium.registry)
    assert set(experts.MINIWOB) <= set(NAMES)
    assert len(experts.MINIWOB) >= 20


def test_without_the_package_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniwob, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"install_suite\.sh web"):
        make("click-test")


@needs_pages
def test_the_names_are_those_of_the_package() -> None:
    assert sorted(NAMES) == sorted(file.stem for file in Path(miniwob.folder()).glob("*.html"))


@needs_pages
def test_an_unknown_page_has_a_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'click-test'"):
        gymnasium.make("vla_rl/MiniWoB-v0", name="clik-test")


@needs_pages
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_page_loads_steps_ends_and_repeats_itself(name: str, browser: None) -> None:
    env, other = (make(name, horizon=8) for _ in range(2))
    rows: list[list[Any]] = []
    for each in (env, other):
        rows.append([])
        if each is other:
            each.reset(seed=99)
            each.step(each.action_space.sample())
        each.action_space.seed(1)
        observation, _ = each.reset(seed=1)
        assert observation[TASK]
        ended = False
        while not ended:
            rows[-1].append(observation[SCREEN])
            observation, reward, terminated, truncated, info = each.step(each.action_space.sample())
            ended = terminated or truncated
            assert not info.get("invalid"), info
            assert reward == float(info["is_success"]) == float(info["raw_reward"] == 1 and terminated)
            assert info["proxy"] == (info["raw_reward"] > 0 and terminated)
        rows[-1] += [observation[SCREEN]]
    assert len(rows[0]) == len(rows[1])
    assert all(np.array_equal(*pair) for pair in zip(*rows, strict=True))
    env.close(), other.close()


@needs_pages
@pytest.mark.parametrize("name", LADDER)
def test_two_browsers_show_the_same(name: str) -> None:
    shots = []
    for _ in range(2):  # closing the only environment ends its browser
        env = make(name)
        shots.append([env.reset(seed=3)[0][SCREEN], env.step(env.expert_action())[0][SCREEN]])
        assert shots[-1][0].shape == (160, 160, 3)
        env.close()
    assert all(np.array_equal(*pair) for pair in zip(*shots, strict=True))
    assert shots[0][0].std() > 5


@needs_pages
@pytest.mark.parametrize("name", experts.MINIWOB)
def test_the_expert_succeeds(name: str, browser: None) -> None:
    env = make(name)
    assert all(play(env, seed, env.expert_action)["is_success"] for seed in range(3))
    env.close()


@needs_pages
@pytest.mark.slow
@pytest.mark.parametrize("name", experts.MINIWOB)
def test_the_expert_succeeds_on_fifty_seeds(name: str, browser: None) -> None:
    env = make(name, length=40)  # letters at once: names of countries are long
    assert np.mean([play(env, 1000 + seed, env.expert_action)["is_success"] for seed in range(50)]) >= 0.95
    env.close()


@needs_pages
def test_the_horizon_truncates_and_no_clock_does(browser: None) -> None:
    env = make("click-test", horizon=3, seconds=60.0)
    info = play(env, 0, lambda: env.action_space.command("wait"))
    assert (info["truncated"], info["is_success"], info["raw_reward"], info["episode_steps"]) == (True, False, 0, 3)
    env.close()


@needs_pages
def test_the_last_frame_is_the_page_as_it_ended(browser: None) -> None:
    env = make("click-test-2", whole=True)
    first = env.reset(seed=0)[0][SCREEN]
    last = env.step(env.expert_action())[0][SCREEN]
    assert first.shape == (210, 160, 3)
    assert (first != last).any(-1).mean() < 0.2
    env.close()


@needs_pages
@pytest.mark.parametrize(("reward", "paid"), [("true", 0.0), ("proxy", 1.0)])
def test_the_proxy_pays_for_what_is_no_success_where_it_is_asked_for(reward: str, paid: float, browser: None) -> None:
    env = make("use-colorwheel", reward=reward)
    env.reset(seed=0)
    place = env.world.tab.run(f"(() => {{ {experts._FUNCTIONS} return at(document.querySelector('#subbtn')); }})()")
    action = env.action_space.command("click", at=np.array([place[0] / 160, (place[1] - 50) / 160]))
    _, got, terminated, _, info = env.step(action)
    assert (got, terminated, info["is_success"], info["proxy"]) == (paid, True, False, True)
    assert 0 < info["raw_reward"] < 1
    env.close()


@needs_pages
def test_a_page_without_an_expert_says_so(browser: None) -> None:
    env = make("tic-tac-toe")
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="expert"):
        env.expert_action()
    env.close()
