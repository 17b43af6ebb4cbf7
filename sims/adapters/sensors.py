"""What a policy may observe of another package's environment, beside `camera` and `instruction`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vla_rl.registry import nearest
from vla_rl.specs import SensorSpec

if TYPE_CHECKING:
    from sims.adapters.world import ForeignWorld


@dataclass(frozen=True)
class ForeignVector:
    """Numbers of the environment's own observation: the entry `key`, or all of it; of those [start:stop]. float32 [n].

    An entry of an entry is `arm/joints`, or `arm.joints`; of a Tuple `pair/0`.

    What a policy is to find out from pixels, such as where the goal is, is left out by the bounds. The numbers are
    multiplied by `scale`; a policy reads best what lies about [-1, 1].
    """

    name: str = "vector"
    key: str | None = None
    start: int = 0
    stop: int | None = None
    unit: str = ""
    scale: float = 1.0

    def spec(self, world: ForeignWorld) -> SensorSpec:
        """Raises ValueError where the observation has no such numbers."""
        there = self._numbers(world)
        if there.dtype.kind not in "biuf":
            raise ValueError(f"the observation{_named(self.key)} holds {there.dtype}, not numbers")
        picked = there[self.start : self.stop]
        if not len(picked):
            raise ValueError(f"[{self.start}:{self.stop}] is empty: the observation{_named(self.key)} has {len(there)}")
        return SensorSpec("vector", picked.shape, "float32", unit=self.unit)

    def read(self, world: ForeignWorld) -> np.ndarray:
        """The numbers as the last observation has them."""
        return (self.scale * self._numbers(world)[self.start : self.stop]).astype(np.float32)

    def _numbers(self, world: ForeignWorld) -> np.ndarray:
        return np.ravel(entry(world.observation, self.key))


@dataclass(frozen=True)
class ForeignImage:
    """A picture that the environment makes: the entry `key` of its observation, or its own `render()` without one.

    uint8 [height, width, 3], scaled to `width` and `height` where they are given. For a MuJoCo model `camera` is
    faster.
    """

    name: str = "front"
    key: str | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        if (self.width is None) != (self.height is None) or min(self.width or 1, self.height or 1) < 1:
            raise ValueError(f"give both `width` and `height`, at least 1, or neither; got {self.width}, {self.height}")

    def spec(self, world: ForeignWorld) -> SensorSpec:
        """Raises ValueError where the environment makes no such picture."""
        return SensorSpec("image", self.read(world).shape, "uint8", low=0, high=255)

    def read(self, world: ForeignWorld) -> np.ndarray:
        """The picture now."""
        source = f"the observation{_named(self.key)}" if self.key else "render()"
        picture: Any = world.own_picture() if self.key is None else entry(world.observation, self.key)
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            shown = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
            raise ValueError(f"{source} is no picture, uint8 [height, width, 3], but {shown}")
        if self.width is None or self.height is None or picture.shape[:2] == (self.height, self.width):
            return picture
        return np.asarray(Image.fromarray(picture).resize((self.width, self.height), Image.Resampling.BOX))


def entry(observation: Any, key: str | None) -> np.ndarray:
    """An entry of a Dict observation, by its path where Dicts or Tuples hold one another; all of one that is an array.

    Raises:
        ValueError: no such entry, with the nearest one, or a key where there are no entries.
    """
    if not isinstance(observation, Mapping | tuple):
        if key is not None:
            raise ValueError(f"the observation has no entries, so that `key: {key}` names nothing; set it to null")
        return np.asarray(observation)
    found = None if key is None else _walk(observation, key)
    if found is None:
        raise ValueError(f"the observation has no entry {key!r}; {nearest(key, entries(observation))}")
    if isinstance(found, Mapping | tuple):
        inner = ", ".join(f"{key}/{path}" for path in entries(found))
        raise ValueError(f"the observation's entry {key!r} holds several: {inner}; name one")
    return np.asarray(found)


def entries(observation: Any, prefix: str = "") -> dict[str, Any]:
    """The arrays and texts that a Dict or Tuple observation holds at any depth, by their paths such as `arm/joints`."""
    found: dict[str, Any] = {}
    for name, part in _parts(observation).items():
        path = f"{prefix}{name}"
        found |= entries(part, f"{path}/") if isinstance(part, Mapping | tuple) else {path: part}
    return found


def _walk(observation: Any, path: str) -> Any:
    """What lies at a path, None for nothing. Names may themselves hold the signs that part a path."""
    parts = _parts(observation)
    if path in parts:
        return parts[path]
    for mark in re.finditer(r"[/.]", path):
        inner = parts.get(path[: mark.start()])
        if isinstance(inner, Mapping | tuple) and (found := _walk(inner, path[mark.end() :])) is not None:
            return found
    return None


def _parts(observation: Any) -> dict[str, Any]:
    named = observation.items() if isinstance(observation, Mapping) else enumerate(observation)
    return {str(name): part for name, part in named}


def _named(key: str | None) -> str:
    return f"'s entry {key!r}" if key else ""
