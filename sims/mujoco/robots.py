"""The robots that can stand at the table: what is commanded of them, and how their joints follow.

A robot keeps its commanded pose (of the tip: the point between the lower ends of the fingers) and the commanded
joints that belong to it. The pose's rotation is a unit quaternion (w, x, y, z); the identity is a hand that points
straight down with its fingers side by side along the world's x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import mujoco
import numpy as np

from sims.mujoco.table import WORKSPACE_HIGH, WORKSPACE_LOW
from vla_rl.paths import shipped

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
"""The rotation of a hand that points straight down."""


_DAMPING = 0.02**2 * np.eye(6)


class Robot(Protocol):
    """What the world, the sensors and the controls need of a robot.

    Attributes:
        joints: names of its joints, without the fingers'.
        turns: whether its hand can turn.
        fingers: names of the finger bodies that open and close; () where they are fixed.
        parts: names of its bodies.
        position, rotation: the commanded pose of the tip: metres [3], quaternion [4].
        angles: the commanded joints [len(joints)], radians or metres.
        opening: how far the fingers are told to open, 0 (closed) to 1.
        ranges: lowest and highest value of each joint.
        stages: in how many equal parts a control step goes from one command to the next; it divides SUBSTEPS.
    """

    joints: tuple[str, ...]
    turns: bool
    fingers: tuple[str, ...]
    parts: tuple[str, ...]
    position: np.ndarray
    rotation: np.ndarray
    angles: np.ndarray
    opening: float
    ranges: tuple[np.ndarray, np.ndarray]
    stages: int

    def reset(self, data: mujoco.MjData, position: np.ndarray) -> None:
        """Stand still with the tip at `position` [3] (clipped to the workspace), pointing down, fingers open."""

    def reach(self, position: np.ndarray, rotation: np.ndarray) -> None:
        """Command a pose; what the workspace or the joints do not allow is cut to what they do."""

    def drive(self, angles: np.ndarray) -> None:
        """Command joints; beyond their ranges they are cut."""

    def apply(self, data: mujoco.MjData) -> None:
        """Write what is commanded into the actuators."""

    def snapshot(self) -> dict[str, np.ndarray]:
        """What is commanded, as arrays."""

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Go back to what `snapshot` returned."""


class Gripper:
    """Three slides along the axes, fingers that do not move, a hand that never turns."""

    joints: tuple[str, ...] = ("gripper_x", "gripper_y", "gripper_z")
    turns = False
    fingers: tuple[str, ...] = ()
    parts: tuple[str, ...] = ("gripper",)
    stages = 1

    def __init__(self, model: mujoco.MjModel) -> None:
        self._home = model.body("gripper").pos.copy()
        self.ranges = (WORKSPACE_LOW - self._home, WORKSPACE_HIGH - self._home)
        self.rotation = DOWN.copy()
        self.opening = 0.0
        self.reach(np.zeros(3), DOWN)

    def reset(self, data: mujoco.MjData, position: np.ndarray) -> None:
        """See `Robot`."""
        self.reach(position, DOWN)
        self.apply(data)
        data.qpos[:3] = data.ctrl[:3]

    def reach(self, position: np.ndarray, rotation: np.ndarray) -> None:
        """See `Robot`; the rotation is not looked at."""
        self.position = np.minimum(np.maximum(position, WORKSPACE_LOW), WORKSPACE_HIGH)
        self.angles = self.position - self._home

    def drive(self, angles: np.ndarray) -> None:
        """See `Robot`."""
        self.reach(angles + self._home, DOWN)

    def apply(self, data: mujoco.MjData) -> None:
        """See `Robot`."""
        data.ctrl[:3] = self.angles

    def snapshot(self) -> dict[str, np.ndarray]:
        """See `Robot`."""
        return {"position": self.position.copy()}

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """See `Robot`."""
        self.reach(snapshot["position"], DOWN)


