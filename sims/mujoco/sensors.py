"""What a policy may observe of a table-top world. Fields are the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vla_rl.specs import SensorSpec

if TYPE_CHECKING:
    from sims.mujoco.world import World

INSTRUCTION_LENGTH = 120
"""Characters that an instruction may have."""

_REACH = 0.5  # metres; no joint of the gripper gets further from the table's centre
_LARGEST_IMAGE = 2048


@dataclass(frozen=True)
class Camera:
    """An RGB picture from a camera of the scene: uint8 [height, width, 3]."""

    name: str = "front"
    width: int = 64
    height: int = 64

    def __post_init__(self) -> None:
        for field in ("width", "height"):
            if not 1 <= getattr(self, field) <= _LARGEST_IMAGE:
                raise ValueError(f"{field} must lie in [1, {_LARGEST_IMAGE}], got {getattr(self, field)}")

    def spec(self, world: World) -> SensorSpec:
        """Raises ValueError, naming the nearest camera, where the world has none of this name."""
        world.camera_id(self.name)
        return SensorSpec("image", (self.height, self.width, 3), "uint8", low=0, high=255)

    def read(self, world: World) -> np.ndarray:
        """What the camera sees now."""
        return world.render(self.name, self.width, self.height)


@dataclass(frozen=True)
class JointPositions:
    """How far the gripper's three slides (x, y, z) are from their middle: float32 [3], metres."""

    name: str = "joint_positions"

    def spec(self, world: World) -> SensorSpec:
        """Three metres."""
        return _metres()

    def read(self, world: World) -> np.ndarray:
        """The slides' positions now."""
        return world.joint_positions.astype(np.float32)


@dataclass(frozen=True)
class EndEffectorPose:
    """Where the gripper's tip is: float32 [3], metres.

    This gripper never turns (its fingers point straight down), so that its pose is its position.
    """

    name: str = "end_effector_pose"

    def spec(self, world: World) -> SensorSpec:
        """Three metres."""
        return _metres()

    def read(self, world: World) -> np.ndarray:
        """The tip's position now."""
        return world.tip_position.astype(np.float32)


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


@dataclass(frozen=True)
class Instruction:
    """What the task asks for, in words."""

    name: str = "instruction"

    def spec(self, world: World) -> SensorSpec:
        """Text of at most INSTRUCTION_LENGTH characters."""
        return SensorSpec("text", (INSTRUCTION_LENGTH,), "str")

    def read(self, world: World) -> str:
        """The episode's instruction."""
        return world.instruction


def _metres() -> SensorSpec:
    return SensorSpec("vector", (3,), "float32", unit="m", low=-_REACH, high=_REACH)
