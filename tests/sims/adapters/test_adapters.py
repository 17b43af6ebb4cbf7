"""The shipped configs of other people's environments, each where its suite is installed.

`bash scripts/install_suite.sh NAME --test` runs those of one suite in an environment that has it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sims.adapters import suites
from vla_rl import config
from vla_rl.config import RunConfig, catalog
from vla_rl.data.record import record
from vla_rl.envs import factory
from vla_rl.specs import HELD_OUT_SEEDS, IMAGES, STATE, TASK, TRAINING_SEEDS, VALIDATION_SEEDS

CONFIGS = [entry for entry in catalog.describe_group("envs") if entry.get("suite") in suites.SUITES]
PARAMETERS = [pytest.param(entry, id=f"{entry['suite']}-{entry['name']}") for entry in CONFIGS]
GOALS = {"fetch_reach", "metaworld", "metaworld_reach", "reacher", "adroit_door", "pusht"}
"""Those whose pictures show what the seed decides."""


@pytest.fixture(scope="module", params=PARAMETERS)
def name(request: pytest.FixtureRequest) -> str:
    """The config's name."""
    if not request.param["installed"]:
        pytest.skip(f"{request.param['suite']} is not installed")
    return request.param["name"]


@pytest.fixture(scope="module")
def run(name: str) -> RunConfig:
    """The run that `env=<name>` makes."""
    return config.load([f"env={name}"])


@pytest.fixture(scope="module")
def env(run: RunConfig) -> Iterator[gymnasium.Env]:
    """One for all tests, since making one takes up to seconds; what is left of an episode shows in no other."""
    made = factory(run, "rgb_array")()
    yield made
    made.close()


def act(env: gymnasium.Env, seed: int, steps: int) -> list[Any]:
    """The observations and rewards of random actions."""
    env.action_space.seed(seed)
    seen: list[Any] = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        seen += [observation, {"reward": reward}]
        if terminated or truncated:
            break
    return seen


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a[key], b[key]) for a, b in zip(one, other, strict=True) for key in a
    )


def test_it_passes_gymnasiums_checker(env: gymnasium.Env) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*infinity")  # its vectors have no bounds
        warnings.filterwarnings("ignore", message=".*symmetric and normalized")  # its actions are as they are
        check_env(env.unwrapped, skip_render_check=True)


def test_it_shows_pictures_numbers_and_words(run: RunConfig, env: gymnasium.Env) -> None:
    observation, info = env.reset(seed=0)
    assert info["is_success"] is False
    cameras = [key for key in observation if key.startswith(IMAGES)]
    assert cameras
    for key in cameras:
        assert observation[key].shape == (64, 64, 3)
        assert observation[key].std() > 10, f"{key} shows nothing"
    assert observation[STATE].dtype == np.float32
    assert observation[TASK] == run.env.adapter["instruction"].format(**run.env.kwargs)  # type: ignore[index]
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert picture.dtype == np.uint8
    assert min(picture.shape[:2]) >= 256


@pytest.mark.parametrize(
    "task", ["button-press-v3", "coffee-button-v3", "door-open-v3", "door-lock-v3", "handle-pull-v3"]
)
def test_every_camera_of_metaworlds_tasks_shows_what_is_to_be_moved(task: str) -> None:
    if not suites.installed("metaworld"):
        pytest.skip("metaworld is not installed")
    env = factory(config.load(["env=metaworld", f"env.kwargs.env_name={task}", "env.sensors=[{type: instruction}]"]))()
    world: Any = env.unwrapped.world  # type: ignore[attr-defined]
    env.reset(seed=0)
    before, ended = world.data.geom_xpos.copy(), False
    while not ended:
        *_, terminated, truncated, info = env.step(env.unwrapped.expert_action())  # type: ignore[attr-defined]
        ended = terminated or truncated
    assert info["is_success"]
    moved = np.flatnonzero(np.abs(world.data.geom_xpos - before).max(1) > 0.01)
    things = [geom for geom in moved if not _is_robots(world.model, int(world.model.geom_bodyid[geom]))]
    env.reset(seed=0)
    cameras = ("corner", "side")
    plain = [world.render(camera, 64, 64).astype(int) for camera in cameras]
    world.model.geom_matid[things], world.model.geom_rgba[things] = -1, (1, 0, 1, 1)
    for camera, picture in zip(cameras, plain, strict=True):
        shown = (np.abs(world.render(camera, 64, 64) - picture).max(-1) > 20).sum()
        assert shown >= 4, f"{camera} does not show it"
    env.close()


def _is_robots(model: Any, body: int) -> bool:
    while body and model.body(body).name not in ("base", "hand"):
        body = int(model.body_parentid[body])
    return body != 0


def test_actions_have_as_many_names_as_numbers(run: RunConfig, env: gymnasium.Env) -> None:
    assert (len(run.env.actions or ()),) == env.action_space.shape


