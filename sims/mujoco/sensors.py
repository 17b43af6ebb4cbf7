"""What a policy may observe of a table-top world. Fields are the config."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sims.mujoco import rotations
from vla_rl.specs import SensorSpec

if TYPE_CHECKING:
    from sims.mujoco.world import World

_REACH = 0.5  # metres; no robot's tip, and no slide, gets further from the table's centre
_UNIT = 1.0  # the same, or an entry of a rotation matrix
_ANGLE = 3.5  # radians; no hinge goes further
_SPEED = 20.0
_FORCE = 50.0
_GAP = 0.084  # metres between the pads of open fingers
_LARGEST_IMAGE = 2048
_LABELS = np.array(
    [
        *((220, 40, 40), (40, 160, 60), (50, 80, 220), (230, 200, 40), (150, 60, 180), (240, 140, 40)),
        *((40, 190, 200), (240, 130, 190), (130, 90, 50), (120, 200, 120), (90, 90, 160), (200, 200, 160)),
    ],
    np.uint8,
)


@dataclass(frozen=True)
class Camera:
    """An RGB picture from a camera of the scene: uint8 [height, width, 3]."""

    name: str = "front"
    width: int = 64
    height: int = 64

    def __post_init__(self) -> None:
        _check_size(self)

    def spec(self, world: World) -> SensorSpec:
        """Raises ValueError, naming the nearest camera, where the world has none of this name."""
        return _picture(world, self.name, self.width, self.height)

    def read(self, world: World) -> np.ndarray:
        """What the camera sees now."""
        return world.render(self.name, self.width, self.height)


@dataclass(frozen=True)
class Depth:
    """How far what a camera sees lies before it, in gray: uint8 [height, width, 3], 0 at `near`, 255 at `far`.

    `near` and `far` are metres along the camera's axis; what lies beyond is cut to them.
    """

    name: str = "depth"
    camera: str = "front"
    width: int = 64
    height: int = 64
    near: float = 0.5
    far: float = 1.5

    def __post_init__(self) -> None:
        _check_size(self)
        if not 0 <= self.near < self.far:
            raise ValueError(f"near and far must be 0 <= near < far, got {self.near} and {self.far}")

    def spec(self, world: World) -> SensorSpec:
        """Raises ValueError where the world has no such camera."""
        return _picture(world, self.camera, self.width, self.height)

    def read(self, world: World) -> np.ndarray:
        """What the camera measures now."""
        depth = world.depth(self.camera, self.width, self.height)
        gray = np.clip((depth - self.near) / (self.far - self.near), 0, 1) * 255
        return np.repeat(np.rint(gray).astype(np.uint8)[..., None], 3, axis=2)


@dataclass(frozen=True)
class Segmentation:
    """What each pixel of a camera shows, as a picture: uint8 [height, width, 3].

    Black is the scenery, white the robot; the slots that the scene can fill have a colour each, in their order.
    """

    name: str = "segmentation"
    camera: str = "front"
    width: int = 64
    height: int = 64

    def __post_init__(self) -> None:
        _check_size(self)

    def spec(self, world: World) -> SensorSpec:
        """Raises ValueError where the world has no such camera."""
        return _picture(world, self.camera, self.width, self.height)

    def read(self, world: World) -> np.ndarray:
        """What the camera shows now."""
        picture = np.zeros((self.height, self.width, 3), np.uint8)
        for slot, pixels in world.pixels_of(self.camera, self.width, self.height).items():
            picture[pixels] = 255 if slot == "gripper" else _LABELS[world.slots.index(slot) % len(_LABELS)]
        return picture


@dataclass(frozen=True)
class CloseUp:
    """What the tool `close_up` shows: the cell that was called in the last step, else black."""

    name: str = "close_up"
    width: int = 64
    height: int = 64

    def __post_init__(self) -> None:
        _check_size(self)

    def spec(self, world: World) -> SensorSpec:
        """A picture."""
        return _picture(world, "close_up", self.width, self.height)

    def read(self, world: World) -> np.ndarray:
        """What the camera sees now, where it was called."""
        if not world.looked:
            return np.zeros((self.height, self.width, 3), np.uint8)
        return world.render("close_up", self.width, self.height)


@dataclass(frozen=True)
class JointPositions:
    """Of the robot's joints without the fingers: float32 [joints], radians (metres for a slide, from its middle)."""

    name: str = "joint_positions"

    def spec(self, world: World) -> SensorSpec:
        """One entry a joint."""
        return _joints(world, _ANGLE if world.robot.turns else _REACH)

    def read(self, world: World) -> np.ndarray:
        """The positions now."""
        return world.joint_positions.astype(np.float32)


@dataclass(frozen=True)
class JointVelocities:
    """Of the robot's joints without the fingers: float32 [joints], radians (metres) a second, cut to 20."""

    name: str = "joint_velocities"

    def spec(self, world: World) -> SensorSpec:
        """One entry a joint."""
        return _joints(world, _SPEED, "/s")

    def read(self, world: World) -> np.ndarray:
        """The velocities now."""
        return np.clip(world.joint_velocities, -_SPEED, _SPEED).astype(np.float32)


