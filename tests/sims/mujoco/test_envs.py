"""How a table-top environment is set up, and what it refuses; what every one of them promises is in test_suite.py."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from vla_rl.registry import ConfigError
from vla_rl.specs import IMAGES, STATE, TASK

IDS = ("vla_rl/Reach-v0", "vla_rl/Push-v0")
FRONT = IMAGES + "front"
BLIND = ("end_effector_pose", "commanded_position", "instruction")


@pytest.fixture(params=IDS)
def env(request):
    made = gymnasium.make(request.param, render_mode="rgb_array")
    yield made
    made.close()


def make_blind(env_id: str, **kwargs):
    """An environment that draws nothing, and so is fast."""
    return gymnasium.make(env_id, sensors=BLIND, **kwargs).unwrapped


def play(env, seed: int, act, rng=None):
    """One episode: (succeeded, steps, truncated)."""
    _, info = env.reset(seed=seed)
    assert info["is_success"] is False
    steps = 0
    while True:
        _, reward, terminated, truncated, info = env.step(act())
        steps += 1
        assert reward == float(info["is_success"]) == float(terminated)
        assert not (terminated and truncated)
        if terminated or truncated:
            return info["is_success"], steps, truncated


def successes(env, seeds, act) -> int:
    return sum(play(env, seed, act)[0] for seed in seeds)


def test_observation_holds_what_the_sensors_say(env):
    observation, _ = env.reset(seed=0)
    assert observation[FRONT].shape == (64, 64, 3)
    assert observation[FRONT].dtype == np.uint8
    assert observation[FRONT].std() > 10
    tip, commanded = np.split(observation[STATE], 2)
    world = env.unwrapped.world
    np.testing.assert_allclose(tip, world.tip_position, atol=1e-6)
    np.testing.assert_allclose(commanded, world.commanded_position, atol=1e-6)
    assert observation[TASK] == world.instruction
    assert env.render().shape == (256, 256, 3)


def test_the_tracking_error_is_what_the_tip_lacks_of_the_command(env):
    made = gymnasium.make(env.spec.id, sensors=("tracking_error", "instruction"))
    made.reset(seed=0)
    errors = np.array([made.step(np.array([1.0, 0, 0]))[0][STATE] for _ in range(4)])
    world = made.unwrapped.world
    np.testing.assert_allclose(errors[-1], world.commanded_position - world.tip_position, atol=1e-6)
    assert (errors[:, 0] > 0.005).all()  # on its way, the tip trails by centimetres
    assert (np.abs(errors[:, 1:]) < 0.005).all()


def test_actions_displace_the_commanded_position_within_the_workspace():
    env = make_blind(IDS[0], horizon=100)
    env.reset(seed=0)
    before = env.world.commanded_position
    env.step(np.array([0.5, 0, 0]))
    np.testing.assert_allclose(env.world.commanded_position - before, [0.02, 0, 0], atol=1e-9)
    for _ in range(20):
        env.step(np.array([9.0, 1, 1]))
    np.testing.assert_allclose(env.world.commanded_position, [0.25, 0.25, 0.25])
    np.testing.assert_allclose(env.world.tip_position, [0.25, 0.25, 0.25], atol=2e-3)


@pytest.mark.parametrize("action", [np.zeros(2), np.array([0, np.nan, 0]), np.zeros((1, 3))])
def test_a_bad_action_is_refused(action):
    env = make_blind(IDS[0])
    env.reset(seed=0)
    with pytest.raises(ValueError, match="3 finite numbers"):
        env.step(action)


@pytest.mark.filterwarnings("ignore:.*that is not in the possible render_modes")
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"horizn": 5}, "horizn: unknown key; did you mean 'horizon'"),
        ({"horizon": "5"}, "horizon"),
        ({"most": 9}, r"most must lie in \[1, 5\], got 9"),
        ({"render_mode": "ansi"}, "render_mode"),
        ({"render_camera": "frnt"}, "did you mean 'front'"),
        ({"sensors": [{"type": "camera", "name": "frnt"}]}, "no camera 'frnt'.*did you mean 'front'.*side"),
        ({"sensors": [{"type": "camera", "width": 0}]}, "width must lie in"),
        ({"sensors": ["instruction", "joint_positions", "joint_positions"]}, "joint_positions"),
        ({"sensors": []}, "at least one"),
    ],
)
def test_bad_settings_give_one_clear_error(kwargs, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        gymnasium.make(IDS[0], **kwargs).reset()


def test_cameras_may_be_many_and_of_any_size():
    sensors = [
        {"type": "camera", "name": "front", "width": 320, "height": 240},
        {"type": "camera", "name": "wrist", "width": 32, "height": 48},
        "joint_positions",
    ]
    with gymnasium.make(IDS[1], sensors=sensors) as env:
        observation, _ = env.reset(seed=0)
    assert observation[IMAGES + "front"].shape == (240, 320, 3)
    assert observation[IMAGES + "wrist"].shape == (48, 32, 3)
    assert observation[STATE].shape == (3,)
    assert TASK not in observation


def test_a_users_own_sensor_works_by_name(tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text(
        "from dataclasses import dataclass\n"
        "import numpy as np\n"
        "from vla_rl.specs import SensorSpec\n"
        "@dataclass(frozen=True)\n"
        "class MyHeight:\n"
        "    scale: float = 1.0\n"
        "    name: str = 'height'\n"
        "    def spec(self, world):\n"
        "        return SensorSpec('vector', (1,), 'float32', unit='m', low=0.0, high=1.0)\n"
        "    def read(self, world):\n"
        "        return np.array([world.tip_position[2] * self.scale], np.float32)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sensors = [{"type": "my_module:MyHeight", "scale": 2.0}]
    with pytest.raises(ConfigError, match="plugins"):
        gymnasium.make(IDS[0], sensors=sensors)
    env = gymnasium.make(IDS[0], sensors=sensors, plugins=["my_module"]).unwrapped
    observation, _ = env.reset(seed=0)
    np.testing.assert_allclose(observation[STATE], 2 * env.world.tip_position[2:], rtol=1e-5)
    sensors[0]["scale"] = 100.0
    with pytest.raises(ValueError, match="sensor 'height' stated"):
        gymnasium.make(IDS[0], sensors=sensors, plugins=["my_module"]).reset()


@pytest.mark.parametrize("where", ["qpos", "qvel", "qfrc_applied"])
def test_physics_that_breaks_down_truncates(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log into the working directory
    env = make_blind(IDS[1])
    env.reset(seed=0)
    getattr(env.world.data, where)[0] = np.nan
    _, reward, terminated, truncated, info = env.step(np.zeros(3))
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["diverged"]
    assert "diverged" not in env.reset(seed=0)[1]


def test_importing_tasks_and_sensors_loads_no_simulator():
    code = (
        "import sys, sims, sims.mujoco.sensors, sims.mujoco.tasks.reach, sims.mujoco.tasks.push\n"
        "assert not {'torch', 'mujoco', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gymnasium_finds_the_environments_by_module_name():
    code = "import gymnasium; gymnasium.make('sims:vla_rl/Reach-v0').reset(seed=0)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (finished.returncode, finished.stderr) == (0, "")
