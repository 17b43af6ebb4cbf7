"""What a config may say about somebody else's environment, shown on a small one."""

from __future__ import annotations

import re
import sys
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sims.adapters import suites
from sims.adapters.meshes import coarse
from tests.sims.adapters import foreign
from vla_rl import cli, config, envs
from vla_rl.envs.vector import VectorEnvs
from vla_rl.registry import ConfigError, SetupError
from vla_rl.specs import HELD_OUT_SEEDS, IMAGES, STATE, TASK, TRAINING_SEEDS, VALIDATION_SEEDS

MODULE = foreign.__name__
SENSORS = (
    {"type": "foreign_image", "name": "front", "key": "pixels"},
    {"type": "foreign_vector", "key": "place", "stop": 1, "unit": "m"},
    {"type": "instruction"},
)


def make(
    sensors: Any = SENSORS, kwargs: dict[str, Any] | None = None, env_id: str = "foreign/Walk-v0", **adapter: Any
) -> gymnasium.Env:
    adapter = {"suite": MODULE, "instruction": "walk", **adapter}
    return envs.make_env(env_id, sensors, kwargs, plugins=[MODULE], adapter=adapter)


def walk(env: gymnasium.Env, step: float = 1.0) -> list[tuple[float, bool, bool, bool]]:
    """One episode in one direction: reward, terminated, truncated, success of each step."""
    env.reset(seed=0)
    rows: list[tuple[float, bool, bool, bool]] = []
    while not rows or not (rows[-1][1] or rows[-1][2]):
        _, reward, terminated, truncated, info = env.step(np.array([step], np.float32))
        assert isinstance(info["is_success"], bool)
        rows.append((float(reward), terminated, truncated, info["is_success"]))
    return rows


def test_it_passes_gymnasiums_checker() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error")
        warnings.filterwarnings("ignore", message=".*infinity")  # its vectors have no bounds
        warnings.filterwarnings("ignore", message=".*render")
        check_env(make().unwrapped, skip_render_check=True)


def test_the_observation_is_what_the_sensors_read() -> None:
    env = make()
    observation, _ = env.reset(seed=3)
    place = env.unwrapped.env.unwrapped.place  # type: ignore[attr-defined]
    np.testing.assert_allclose(observation[STATE], [place], rtol=1e-6)
    assert observation[IMAGES + "front"].shape == (8, 12, 3)
    assert observation[IMAGES + "front"].max() == 250
    assert observation[TASK] == "walk"


def nested(place: str, eye: str = "body/eyes/1", instruction: str = "{goal/order}") -> gymnasium.Env:
    sensors = [{"type": "foreign_vector", "key": place}, {"type": "foreign_image", "key": eye}, {"type": "instruction"}]
    adapter = {"suite": MODULE, "instruction": instruction}
    return envs.make_env("foreign/NestedWalk-v0", sensors, plugins=[MODULE], adapter=adapter)


