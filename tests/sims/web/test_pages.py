"""A page of one's own is an environment; one that fails spoils its episode and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sims.screen.interaction import Gesture
from sims.web import chromium
from sims.web.chromium import PageError
from sims.web.env import PageEnv
from tests.sims.web.browsers import SETTINGS, form, needs_browser
from vla_rl import config, envs
from vla_rl.envs.vector import VectorEnvs
from vla_rl.registry import ConfigError, SetupError
from vla_rl.specs import IMAGES, TASK

pytestmark = needs_browser
SCREEN = IMAGES + "screen"


@pytest.fixture
def env(tmp_path: Path) -> Iterator[Any]:
    made = form(tmp_path).unwrapped
    yield made
    made.close()


def do(env: Any, kind: str, **what: Any) -> tuple:
    """Step by a gesture; `on` is what a click goes to, a selector."""
    if "on" in what:
        what["at"] = env.world.tab.run(
            f"(({{left, top, width, height}}) => [left + width / 2, top + height / 2])"
            f"(document.querySelector({what.pop('on')!r}).getBoundingClientRect())"
        )
    gesture = Gesture(kind, **what)
    text = env._seen[TASK]
    return env.step(env.interaction.write(gesture, env.action_space, env.world.size, text))


def test_it_passes_gymnasiums_checker(env: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*symmetric and normalized")  # places are as they are
        check_env(env, skip_render_check=True)


def test_the_expert_fills_the_form_and_the_hand_can_do_it_too(env: Any) -> None:
    for seed in range(3):
        observation, info = env.reset(seed=seed)
        assert observation[SCREEN].shape == (240, 320, 3)
        assert observation[TASK].startswith("Enter ")
        kinds = []
        while not info["is_success"]:
            observation, reward, terminated, truncated, info = env.step(env.expert_action())
            kinds.append(env.world.gestures[-1].kind)
            assert (reward, terminated, truncated) == (float(info["is_success"]), info["is_success"], False)
        assert kinds == ["click", "type", "click"]
    name = env.reset(seed=5)[0][TASK].split()[1]
    do(env, "key", key="Tab")
    assert env.world.focused == "Your name"
    do(env, "write", text="x" + name)
    do(env, "key", key="SelectAll")
    do(env, "type", text=name)
    do(env, "key", key="Tab")
    assert do(env, "key", key="Enter")[4]["is_success"]


def test_a_wrong_answer_is_no_success_and_the_horizon_truncates(tmp_path: Path) -> None:
    env = form(tmp_path, horizon=3).unwrapped
    env.reset(seed=0)
    for step in range(1, 4):
        _, reward, terminated, truncated, info = do(env, "click", on="#send")
        assert (reward, terminated, truncated) == (0.0, False, step == 3)
        assert info == {"is_success": False, "proxy": False, "cost": 0.0, "episode_steps": step}
    env.close()


def test_done_ends_the_episode_unpaid(tmp_path: Path) -> None:
    env = form(tmp_path, gestures=["click", "done"]).unwrapped
    env.reset(seed=0)
    assert do(env, "done")[1:4] == (0.0, True, False)
    env.close()


def test_the_pages_clock_moves_by_steps_only(env: Any) -> None:
    env.reset(seed=0)
    assert env.world.tab.run("window.ticks") == 5
    for _ in range(3):
        do(env, "wait")
    do(env, "scroll_down", at=(10, 10))
    assert env.world.tab.run("[window.ticks, performance.now()]") == [25, 2500]
    clock = env.world.tab.run("document.getElementById('clock').textContent")
    env.reset(seed=0)
    assert env.world.tab.run("document.getElementById('clock').textContent") == clock
    env.reset(seed=1)
    assert env.world.tab.run("document.getElementById('clock').textContent") != clock


def test_a_link_is_followed_before_the_next_picture(env: Any) -> None:
    env.reset(seed=0)
    do(env, "click", on="#name")
    before = do(env, "write", text="Ada")[0][SCREEN]
    after, *_, info = do(env, "click", on="#next")
    assert not info.get("invalid")
    assert env.world.tab.run("document.querySelector('#name').value") == ""
    assert not np.array_equal(before, after[SCREEN])


def spin(env: Any) -> tuple:
    """Press the button whose script does not end, with little patience."""
    env.world.tab.session.patience = 0.5
    return do(env, "click", on="#spin")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (spin, "no answer within 0.5 s"),
        (lambda env: env.world.tab.browser.send([("Page.crash", {})], env.world.tab.session.name), "crashed"),
        (lambda env: env.world.tab.browser.close(), "gone"),
        (lambda env: env.world.tab.run("window.fails = true"), "oh no"),
    ],
    ids=["hangs", "crashes", "loses its browser", "throws"],
)
def test_a_page_that_fails_spoils_its_episode_only(tmp_path: Path, harm: Any, said: str) -> None:
    success = "(() => { if (window.fails) throw Error('oh no'); return false; })()"
    env = form(tmp_path, success=success).unwrapped
    first, _ = env.reset(seed=0)
    outcome = harm(env)
    ended = outcome if isinstance(outcome, tuple) else env.step(env.action_space.command("wait"))
    seen, reward, terminated, truncated, info = ended
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["invalid"] is True
    assert info["is_success"] is False
    assert said in info["error"]
    assert np.array_equal(seen[SCREEN], first[SCREEN])
    with pytest.raises(gymnasium.error.ResetNeeded):
        do(env, "wait")
    again, _ = env.reset(seed=0)
    assert np.array_equal(again[SCREEN], first[SCREEN])
    env.close()


def dying(monkeypatch: pytest.MonkeyPatch, folder: Path, times: int) -> None:
    """Have the browser be killed while it starts, so often."""
    real, script = chromium.program(), folder / "browser"
    once = f'mkdir "{folder}/$i" 2>/dev/null && kill -9 $$'
    script.write_text(f'#!/bin/sh\nfor i in $(seq {times}); do {once}; done\nexec {real} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(chromium, "program", lambda: str(script))


def test_a_browser_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chromium._running.clear()  # which other tests may have left
    dying(monkeypatch, tmp_path, 2)
    env = form(tmp_path)
    assert env.reset(seed=0)[0][SCREEN].any()
    env.close()


def test_a_browser_that_never_starts_is_a_fault_of_the_machine_unless_it_once_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chromium._running.clear()
    env, known = form(tmp_path), form(tmp_path)
    known.reset(seed=0)
    known.unwrapped._drop(everything=True)
    dying(monkeypatch, tmp_path, 50)
    with pytest.raises(SetupError, match="does not start"):
        env.reset(seed=0)
    with pytest.raises(PageError, match="does not start"):
        known.reset(seed=0)


def test_a_page_that_fails_in_reset_costs_that_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = PageEnv._begin

    def begins_but_once(env: PageEnv, seed: int) -> None:
        if seed == 12:
            raise PageError("the page crashed")
        begin(env, seed)

    monkeypatch.setattr(PageEnv, "_begin", begins_but_once)
    with closing(VectorEnvs(lambda: form(tmp_path), 2, restarts=2)) as pages:
        assert not any(info.get("invalid") for info in pages.reset(seed=20).infos)
        pages.send_seeds([11, 12], [0, 1])
        assert [info.get("error") for info in pages.receive().infos] == [None, "PageError: the page crashed"]
        waiting = pages.action_space.command("wait")
        wait = {key: np.stack([value] * 2) for key, value in waiting.items()}
        assert pages.step(wait).truncated.tolist() == [False, True]
        assert not any(info.get("invalid") for info in pages.step(wait).infos)


def test_a_region_is_seen_and_pointed_into_and_the_mouse_can_be_shown(tmp_path: Path) -> None:
    whole, part, pointed = (
        form(tmp_path, **settings).unwrapped
        for settings in ({}, {"region": [40, 0, 200, 100]}, {"cursor": True, "frame": "pixels"})
    )
    seen = [each.reset(seed=0)[0][SCREEN] for each in (whole, part, pointed)]
    assert np.array_equal(seen[1], seen[0][:100, 40:240])
    for env in (whole, part):
        env.step(env.expert_action())
        assert env.world.focused == "Your name"
    assert not np.array_equal(seen[2], seen[0])
    moved = do(pointed, "click", at=(100.0, 150.0))[0][SCREEN]
    assert tuple(moved[153, 102]) == (255, 255, 255)
    assert pointed.world.cursor == (100.0, 150.0)
    for env in (whole, part, pointed):
        env.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"file": "nowhere.html"}, "there is no 'nowhere.html'"),
        ({"url": "about:blank"}, "one of `file` and `url`"),
        ({"region": [0, 0, 400, 10]}, "does not lie in a page"),
        ({"instruction": {"py": "1"}}, "instruction"),
        ({"sucess": "true"}, "did you mean 'success'"),
        ({"gestures": ["klick"]}, "did you mean 'click'"),
    ],
)
def test_settings_that_cannot_be_used_say_so(tmp_path: Path, settings: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        form(tmp_path, **settings)


@pytest.mark.parametrize("settings", [{"success": "window.sent ==="}, {"over": "nothing.there"}])
def test_an_expression_that_throws_at_once_is_named(tmp_path: Path, settings: dict) -> None:
    env = form(tmp_path, **settings)
    with pytest.raises(ConfigError, match=rf"env\.kwargs\.{next(iter(settings))}"):
        env.reset(seed=0)
    env.close()


def test_what_an_expert_says_is_checked(tmp_path: Path) -> None:
    for expert, said in ((None, "null"), ("[1, 2]", "an expert gives"), ("{kind: 'fly'}", "no gesture 'fly'")):
        env = form(tmp_path, expert=expert)
        env.reset(seed=0)
        with pytest.raises(ConfigError, match=said):
            env.unwrapped.expert_action()
        env.close()


def test_ten_lines_of_yaml_make_a_page_an_environment(tmp_path: Path) -> None:
    form(tmp_path).close()
    (tmp_path / "env").mkdir()
    lines = [
        "id: vla_rl/Page-v0",
        "sensors: [{type: screenshot}, {type: instruction}]",
        "kwargs:",
        f"  file: {tmp_path}/form.html",
        "  instruction: {js: \"['Enter', wanted, 'and press Send.'].join(' ')\"}",
        f"  success: {SETTINGS['success']}",
        "  gestures: [click, type]",
        "  size: [320, 240]",
    ]
    (tmp_path / "env" / "form.yaml").write_text("\n".join(lines))
    run = config.load(["env=form", "action_space.type=command"], config_dir=tmp_path)
    env = envs.factory(run)()
    observation, _ = env.reset(seed=0)
    assert observation[SCREEN].shape == (240, 320, 3)
    assert not env.step(env.action_space.sample())[4].get("invalid")
    env.close()
