"""What an action means to a robot. Fields are the config; every action is float32 in [-1, 1].

Where the robot has fingers that move, the last entry of an action is theirs, unless a control leaves them closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import gymnasium
import numpy as np

from sims.mujoco import rotations
from sims.mujoco.table import CONTROL_SECONDS, WORKSPACE_HIGH, WORKSPACE_LOW

if TYPE_CHECKING:
    from sims.mujoco.robots import Robot
    from sims.mujoco.task import Target

Fingers = Literal["absolute", "relative", "closed"]
"""absolute: -1 is closed and 1 wide open; relative: an opening or closing movement; closed: no entry."""

_CLOSING = 0.25
"""The largest relative change of the fingers' opening in one step."""


class Control(Protocol):
    """A frozen dataclass."""

    def entries(self, robot: Robot) -> tuple[str, ...]:
        """The name of each entry of an action."""

    def apply(self, robot: Robot, action: np.ndarray) -> None:
        """Tell the robot what `action` [entries] in [-1, 1] means."""

    def towards(self, robot: Robot, target: Target) -> np.ndarray:
        """The action that brings the robot nearest to a target: float64 [entries] in [-1, 1]."""


def box(entries: int) -> gymnasium.spaces.Box:
    """The space of actions with so many entries."""
    return gymnasium.spaces.Box(-1, 1, (entries,), np.float32)


@dataclass(frozen=True)
class EndEffector:
    """The tip's position, and as much of the hand's rotation as asked for.

    Args:
        relative: entries displace what is commanded; else they name a place in the workspace (and an angle).
        rotation: none, yaw (about the vertical) or full (a rotation vector).
        fingers: see `Fingers`.
        step: the largest displacement of the commanded position along each axis in one step, metres.
        turn: the largest turn about each axis in one step, radians.
    """

    relative: bool = True
    rotation: Literal["none", "yaw", "full"] = "yaw"
    fingers: Fingers = "absolute"
    step: float = 0.04
    turn: float = 0.3

    def __post_init__(self) -> None:
        _check_positive(self, "step", "turn")
        if self.rotation == "full" and not self.relative:
            raise ValueError("rotation: 'full' needs relative: true; an absolute control turns by 'yaw' or 'none'")

    def entries(self, robot: Robot) -> tuple[str, ...]:
        """x, y, z, then the rotation's, then the fingers'."""
        turns = {"none": (), "yaw": ("yaw",), "full": ("turn_x", "turn_y", "turn_z")}[self._rotation(robot)]
        return ("x", "y", "z", *turns, *_finger_entries(robot, self.fingers))

    def apply(self, robot: Robot, action: np.ndarray) -> None:
        """See `Control`."""
        rotation = robot.rotation
        turns = action[3 : len(action) - len(_finger_entries(robot, self.fingers))]
        if self.relative:
            position = robot.position + self.step * action[:3]
            if len(turns):
                vector = np.array([0.0, 0.0, turns[0]]) if len(turns) == 1 else turns
                rotation = rotations.turned(rotation, self.turn * vector)
        else:
            away = _place(action[:3]) - robot.position
            position = robot.position + np.clip(away, -self.step, self.step)
            if len(turns):
                away = rotations.nearest_turn(np.pi * turns[0] - rotations.yaw_of_quaternion(rotation), 2 * np.pi)
                rotation = rotations.turned(rotation, np.array([0, 0, np.clip(away, -self.turn, self.turn)]))
        robot.reach(position, rotation)
        _move_fingers(robot, self.fingers, action)

    def towards(self, robot: Robot, target: Target) -> np.ndarray:
        """See `Control`."""
        turning = rotations.nearest_turn(target.yaw - rotations.yaw_of_quaternion(robot.rotation), 2 * np.pi)
        if self.relative:
            moves = (target.position - robot.position) / self.step
            turns = {"none": (), "yaw": (turning / self.turn,), "full": (0.0, 0.0, turning / self.turn)}
            action = np.array([*moves, *turns[self._rotation(robot)]])
        else:
            low, high = _place(-np.ones(3)), _place(np.ones(3))
            action = 2 * (target.position - low) / (high - low) - 1
            if self._rotation(robot) == "yaw":
                action = np.append(action, rotations.nearest_turn(target.yaw, 2 * np.pi) / np.pi)
        return np.clip(np.append(action, _finger_action(robot, self.fingers, target.opening)), -1, 1)

    def _rotation(self, robot: Robot) -> str:
        return self.rotation if robot.turns else "none"


