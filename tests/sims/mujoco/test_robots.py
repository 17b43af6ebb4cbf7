"""What robots are told is what they do; every control can carry out what the expert wants."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sims  # noqa: F401  (registers the environments)
from sims.mujoco import rotations
from sims.mujoco.robots import DOWN
from sims.mujoco.table import WORKSPACE_HIGH, WORKSPACE_LOW
from sims.mujoco.world import World


@pytest.fixture(scope="module")
def arm() -> World:
    return World("reach", "arm")


def place(x: float, y: float, z: float) -> np.ndarray:
    return WORKSPACE_LOW + np.array([x, y, z]) * (WORKSPACE_HIGH - WORKSPACE_LOW)


unit = st.floats(0, 1)


@settings(max_examples=60, deadline=None)
@given(unit, unit, unit, st.floats(-1.5, 1.5))
def test_the_arm_reaches_every_place_of_the_workspace_turned_as_told(arm, x, y, z, yaw):
    wanted, turn = place(x, y, z), rotations.about_z(yaw)
    arm.reset()
    arm.robot.reach(wanted, turn, iterations=100)
    np.testing.assert_allclose(arm.robot.position, wanted, atol=1e-9)
    arm.robot.apply(arm.data)
    arm.data.qpos[:6] = arm.robot.angles
    arm.settle()
    np.testing.assert_allclose(arm.tip_position, wanted, atol=3e-4)
    assert abs(rotations.nearest_turn(rotations.yaw_of(arm.tip_rotation) - yaw, 2 * np.pi)) < 3e-3
    assert arm.tip_rotation[2, 2] > 0.9999


def test_the_arm_follows_and_holds_still(arm):
    arm.reset(tip=(0, 0, 0.2))
    for _ in range(12):
        arm.robot.reach(arm.robot.position + np.array([0.01, -0.01, -0.005]), DOWN)
        arm.step()
    for _ in range(15):
        arm.step()
    np.testing.assert_allclose(arm.tip_position, [0.12, -0.12, 0.14], atol=2e-3)
    assert np.abs(arm.joint_velocities).max() < 5e-3


def test_a_pose_out_of_reach_is_cut_to_what_the_joints_do(arm):
    arm.reset()
    sideways = rotations.turned(DOWN, np.array([2.5, 0, 0]))
    for _ in range(10):
        arm.robot.reach(np.array([0.25, -0.25, 0.25]), sideways)
    before = arm.robot.position.copy()
    low, high = arm.robot.ranges
    assert ((arm.robot.angles >= low) & (arm.robot.angles <= high)).all()
    arm.robot.drive(arm.robot.angles)
    np.testing.assert_allclose(arm.robot.position, before, atol=6e-3)


CONTROLS = [
    "end_effector",
    {"type": "end_effector", "rotation": "full"},
    {"type": "end_effector", "relative": False},
    {"type": "end_effector", "fingers": "relative"},
    {"type": "joints"},
    {"type": "joints", "target": "position"},
    {"type": "joints", "target": "velocity", "fingers": "relative"},
]
ENTRIES = [5, 7, 5, 5, 7, 7, 7]


@pytest.mark.parametrize(("control", "entries"), list(zip(CONTROLS, ENTRIES, strict=True)))
def test_the_expert_picks_with_every_control(control, entries):
    env = gymnasium.make("vla_rl/Pick-v0", sensors=("end_effector_pose", "instruction"), control=control).unwrapped
    assert env.action_space.shape == (entries,) == (len(env.action_names),)
    done = 0
    for seed in range(8):
        env.reset(seed=seed)
        ended = False
        while not ended:
            action = env.expert_action()
            assert env.action_space.contains(action)
            _, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        done += info["is_success"]
    assert done >= 7


def test_relative_and_absolute_controls_end_at_the_same_place():
    ends = []
    for control in ({"type": "end_effector", "relative": False, "fingers": "closed"}, "end_effector"):
        env = gymnasium.make("vla_rl/Pick-v0", sensors=("instruction",), control=control).unwrapped
        env.reset(seed=0)
        goal = np.array([0.1, -0.05, 0.2])
        for _ in range(12):
            if control == "end_effector":
                action = np.clip((goal - env.world.commanded_position) / 0.04, -1, 1)
                env.step(np.array([*action, 0, -1]))
            else:
                action = 2 * (goal - WORKSPACE_LOW) / (WORKSPACE_HIGH - WORKSPACE_LOW) - 1
                env.step(np.array([*action, 0]))
        ends.append(env.world.tip_position)
    np.testing.assert_allclose(ends[0], goal, atol=3e-3)
    np.testing.assert_allclose(ends[0], ends[1], atol=2e-3)


def test_joint_velocities_are_what_was_asked_for():
    control = {"type": "joints", "target": "velocity", "speed": 1.0, "fingers": "closed"}
    env = gymnasium.make("vla_rl/Pick-v0", sensors=("instruction",), control=control).unwrapped
    env.reset(seed=0)
    for _ in range(8):
        env.step(np.array([0.5, 0, 0, 0, 0, 0]))
    assert env.world.joint_velocities[0] == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"control": "end_efector"}, "did you mean 'end_effector'"),
        ({"control": {"type": "end_effector", "step": 0}}, "step must be above 0"),
        ({"control": {"type": "end_effector", "relative": False, "rotation": "full"}}, "needs relative"),
        ({"control": {"type": "joints", "target": "torque"}}, "control.target"),
        ({"robot": "gripper"}, "Pick is done by arm; got 'gripper'"),
        ({"split": "tain"}, "did you mean 'train'"),
        ({"randomise": [{"camera": 2}]}, r"camera must lie in \[0, 1\]"),
        ({"randomise": [{"cameras": 1}]}, "did you mean 'camera'"),
        ({"tools": ["close_upp"]}, "did you mean 'close_up'"),
    ],
)
def test_bad_settings_give_one_clear_error(kwargs, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make("vla_rl/Pick-v0", **kwargs)