def test_pictures_show_what_the_seed_decides(name: str, env: gymnasium.Env) -> None:
    if name not in GOALS:
        pytest.skip("every episode looks the same")
    key = next(key for key in env.observation_space if key.startswith(IMAGES))  # type: ignore[attr-defined]
    first, again, second = (env.reset(seed=seed)[0][key].astype(int) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert (np.abs(first - second).max(-1) > 40).sum() >= 3, "the goal is drawn where it is"


def test_what_held_out_episodes_ask_for_is_where_no_other_episode_had_it(name: str, env: gymnasium.Env) -> None:
    if name not in GOALS:
        pytest.skip("every episode asks for the same")

    def asked(seeds: range) -> set[tuple[Any, ...]]:
        return {(env.reset(seed=seed)[0][TASK], *_goal(env)) for seed in seeds[:40]}

    training, validation, held_out = map(asked, (TRAINING_SEEDS, VALIDATION_SEEDS, HELD_OUT_SEEDS))
    assert len(training | validation | held_out) == 120


def _goal(env: gymnasium.Env) -> list[float]:
    """Where what is asked for is, by the environment's own account."""
    inner: Any = env.unwrapped.env.unwrapped  # type: ignore[attr-defined]
    if hasattr(inner, "block"):  # Push-T's outline stays where it is; the T does not
        return [*inner.block.position, inner.block.angle]
    if hasattr(inner, "door_body_id"):
        return [float(each) for each in inner.model.body_pos[inner.door_body_id]]
    for name in ("_target_pos", "goal"):
        if hasattr(inner, name):
            return [float(each) for each in getattr(inner, name)]
    raise AssertionError(f"say here where the goal of {inner} is")


def test_one_seed_is_one_episode_whatever_came_before(run: RunConfig, env: gymnasium.Env) -> None:
    other = factory(run)()
    first = act(env, seed=1, steps=8)
    act(other, seed=2, steps=5)
    assert same(first, act(other, seed=1, steps=8))
    assert same(first, act(env, seed=1, steps=8))
    assert not same(first, act(env, seed=3, steps=8))
    other.close()


def test_an_episode_ends_at_the_horizon_or_in_success(env: gymnasium.Env) -> None:
    env.reset(seed=0)
    still, steps = (np.asarray(env.action_space.low) + np.asarray(env.action_space.high)) / 2, 0  # type: ignore[attr-defined]
    while True:
        _, reward, terminated, truncated, info = env.step(still)
        steps += 1
        assert info["is_success"] in (True, False)
        assert reward == float(info["is_success"])
        assert terminated == info["is_success"]
        assert info["episode_steps"] == steps
        if terminated or truncated:
            break
    assert terminated != truncated
    assert steps <= 300


def test_the_expert_knows_how_it_is_done(run: RunConfig, env: gymnasium.Env) -> None:
    if (run.env.adapter or {}).get("expert") is None:
        pytest.skip("it has none")
    done = 0
    for seed in range(10):
        env.reset(seed=seed)
        ended = False
        while not ended:
            action = env.unwrapped.expert_action()  # type: ignore[attr-defined]
            assert env.action_space.contains(action)
            *_, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        done += info["is_success"]
    assert done >= 9


def test_it_trains_by_config_alone(name: str, run: RunConfig, quick: list[str], tmp_path: Path) -> None:
    from vla_rl.eval import evaluate_checkpoint
    from vla_rl.sft import sft
    from vla_rl.train import train

    words = [*quick, f"env={name}", "env.kwargs.max_episode_steps=12"]
    if (run.env.adapter or {}).get("expert") is None:
        words += ["demos.episodes=0"]
        checkpoint = train(config.load([*words, f"run_dir={tmp_path}/rl"]))
    else:
        record(config.load([*words[:-1], "demos.episodes=1"]))
        start = sft(config.load([*words, f"run_dir={tmp_path}/sft"]))
        checkpoint = train(config.load([*words, f"run_dir={tmp_path}/rl", f"train.checkpoint={start}"]))
    settings = [f"eval.checkpoint={checkpoint}", f"run_dir={tmp_path}/eval", "eval.videos=0", "eval.episodes=1"]
    settings += ["eval.workers=0"]  # training has shown that they make it
    assert 0 <= evaluate_checkpoint(config.load(settings, command="eval")).pc_success <= 100


def test_our_pictures_and_its_own_do_not_disturb_each_other() -> None:
    if not suites.installed("gymnasium"):
        pytest.skip("gymnasium's MuJoCo environments are not installed")
    sensors = (
        "[{type: foreign_image, name: own}, {type: camera, name: track, width: 64, height: 64}, {type: instruction}]"
    )
    words = ["env=half_cheetah", f"env.sensors={sensors}", "env.kwargs={camera_name: track, width: 64, height: 64}"]
    envs = [factory(config.load(words))() for _ in range(2)]
    for env in envs:
        env.reset(seed=0)
    for _ in range(3):
        one, other = (env.step(np.full(6, 0.5, np.float32))[0] for env in envs)
        assert np.array_equal(one[IMAGES + "own"], other[IMAGES + "own"])
        assert np.array_equal(one[IMAGES + "track"], other[IMAGES + "track"])
        # The same view, though without shadows, smoothed edges and sky.
        ours, theirs = (one[IMAGES + name][40:].astype(float).mean((0, 1)) for name in ("track", "own"))
        np.testing.assert_allclose(ours, theirs, atol=25)
    for env in envs:
        env.close()