@pytest.mark.parametrize("place", ["body/place.now", "body.place.now"])
def test_entries_of_a_nested_observation_have_paths(place: str) -> None:
    env = nested(place, place.replace("place.now", "eyes/1"))
    observation, _ = env.reset(seed=3)
    np.testing.assert_allclose(observation[STATE], [env.unwrapped.env.unwrapped.place, 3.0], rtol=1e-6)  # type: ignore[attr-defined]
    assert observation[IMAGES + "front"].min() == 5
    assert observation[TASK] == "walk 3 steps"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("body/plaice", "no entry 'body/plaice'; did you mean 'body/place.now'?"),
        ("place.now", "no entry 'place.now'; did you mean 'body/place.now'?"),
        ("body", "entry 'body' holds several: body/place.now, body/eyes/0, body/eyes/1; name one"),
    ],
)
def test_a_wrong_path_into_a_nested_observation_is_refused_with_the_nearest(place: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        nested(place)


def test_success_alone_is_rewarded_and_ends_the_episode() -> None:
    rows = walk(make())
    assert [reward for reward, *_ in rows] == [0, 0, 1]
    assert rows[-1] == (1.0, True, False, True)


def test_the_horizon_truncates_and_a_bad_end_terminates() -> None:
    assert walk(make(), 0.0)[-1] == (0.0, False, True, False)
    assert len(walk(make(), 0.0)) == 20
    assert len(walk(make(kwargs={"max_episode_steps": 7}), 0.0)) == 7
    assert walk(make(), -1.0)[-1] == (0.0, True, False, False)


@pytest.mark.parametrize(
    ("kwargs", "adapter"),
    [
        ({"says": "success"}, {}),
        ({"says": "solved"}, {"success": "solved"}),
        ({"only_at_end": True}, {}),
        ({}, {"success": {"key": "x", "above": 3}}),
    ],
)
def test_success_may_have_any_name(kwargs: dict[str, Any], adapter: dict[str, Any]) -> None:
    assert walk(make(kwargs=kwargs, **adapter))[-1] == (1.0, True, False, True)


def test_a_number_may_have_to_lie_below() -> None:
    rows = walk(make(success={"key": "x", "below": -1.0}), -1.0)
    assert rows[-1] == (1.0, True, False, True)


def test_success_need_not_end_the_episode() -> None:
    rows = walk(make(terminate=False))
    assert len(rows) == 20
    assert [reward for reward, *_ in rows] == [0, 0, *[1] * 18]
    assert rows[-1] == (1.0, False, True, True)


def test_its_own_reward_is_there_for_the_asking() -> None:
    rows = walk(make(reward="dense"))
    assert 0 < rows[0][0] < rows[1][0] < 1
    rows = walk(make(success=None, reward="dense"))
    assert len(rows) == 20
    assert not any(success for *_, success in rows)


def test_an_info_without_success_is_named_when_the_episode_ends() -> None:
    message = "the info of foreign/Walk-v0 has no 'is_success' or 'success'; did you mean 'successes'.*success: null"
    with pytest.raises(ConfigError, match=message):
        walk(make(kwargs={"says": "successes"}), 0.0)


def test_an_info_that_tells_of_success_alone_may_be_named() -> None:
    rows = walk(make(kwargs={"says": "solved", "only_success": True}, success="solved"), 0.0)
    assert rows[-1] == (0.0, False, True, False)
    assert walk(make(kwargs={"says": "solved", "only_success": True}, success="solved"))[-1][-1] is True


def test_a_success_of_nan_is_none() -> None:
    assert walk(make(kwargs={"failure": np.nan}), 0.0)[-1] == (0.0, False, True, False)


def test_the_instruction_is_a_template_of_kwargs_observation_and_info() -> None:
    assert make(instruction="{order}, {mood}").reset(seed=0)[0][TASK] == "walk 3 steps, glad"
    assert make(kwargs={"far": 5.0}, instruction="go {far}").reset(seed=0)[0][TASK] == "go 5.0"


@pytest.mark.parametrize(
    "words", ["größer", "pose la tasse à café", "把杯子放到桌子上", "ضع الكوب", "\N{HOT BEVERAGE}"]
)
def test_a_text_beyond_ascii_arrives_as_it_is(words: str) -> None:
    env = make(instruction=words)
    observation, _ = env.reset(seed=0)
    assert observation[TASK] == words
    assert env.observation_space.contains(observation)
    assert make(instruction=unicodedata.normalize("NFD", words)).reset(seed=0)[0][TASK] == words


def test_a_text_may_be_as_long_as_the_config_says() -> None:
    words, sensors = "go on and " * 40 + "stop", [*SENSORS[:2], {"type": "instruction", "length": 500}]
    assert make(sensors, instruction=words).reset(seed=0)[0][TASK] == words
    with pytest.raises(ConfigError, match="sensor 'instruction': a text of 404 characters, and its `length` is 320"):
        make(instruction=words)


def test_half_a_character_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="sensor 'instruction': character 4 is half of a surrogate pair"):
        make(kwargs={"says": "done\ud83d"}, instruction="{says}")