@dataclass(frozen=True)
class EndEffectorPose:
    """Where the tip is, metres, and how the hand is turned: float32 [3 + the rotation's].

    Args:
        rotation: of a hand that can turn: full gives two columns of the rotation matrix [6] (Zhou et al. 2019), yaw
            the cosine and the sine of the turn about the vertical [2], none nothing.
    """

    name: str = "end_effector_pose"
    rotation: Literal["full", "yaw", "none"] = "full"

    def spec(self, world: World) -> SensorSpec:
        """Three metres, and the rotation."""
        return SensorSpec("vector", self.read(world).shape, "float32", unit="m", low=-_UNIT, high=_UNIT)

    def read(self, world: World) -> np.ndarray:
        """The pose now."""
        if self.rotation == "none" or not world.robot.turns:
            return world.tip_position.astype(np.float32)
        axes = world.tip_rotation
        if self.rotation == "full":
            turn = axes[:, :2].T.ravel()
        else:
            turn = np.array([math.cos(yaw := rotations.yaw_of(axes)), math.sin(yaw)])
        return np.concatenate([world.tip_position, turn]).astype(np.float32)


@dataclass(frozen=True)
class Fingers:
    """How far the fingers are apart, and were told to be: float32 [2], from 0 (closed) to 1 (wide open)."""

    name: str = "fingers"

    def spec(self, world: World) -> SensorSpec:
        """Two shares. Raises ValueError for a robot whose fingers do not move."""
        _check_fingers(world)
        return SensorSpec("vector", (2,), "float32", low=0, high=1)

    def read(self, world: World) -> np.ndarray:
        """The gap now."""
        return np.clip([world.finger_gap / _GAP, world.robot.opening], 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Touch:
    """How hard each finger's pad is pressed: float32 [2], newtons, cut to 50."""

    name: str = "touch"

    def spec(self, world: World) -> SensorSpec:
        """Two newtons. Raises ValueError for a robot whose fingers do not move."""
        _check_fingers(world)
        return SensorSpec("vector", (2,), "float32", unit="N", low=0, high=_FORCE)

    def read(self, world: World) -> np.ndarray:
        """The force in the last physics step."""
        pressed = np.concatenate([world.sensor("left_touch"), world.sensor("right_touch")])
        return np.clip(pressed, 0, _FORCE).astype(np.float32)


@dataclass(frozen=True)
class ForceTorque:
    """What the wrist carries, in the hand's frame: float32 [6], newtons and newton metres, cut to 50."""

    name: str = "force_torque"

    def spec(self, world: World) -> SensorSpec:
        """Three newtons, three newton metres. Raises ValueError for a robot without the sensor."""
        world.sensor("wrist_force")
        return SensorSpec("vector", (6,), "float32", unit="N, N m", low=-_FORCE, high=_FORCE)

    def read(self, world: World) -> np.ndarray:
        """Force and torque in the last physics step."""
        carried = np.concatenate([world.sensor("wrist_force"), world.sensor("wrist_torque")])
        return np.clip(carried, -_FORCE, _FORCE).astype(np.float32)


@dataclass(frozen=True)
class PreviousAction:
    """What was done last: float32 [entries of the control], in [-1, 1]; zeros before the first step."""

    name: str = "previous_action"

    def spec(self, world: World) -> SensorSpec:
        """As long as an action."""
        return SensorSpec("vector", world.previous_action.shape, "float32", low=-1, high=1)

    def read(self, world: World) -> np.ndarray:
        """The last action."""
        return world.previous_action.copy()


@dataclass(frozen=True)
class CommandedPosition:
    """Where the tip has been told to go, which it trails: float32 [3], metres. Actions displace it."""

    name: str = "commanded_position"

    def spec(self, world: World) -> SensorSpec:
        """Three metres."""
        return _metres()

    def read(self, world: World) -> np.ndarray:
        """The commanded position now."""
        return world.commanded_position.astype(np.float32)


@dataclass(frozen=True)
class TrackingError:
    """How far the tip trails where it has been told to go: float32 [3], metres, commanded minus actual.

    In free space it tells the velocity, in contact the force. It lies in the two positions too, but what varies by
    centimetres is hard to see in a difference of numbers that vary by decimetres.
    """

    name: str = "tracking_error"

    def spec(self, world: World) -> SensorSpec:
        """Three metres."""
        return _metres()

    def read(self, world: World) -> np.ndarray:
        """The commanded position minus the tip's, now."""
        return (world.commanded_position - world.tip_position).astype(np.float32)


def _metres() -> SensorSpec:
    return SensorSpec("vector", (3,), "float32", unit="m", low=-_REACH, high=_REACH)


def _joints(world: World, bound: float, rate: str = "") -> SensorSpec:
    unit = ("rad" if world.robot.turns else "m") + rate
    return SensorSpec("vector", (len(world.robot.joints),), "float32", unit=unit, low=-bound, high=bound)


def _picture(world: World, camera: str, width: int, height: int) -> SensorSpec:
    world.camera_id(camera)
    return SensorSpec("image", (height, width, 3), "uint8", low=0, high=255)


def _check_size(sensor: Camera | Depth | Segmentation | CloseUp) -> None:
    for field in ("width", "height"):
        if not 1 <= getattr(sensor, field) <= _LARGEST_IMAGE:
            raise ValueError(f"{field} must lie in [1, {_LARGEST_IMAGE}], got {getattr(sensor, field)}")


def _check_fingers(world: World) -> None:
    if not world.robot.fingers:
        raise ValueError("this robot's fingers do not move")
