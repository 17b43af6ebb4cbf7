"""What ceilings are told of a table-top world: the true state, or places in pictures as eyes that err would tell them.

Fields are the config.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sims.mujoco.things import DARK
from vla_rl.specs import SensorSpec

if TYPE_CHECKING:
    from sims.mujoco.world import World

_METRE = 1.0
"""No two things, nor a thing and the tip, are further apart along an axis."""
_PIXEL = 2 / 64
"""The 64th part of a picture, whose places lie in [-1, 1]."""
_FARTHEST = 20.0
"""In half pictures: nothing in the workspace is so far out of one."""


@dataclass(frozen=True)
class NamedThings:
    """All there is to know of what an instruction names, from the simulator: float32 [11 n + 3 n (n - 1) / 2].

    Of the first `count` = n of them, in the order of their mention: the positions, metres; each minus the tip's; the
    cosine and sine of how each is turned about the vertical; half its height, and how far its moving part has gone,
    metres; whether its lamp is out, 0 or 1; and each position minus each one before it. What is not named is 0. No
    camera tells it so well: it shows what a policy would do that saw everything, and is no sensor for a result.
    """

    name: str = "named_things"
    count: int = 2

    def __post_init__(self) -> None:
        _check_count(self)

    def spec(self, world: World) -> SensorSpec:
        """Entries of at most a metre, and of at most 1."""
        entries = 11 * self.count + 3 * self.count * (self.count - 1) // 2
        return SensorSpec("vector", (entries,), "float32", low=-_METRE, high=_METRE)

    def read(self, world: World) -> np.ndarray:
        """What is so now."""
        named = world.named[: self.count]
        known = np.arange(self.count)[:, None] < len(named)
        places, turns, parts = (np.zeros((self.count, size)) for size in (3, 2, 3))
        for i, slot in enumerate(named):
            places[i], yaw = world.object_position(slot), world.object_yaw(slot)
            turns[i] = math.cos(yaw), math.sin(yaw)
            parts[i] = world.half_height(slot), world.travel(slot), world.is_painted(slot, DARK)
        aside = np.where(known, places - world.tip_position, 0)
        pairs = [(places[i] - places[j]) * known[i] for i in range(self.count) for j in range(i)]
        return np.concatenate([*(part.ravel() for part in (places, aside, turns, parts)), *pairs]).astype(np.float32)


@dataclass(frozen=True)
class NamedPlaces:
    """Where the cameras have what an instruction names, and the tip, as eyes that err would tell it: float32 [entries].

    Camera by camera: the places [n + 1, 2] of the first `count` = n things in the order of their mention and of the
    tip, in [-1, 1]; and four times the difference of each from each one before it [n (n + 1) / 2, 2]. What is not named
    is 0. The errors are drawn from what is there, so that a restored state is read as it was. It shows which errors of
    pointers cost a policy success, and is no sensor for a result.

    Args:
        noise: standard deviation of each coordinate, in 64ths of the picture.
        misses: share of the readings of a thing by one camera that tell any place in the picture's middle half instead.
    """

    name: str = "named_places"
    cameras: tuple[str, ...] = ("front", "side")
    count: int = 2
    noise: float = 0.0
    misses: float = 0.0

    def __post_init__(self) -> None:
        _check_count(self)
        if not self.cameras:
            raise ValueError("cameras must name at least one")
        if not self.noise >= 0:
            raise ValueError(f"noise must be at least 0, got {self.noise}")
        if not 0 <= self.misses <= 1:
            raise ValueError(f"misses must lie in [0, 1], got {self.misses}")

    def spec(self, world: World) -> SensorSpec:
        """Places, and differences. Raises ValueError, naming the nearest camera, where the world lacks one of these."""
        for camera in self.cameras:
            world.camera_id(camera)
        entries = len(self.cameras) * (self.count + 1) * (self.count + 2)
        return SensorSpec("vector", (entries,), "float32", low=-_FARTHEST, high=_FARTHEST)

    def read(self, world: World) -> np.ndarray:
        """What the eyes tell now."""
        points = np.full((self.count + 1, 3), np.nan)  # so that what is not named stays unknown to the end
        for i, slot in enumerate(world.named[: self.count]):
            points[i] = world.object_position(slot)
        points[-1] = world.tip_position
        true = np.stack([world.project(camera, points) for camera in self.cameras])
        rng = np.random.default_rng(np.frombuffer(points.tobytes(), np.uint32))
        told = true + rng.normal(0, self.noise * _PIXEL, true.shape)
        missed = (rng.random(true.shape[:2]) < self.misses) & ~np.isnan(true[..., 0])
        missed[:, -1] = False
        told[missed] = rng.uniform(-0.5, 0.5, (missed.sum(), 2))
        later, former = np.tril_indices(self.count + 1, -1)
        aside = 4 * (told[:, later] - told[:, former])
        both = np.nan_to_num(np.concatenate([told, aside], axis=1))
        return np.clip(both, -_FARTHEST, _FARTHEST).ravel().astype(np.float32)


def _check_count(sensor: NamedThings | NamedPlaces) -> None:
    if sensor.count < 1:
        raise ValueError(f"count must be at least 1, got {sensor.count}")