class Arm:
    """Six hinges, solved for a pose by damped least squares, and two fingers.

    The joints are solved on a model of the arm alone, from the commanded joints and not from where gravity and
    contacts have brought the real ones, so that a command does not depend on what the arm meets.
    """

    joints: tuple[str, ...] = tuple(f"arm_{i}" for i in range(1, 7))
    turns = True
    fingers: tuple[str, ...] = ("left_finger", "right_finger")
    parts: tuple[str, ...] = ("base", "shoulder", "upper_arm", "forearm", "wrist", "wrist_tilt", "hand", *fingers)

    stages = 4  # a jerk would shake what it carries out of the fingers

    HOME = np.array([0.0, 0.57, 2.0, 0.57, 0.0, 0.0])
    """Joints from which a pose is solved at a reset: elbow up, hand down, radians."""
    TOLERANCE = 3e-4
    """A pose is reached when no coordinate is off by more (metres, radians)."""
    STRETCH = 5e-3
    """A pose that stays off by more cannot be reached; the command then is where the joints end up."""
    ITERATIONS = 8
    LARGEST = 0.4
    """The largest change of a joint in one iteration, radians."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = mujoco.MjModel.from_xml_path(str(shipped("assets") / "mujoco" / "arm.xml"))
        self._data = mujoco.MjData(self._model)
        self._tip = self._model.site("tip").id
        self.ranges = (self._model.jnt_range[:6, 0].copy(), self._model.jnt_range[:6, 1].copy())
        self.travel = float(self._model.jnt_range[6, 1])
        self._jacobian = np.zeros((6, self._model.nv))
        self.opening = 1.0
        self.drive(self.HOME)

    def reset(self, data: mujoco.MjData, position: np.ndarray) -> None:
        """See `Robot`."""
        self.opening = 1.0
        self.drive(self.HOME)
        self.reach(position, DOWN, iterations=100)
        self.apply(data)
        data.qpos[:8] = data.ctrl[:8]

    def reach(self, position: np.ndarray, rotation: np.ndarray, iterations: int = ITERATIONS) -> None:
        """See `Robot`."""
        wanted = np.minimum(np.maximum(position, WORKSPACE_LOW), WORKSPACE_HIGH)
        weights = np.empty(6)
        error = self._error(wanted, rotation)
        for _ in range(iterations):
            if abs(error).max() < self.TOLERANCE:
                break
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._tip)
            jacobian = self._jacobian[:, :6]
            square = jacobian @ jacobian.T + _DAMPING
            mujoco.mju_cholFactor(square, 0.0)  # a tenth of what numpy's solver takes for so few numbers
            mujoco.mju_cholSolve(weights, square, error)
            change = jacobian.T @ weights
            largest = abs(change).max()
            if largest > self.LARGEST:
                change *= self.LARGEST / largest
            self._data.qpos[:6] = self._within(self._data.qpos[:6] + change)
            error = self._error(wanted, rotation)
        if abs(error).max() > self.STRETCH:
            self.drive(self._data.qpos[:6])
            return
        self.angles = self._data.qpos[:6].copy()
        self.position, self.rotation = wanted, rotation.copy()

    def _error(self, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """What the tip lacks of a pose [6]: metres, and a rotation vector."""
        mujoco.mj_kinematics(self._model, self._data)
        error = np.empty(6)
        error[:3] = position - self._data.site_xpos[self._tip]
        mujoco.mju_subQuat(error[3:], rotation, self._quaternion())
        # subQuat speaks in the frame of the hand.
        error[3:] = self._data.site_xmat[self._tip].reshape(3, 3) @ error[3:]
        return error

    def _quaternion(self) -> np.ndarray:
        found = np.empty(4)
        mujoco.mju_mat2Quat(found, self._data.site_xmat[self._tip])
        return found

    def drive(self, angles: np.ndarray) -> None:
        """See `Robot`."""
        self.angles = self._within(angles)
        self._data.qpos[:6] = self.angles
        mujoco.mj_kinematics(self._model, self._data)
        self.position = self._data.site_xpos[self._tip].copy()
        self.rotation = self._quaternion()

    def _within(self, angles: np.ndarray) -> np.ndarray:
        low, high = self.ranges
        return np.minimum(np.maximum(angles, low), high)

    def apply(self, data: mujoco.MjData) -> None:
        """See `Robot`."""
        data.ctrl[:6] = self.angles
        data.ctrl[6:8] = self.opening * self.travel

    def snapshot(self) -> dict[str, np.ndarray]:
        """See `Robot`."""
        return {
            "angles": self.angles.copy(),
            "position": self.position.copy(),
            "rotation": self.rotation.copy(),
            "opening": np.array(self.opening),
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """See `Robot`."""
        self.drive(snapshot["angles"])
        self.position, self.rotation = snapshot["position"].copy(), snapshot["rotation"].copy()
        self.opening = float(snapshot["opening"])


ROBOTS: dict[str, Callable[[mujoco.MjModel], Robot]] = {"gripper": Gripper, "arm": Arm}
"""Each robot by the name of its file in `assets/mujoco`."""