def test_one_seed_is_one_episode_whatever_came_before() -> None:
    one, other = make(), make()
    walk(other)
    first, second = one.reset(seed=5)[0], other.reset(seed=5)[0]
    assert np.array_equal(first[STATE], second[STATE])
    assert np.array_equal(first[IMAGES + "front"], second[IMAGES + "front"])
    assert not np.array_equal(first[STATE], one.reset(seed=6)[0][STATE])


def test_held_out_episodes_have_no_goal_of_a_training_episode_where_the_environment_has_a_list_of_goals() -> None:
    env = make(env_id="foreign/Listed-v0")

    def goals(seeds: range) -> list[float]:
        return [env.reset(seed=seed) and env.unwrapped.env.unwrapped.far for seed in seeds[:40]]  # type: ignore[attr-defined]

    training, validation, held_out = map(goals, (TRAINING_SEEDS, VALIDATION_SEEDS, HELD_OUT_SEEDS))
    assert len({*training, *validation, *held_out}) == 120
    assert goals(TRAINING_SEEDS) == training
    assert all(2 <= far <= 5 for far in training)


@pytest.mark.parametrize("kwargs", [{"seed": 0}, {"num_goals": 3}])
def test_a_list_of_goals_that_training_and_evaluation_would_share_is_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"env.kwargs.{next(iter(kwargs))}: .* held-out episodes would share"):
        make(kwargs=kwargs, env_id="foreign/Listed-v0")


def test_pictures_may_be_its_own_render_and_scaled() -> None:
    sensors = [{"type": "foreign_image", "name": "own", "width": 6, "height": 4}, {"type": "instruction"}]
    env = make(sensors)
    assert env.reset(seed=0)[0][IMAGES + "own"].shape == (4, 6, 3)


def test_workers_make_it_in_their_own_processes() -> None:
    run = config.load([f"plugins=[{MODULE}]", *_words()])
    vector = VectorEnvs(envs.factory(run), 2, workers=2)
    try:
        assert vector.reset(seed=1).observation[STATE].shape == (2, 1)
        assert vector.step(np.ones((2, 1), np.float32)).reward.tolist() == [0, 0]
    finally:
        vector.close()


def _words(**adapter: Any) -> list[str]:
    """Overrides that choose the environment."""
    adapter = {"suite": MODULE, "instruction": "walk", **adapter}
    return [
        "env.id=foreign/Walk-v0",
        "env.actions=[x]",
        "env.kwargs={}",
        f"env.sensors={_flow(list(SENSORS))}",
        f"env.adapter={_flow(adapter)}",
    ]


