"""Sensors read what the world is; late, seldom and noisy ones say so."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.observe import Observer
from vla_rl.specs import IMAGES, STATE, TASK, SensorSpec

PICK = "vla_rl/Pick-v0"


def make(sensors, env_id: str = PICK, **kwargs):
    return gymnasium.make(env_id, sensors=[*sensors, "instruction"], **kwargs).unwrapped


def run(env, steps: int, seed: int = 0) -> list[dict]:
    """Observations of an episode of the expert."""
    seen = [env.reset(seed=seed)[0]]
    return seen + [env.step(env.expert_action())[0] for _ in range(steps)]


def test_the_arms_sensors_read_the_world():
    env = make(["joint_positions", "joint_velocities", "end_effector_pose", "fingers", "previous_action"])
    observation = run(env, 4)[-1]
    joints, speeds, pose, fingers, action = np.split(observation[STATE], [6, 12, 21, 23])
    world = env.world
    np.testing.assert_allclose(joints, world.data.qpos[:6], atol=1e-6)
    np.testing.assert_allclose(speeds, world.data.qvel[:6], atol=1e-5)
    np.testing.assert_allclose(pose[:3], world.tip_position, atol=1e-6)
    np.testing.assert_allclose(pose[3:].reshape(2, 3).T, world.tip_rotation[:, :2], atol=1e-6)
    np.testing.assert_allclose(fingers, [world.data.qpos[6:8].sum() / 0.084, 1], atol=1e-6)
    assert action.shape == (5,)
    assert np.array_equal(action, world.previous_action)
    assert np.abs(speeds).max() > 0.1


def test_touch_and_the_wrist_feel_what_is_held():
    env = make(["touch", "force_torque"])
    seen = np.array([each[STATE] for each in run(env, 13)])
    held = [env.world.held("object0")]
    assert (seen[0, :2] == 0).all()
    assert held == [True]
    assert (seen[-1, :2] > 1).all()
    assert np.abs(seen[-1, 2:5]).max() > 1


def test_depth_is_the_distance_along_the_axis():
    env = make([{"type": "depth", "camera": "top", "near": 0.5, "far": 1.5, "width": 32, "height": 32}], robot=None)
    observation, _ = env.reset(seed=0)
    picture = observation[IMAGES + "depth"]
    assert (picture[..., 0] == picture[..., 1]).all()
    metres = 0.5 + picture[..., 0] / 255
    # The camera is 1.15 m above the table; a corner of the picture shows its bare top.
    assert metres[30, 2] == pytest.approx(1.15, abs=0.01)
    np.testing.assert_allclose(env.world.depth("top", 32, 32)[30, 2], 1.15, atol=1e-3)


def test_segmentation_paints_the_target_where_it_is():
    env = make([{"type": "segmentation", "width": 128, "height": 128}, {"type": "camera", "width": 128, "height": 128}])
    observation, _ = env.reset(seed=3)
    picture = observation[IMAGES + "segmentation"]
    for slot in env.world.shown:
        x, y = (env.world.project("front", env.world.object_position(slot)) + 1) * 64
        label = picture[int(y), int(x)]
        assert (picture == label).all(-1).sum() < 400, slot
        assert label.any()
    assert (picture == 255).all(-1).any()


def test_a_late_sensor_shows_what_was():
    now, late = (
        make(["end_effector_pose"]),
        make([{"type": "timed", "sensor": {"type": "end_effector_pose"}, "delay": 2}]),
    )
    current = [each[STATE] for each in run(now, 8)]
    delayed = [each[STATE] for each in run(late, 8)]
    assert all(np.array_equal(delayed[i], current[max(i - 2, 0)]) for i in range(9))


def test_a_seldom_sensor_repeats_and_a_picture_may_be_late_too():
    camera = {"type": "camera", "name": "front", "width": 32, "height": 32}
    env = make([camera, {"type": "timed", "sensor": camera, "name": "slow", "every": 3, "delay": 1}])
    seen = run(env, 8)
    for i, each in enumerate(seen):
        assert np.array_equal(each[IMAGES + "slow"], seen[max(i - 1, 0) // 3 * 3][IMAGES + "front"])
    assert seen[1][IMAGES + "slow"] is not seen[2][IMAGES + "slow"]


def test_noise_has_its_standard_deviation_and_stays_in_range():
    env = make([{"type": "timed", "sensor": {"type": "commanded_position"}, "noise": 0.02}])
    readings = []
    for seed in range(40):
        for each in run(env, 5, seed):
            readings.append(each[STATE])
            assert env.observation_space[STATE].contains(each[STATE])
    exact = make(["commanded_position"])
    truth = [each[STATE] for seed in range(40) for each in run(exact, 5, seed)]
    assert np.std(np.array(readings) - np.array(truth)) == pytest.approx(0.02, rel=0.1)


def test_history_puts_the_latest_first():
    env = make([{"type": "timed", "sensor": {"type": "commanded_position"}, "history": 3}])
    exact = make(["commanded_position"])
    seen, truth = run(env, 6), [each[STATE] for each in run(exact, 6)]
    assert env.observation_space[STATE].shape == (9,)
    for i, each in enumerate(seen):
        assert np.array_equal(each[STATE], np.concatenate([truth[max(i - age, 0)] for age in range(3)]))


def test_a_snapshot_keeps_what_late_and_noisy_sensors_remember():
    sensors = [
        {"type": "timed", "sensor": {"type": "end_effector_pose"}, "delay": 2, "noise": 0.01, "every": 2, "history": 2}
    ]
    env, other = make(sensors), make(sensors)
    run(env, 5)
    run(other, 2, seed=9)
    other.restore(env.snapshot())
    for _ in range(6):
        action = env.expert_action()
        assert np.array_equal(env.step(action)[0][STATE], other.step(action)[0][STATE])


@pytest.mark.parametrize(
    ("sensor", "message"),
    [
        ({"type": "timed", "sensor": {"type": "camera"}, "history": 2}, "history: for vectors.*replay.stack"),
        ({"type": "timed", "sensor": {"type": "touch"}, "every": 0}, "every must be at least 1, got 0"),
        ({"type": "timed", "sensor": {"type": "timed", "sensor": {"type": "touch"}}}, "cannot be timed once more"),
        ({"type": "depth", "near": 2.0}, "near < far"),
        ({"type": "depth", "camera": "frnt"}, "did you mean 'front'"),
        ({"type": "end_effector_pose", "rotation": "yw"}, "rotation"),
    ],
)
def test_a_bad_sensor_gives_one_clear_error(sensor, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make([sensor])


def test_a_robot_without_fingers_says_so():
    for sensor in ("fingers", "touch"):
        with pytest.raises(ValueError, match="fingers do not move"):
            make([sensor], "vla_rl/Reach-v0")
    with pytest.raises(ValueError, match="no sensor 'wrist_force'"):
        make(["force_torque"], "vla_rl/Reach-v0")


def test_the_close_up_shows_the_cell_that_was_called_and_costs():
    env = make(["close_up"], tools=["close_up"])
    assert env.observation_space.contains(env.reset(seed=0)[0])
    still = np.zeros(5, np.float32)
    blank, *_, free = env.step({"robot": still, "close_up": 0})
    shown, *_, paid = env.step({"robot": still, "close_up": 5})
    other = env.step({"robot": still, "close_up": 1})[0]
    after = env.step({"robot": still, "close_up": 0})[0]
    key = IMAGES + "close_up"
    assert not blank[key].any()
    assert shown[key].std() > 1
    assert not np.array_equal(shown[key], other[key])
    assert not after[key].any()
    assert (free["cost"], paid["cost"]) == (0.0, 0.05)
    assert TASK in after
    # What the camera is aimed at is in the middle of its picture.
    env.step({"robot": still, "close_up": 9})
    middle = env.world.project("close_up", np.array([0.1667, 0.1667, 0.02]))
    assert np.abs(middle).max() < 0.05


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(5, np.float32), "dict of"),
        ({"robot": np.zeros(5, np.float32)}, "dict of"),
        ({"robot": np.zeros(5, np.float32), "close_up": 10}, "close_up: a choice lies in"),
    ],
)
def test_a_bad_call_of_a_tool_is_refused(action, message):
    env = make([], tools=["close_up"])
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


def test_a_sensor_whose_numbers_stop_being_finite_is_named():
    @dataclass(frozen=True)
    class Gauge:
        name: str = "gauge"

        def spec(self, world):
            return SensorSpec("vector", (2,), "float32")

        def read(self, world):
            return np.array([0, world.level], np.float32)

    world = SimpleNamespace(level=1.0)
    observer = Observer([Gauge()], world)
    observer.begin(world, np.random.default_rng(0))
    observer.read(world)
    world.level = np.nan
    with pytest.raises(ValueError, match=r"sensor 'gauge' read \[0.0, nan\]"):
        observer.read(world)
    assert observer.read(world, spoilt=True)[STATE].tolist() == [0, 0]
