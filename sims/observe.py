"""From sensors to the observations of an environment."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import gymnasium
import numpy as np

from vla_rl import registry
from vla_rl.specs import IMAGES, STATE, TASK, Sensor, SensorSpec

CHARACTERS = string.ascii_letters + string.digits + " " + string.punctuation
"""What an instruction may be written with."""


@dataclass(frozen=True)
class Observer:
    """The sensors of one environment, and how their readings make an observation.

    Images go under `IMAGES + name`; vectors are concatenated under `STATE` in the order of the config;
    text goes under `TASK`. A key without a sensor is absent.
    """

    sensors: tuple[Sensor, ...]
    specs: tuple[SensorSpec, ...]

    @classmethod
    def build(cls, config: Sequence[Any], world: Any, plugins: Sequence[str] = ()) -> Self:
        """Build every sensor of `config` (instances, names or mappings) and let it look at `world`.

        Raises:
            ValueError: what cannot be built, two sensors of a name, two texts, or a sensor that this
                world cannot serve.
        """
        sensors = tuple(registry.build("sensors", item, plugins, f"sensors[{i}]") for i, item in enumerate(config))
        if not sensors:
            raise registry.ConfigError("sensors: at least one is needed")
        specs = []
        for i, sensor in enumerate(sensors):
            try:
                specs.append(sensor.spec(world))
            except ValueError as error:
                raise registry.ConfigError(f"sensors[{i}] ({sensor.name}): {error}") from error
        first: dict[str, int] = {}
        for i, (sensor, spec) in enumerate(zip(sensors, specs, strict=True)):
            key = "a text" if spec.kind == "text" else repr(sensor.name)
            if first.setdefault(key, i) != i:
                raise registry.ConfigError(f"sensors[{i}]: sensors[{first[key]}] is {key} already; each needs its own")
        return cls(sensors, tuple(specs))

    def space(self) -> gymnasium.spaces.Dict:
        """The observation space."""
        spaces: dict[str, gymnasium.Space] = {}
        for sensor, spec in zip(self.sensors, self.specs, strict=True):
            if spec.kind == "image":
                spaces[IMAGES + sensor.name] = gymnasium.spaces.Box(0, 255, spec.shape, np.uint8)
            elif spec.kind == "text":
                spaces[TASK] = gymnasium.spaces.Text(spec.shape[0], charset=CHARACTERS)
        vectors = [spec for spec in self.specs if spec.kind == "vector"]
        if vectors:
            low, high = (
                np.concatenate([np.full(spec.shape, getattr(spec, side), np.float32) for spec in vectors])
                for side in ("low", "high")
            )
            spaces[STATE] = gymnasium.spaces.Box(low, high, dtype=np.float32)
        return gymnasium.spaces.Dict(spaces)

    def read(self, world: Any) -> dict[str, Any]:
        """One observation; its arrays are the caller's to keep."""
        observation: dict[str, Any] = {}
        vectors = []
        for sensor, spec in zip(self.sensors, self.specs, strict=True):
            reading = sensor.read(world)
            if spec.kind == "vector":
                vectors.append(reading)
            else:
                observation[IMAGES + sensor.name if spec.kind == "image" else TASK] = reading
        if vectors:
            observation[STATE] = np.concatenate(vectors, dtype=np.float32, casting="same_kind")
        return observation

    def check(self, world: Any) -> None:
        """Hold every reading against its spec.

        Raises:
            ValueError: naming the sensor, what it stated and what it returned.
        """
        for sensor, spec in zip(self.sensors, self.specs, strict=True):
            reading = sensor.read(world)
            if spec.kind == "text":
                fits = isinstance(reading, str) and 0 < len(reading) <= spec.shape[0]
                got = repr(reading)
            else:
                array = np.asarray(reading)
                fits = array.shape == spec.shape and array.dtype == spec.dtype and bool(np.isfinite(array).all())
                fits = fits and bool(np.all((array >= spec.low) & (array <= spec.high)))
                got = f"{array.dtype} {array.shape} in [{array.min()}, {array.max()}]" if array.size else "nothing"
            if not fits:
                raise ValueError(f"sensor {sensor.name!r} stated {spec}, but read {got}")