def _flow(value: Any) -> str:
    """A value as an override writes it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_flow, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"sucess": "x"}, "env.adapter.sucess: unknown key; did you mean 'success'?"),
        ({"success": {"key": "x", "abov": 1}}, "success.abov: unknown key; did you mean 'above'?"),
        ({"success": {"key": "x"}}, "give one of `above` and `below`"),
        ({"success": None}, "success: null, so that nothing would ever be rewarded"),
        ({"reward": "spars"}, "env.adapter.reward: Input should be 'success' or 'dense'"),
        ({"cameras": {"a": {"azimut": 3}}}, "cameras.a.azimut: unknown key; did you mean 'azimuth'?"),
        ({"expert": {"type": "to_gaol"}}, "env.adapter.expert.type: unknown name 'to_gaol' among experts"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_config_is_read(adapter: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.load([f"plugins=[{MODULE}]", *_words(**adapter)])
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("sensors", "adapter", "message"),
    [
        ([{"type": "foreign_vector"}], {}, "no entry None"),
        ([{"type": "foreign_vector", "key": "plaec"}], {}, "no entry 'plaec'; did you mean 'place'?"),
        ([{"type": "foreign_vector", "key": "place", "start": 2}], {}, r"\[2:None\] is empty: .*'place' has 2"),
        ([{"type": "foreign_vector", "key": "order"}], {}, "not numbers"),
        ([{"type": "foreign_image", "key": "place"}], {}, "is no picture.*float64"),
        ([{"type": "camera", "name": "front"}], {}, "no camera 'front'.*foreign_image"),
        ([{"type": "joint_positions"}], {}, "joint_positions.*this environment has nothing that it reads"),
        (SENSORS, {"cameras": {"front": {}}}, "no MuJoCo model"),
        (SENSORS, {"view": "front"}, "no camera 'front'"),
        (SENSORS, {"instruction": "go {fra}"}, "nothing is called 'fra'; did you mean 'far'?"),
        (SENSORS, {"instruction": "{order}" * 60}, "a text of .* characters, and its `length` is 320"),
    ],
)
def test_what_does_not_fit_the_environment_is_named(sensors: Any, adapter: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(sensors, kwargs={"far": 3.0}, **adapter)


def test_actions_are_checked() -> None:
    env = make()
    env.reset(seed=0)
    for wrong in (np.zeros(2), np.array([np.nan])):
        with pytest.raises(ValueError, match="finite numbers"):
            env.step(wrong)


def test_a_package_that_nobody_listed_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text("import pathlib; pathlib.Path(__file__).with_suffix('.canary').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="'stranger' is neither a known suite nor listed in the run's `plugins`"):
        envs.make_env("Some-v0", SENSORS, adapter={"suite": "stranger", "instruction": "go"})
    with pytest.raises(ConfigError, match="no environment 'stranger:Some-v0' is registered"):
        envs.make_env("stranger:Some-v0", SENSORS, adapter={"instruction": "go"})
    assert "stranger" not in sys.modules
    assert not (tmp_path / "stranger.canary").exists()


def test_a_suite_that_is_not_installed_says_how_it_becomes_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(suites.SUITES, "robotics", suites.Suite("robotics", ("no_such_module",), "no_such_module"))
    with pytest.raises(SetupError, match=r"bash scripts/install_suite.sh robotics.*pip install 'vla-rl\[robotics\]'"):
        suites.load("robotics")
    assert not suites.installed("robotics")
    assert cli.main(["demos", "env=fetch_reach", "demos.path=/nowhere"]) == cli.USER_ERROR
    assert "no_such_module cannot be imported" in capsys.readouterr().err


def test_a_suite_names_the_mujoco_that_it_does_not_work_with(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = suites.Suite("old", ("gymnasium",), "gymnasium", mujoco_below=(3, 3))
    assert "it needs mujoco below 3.3, and" in suite.missing


def test_expertless_environments_say_so() -> None:
    env = make()
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="has no scripted expert"):
        env.unwrapped.expert_action()  # type: ignore[attr-defined]


def test_a_model_is_drawn_coarser_but_stays_as_it_is() -> None:
    import mujoco

    ball = " ".join(f"{x:.4f} {y:.4f} {z:.4f}" for x, y, z in _sphere(40, 0.1))
    model = mujoco.MjModel.from_xml_string(
        f"""<mujoco><asset><mesh name="ball" vertex="{ball}"/></asset>
        <worldbody><geom type="mesh" mesh="ball"/></worldbody></mujoco>"""
    )
    names = ("mesh_face", "mesh_facenum", "mesh_facenormal", "mesh_facetexcoord", "mesh_vert")
    before = {name: getattr(model, name).copy() for name in names}
    with coarse(model, cell=0.02):
        faces = model.mesh_face[: model.mesh_facenum[0]]
        assert 50 < len(faces) < before["mesh_facenum"][0] / 3
        assert all(len(set(face)) == 3 for face in faces.tolist())
        corners = model.mesh_vert[faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
        assert area == pytest.approx(4 * np.pi * 0.1**2, rel=0.15), "the surface has no holes"
    assert all(np.array_equal(getattr(model, name), before[name]) for name in names)


def _sphere(rings: int, radius: float) -> np.ndarray:
    polar, turn = np.meshgrid(np.linspace(0.05, np.pi - 0.05, rings), np.linspace(0, 2 * np.pi, rings, endpoint=False))
    points = [np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)]
    return radius * np.stack([each.ravel() for each in points], axis=1)