@dataclass(frozen=True)
class Joints:
    """The joints one by one.

    Args:
        target: position: entries span each joint's range; delta: they displace the commanded joints, at most by
            `step`; velocity: they are speeds, at most `speed`, which the commanded joints take on.
        fingers: see `Fingers`.
        step: the largest change of a commanded joint in one step, radians (metres for a slide).
        speed: the largest velocity, radians (metres) a second.
    """

    target: Literal["position", "delta", "velocity"] = "delta"
    fingers: Fingers = "absolute"
    step: float = 0.12
    speed: float = 2.5

    def __post_init__(self) -> None:
        _check_positive(self, "step", "speed")

    def entries(self, robot: Robot) -> tuple[str, ...]:
        """The joints' names, then the fingers'."""
        return (*robot.joints, *_finger_entries(robot, self.fingers))

    def apply(self, robot: Robot, action: np.ndarray) -> None:
        """See `Control`."""
        moves = action[: len(robot.joints)]
        if self.target == "position":
            low, high = robot.ranges
            away = low + (moves + 1) / 2 * (high - low) - robot.angles
            robot.drive(robot.angles + np.clip(away, -self.step, self.step))
        else:
            robot.drive(robot.angles + self._reach * moves)
        _move_fingers(robot, self.fingers, action)

    def towards(self, robot: Robot, target: Target) -> np.ndarray:
        """See `Control`."""
        before = robot.snapshot()
        # As far as a step of the hand would go, so that the way there is the same.
        hand = EndEffector(fingers="closed")
        hand.apply(robot, hand.towards(robot, target)[: len(hand.entries(robot))])
        wanted = robot.angles.copy()
        robot.restore(before)
        if self.target == "position":
            low, high = robot.ranges
            action = 2 * (wanted - low) / (high - low) - 1
        else:
            action = (wanted - robot.angles) / self._reach
        return np.clip(np.append(action, _finger_action(robot, self.fingers, target.opening)), -1, 1)

    @property
    def _reach(self) -> float:
        return self.step if self.target == "delta" else self.speed * CONTROL_SECONDS


def _finger_entries(robot: Robot, fingers: Fingers) -> tuple[str, ...]:
    return ("fingers",) if robot.fingers and fingers != "closed" else ()


def _move_fingers(robot: Robot, fingers: Fingers, action: np.ndarray) -> None:
    if not robot.fingers:
        return
    if fingers == "closed":
        robot.opening = 0.0
    elif fingers == "absolute":
        robot.opening = float(action[-1] + 1) / 2
    else:
        robot.opening = float(np.clip(robot.opening + _CLOSING * action[-1], 0, 1))


def _finger_action(robot: Robot, fingers: Fingers, opening: float) -> np.ndarray:
    if not _finger_entries(robot, fingers):
        return np.zeros(0)
    return np.array([2 * opening - 1 if fingers == "absolute" else (opening - robot.opening) / _CLOSING])


def _place(action: np.ndarray) -> np.ndarray:
    """The place in the workspace that an absolute action [3] names."""
    return WORKSPACE_LOW + (action + 1) / 2 * (WORKSPACE_HIGH - WORKSPACE_LOW)


def _check_positive(control: object, *fields: str) -> None:
    for name in fields:
        if not getattr(control, name) > 0:
            raise ValueError(f"{name} must be above 0, got {getattr(control, name)}")
