"""From sensors to the observations of an environment."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np

from vla_rl import registry
from vla_rl.specs import IMAGES, LARGEST, STATE, TASK, Mark, Sensor, SensorSpec, kept_text

SAMPLED = string.ascii_letters + string.digits + " " + string.punctuation
"""What a sample of a text is written with."""
SEPARATOR = "\n"
"""Between two texts."""
INSTRUCTION_LENGTH = 320
"""Characters that an instruction may have, unless its sensor is told otherwise."""
_JOINED = re.compile(r"(?<=\d)(?=[\d+=-])|(?<=[+=-])(?=\d)")
"""Where numbers are taken apart."""


def spelled(text: str) -> str:
    """The text with its numbers digit by digit, and signs between them apart: "12+7" as "1 2 + 7".

    So each key that is pressed for a number is a word of its own, as models that read numbers well split them.
    """
    return _JOINED.sub(" ", text)


@dataclass(frozen=True)
class Instruction:
    """What the task asks for, in words; `length` characters at most.

    instead: said in its place, in every episode: what a policy makes of what it sees without being told.
    digits: whether numbers are said digit by digit, see `spelled`.
    """

    name: str = "instruction"
    length: int = INSTRUCTION_LENGTH
    instead: str | None = None
    digits: bool = False

    def spec(self, world: Any) -> SensorSpec:
        """Text of at most `length` characters."""
        return SensorSpec("text", (self.length,), "str")

    def read(self, world: Any) -> str:
        """The episode's instruction, or what is said instead."""
        said = world.instruction if self.instead is None else self.instead
        return spelled(said) if self.digits else said


@dataclass(frozen=True)
class Timed:
    """Another sensor as it arrives in practice: seldom, late, noisy, together with what it said before.

    Args:
        sensor: the sensor.
        name: what it is observed as; "" for its own name.
        every: steps between two readings; in between the last one is repeated.
        delay: steps that a reading takes to arrive; before the first has arrived it is the first one.
        noise: standard deviation of the normal noise on a vector's entries (in their unit, then cut to their range)
            or an image's levels (of 255).
        history: readings of a vector side by side, the latest first, one step apart.
    """

    sensor: Sensor
    name: str = ""
    every: int = 1
    delay: int = 0
    noise: float = 0.0
    history: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.sensor, Timed):
            raise ValueError("sensor: a timed sensor cannot be timed once more")
        for name, least in (("every", 1), ("delay", 0), ("noise", 0), ("history", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.name:
            object.__setattr__(self, "name", self.sensor.name)

    def spec(self, world: Any) -> SensorSpec:
        """The sensor's own, `history` times as long. Raises ValueError where it cannot be so long or noisy."""
        spec = self.sensor.spec(world)
        if spec.kind == "text" and self.noise:
            raise ValueError("noise: a text has none")
        if spec.kind != "vector" and self.history > 1:
            raise ValueError(
                f"history: for vectors; of a{'n image' if spec.kind == 'image' else ' text'} list the sensor again "
                "with a `delay` and a name, or, for frames in training, set replay.stack"
            )
        return replace(spec, shape=(self.history * spec.shape[0], *spec.shape[1:])) if self.history > 1 else spec

    def read(self, world: Any) -> np.ndarray | str:
        """What an episode's first observation holds, without noise."""
        reading = self.sensor.read(world)
        return np.tile(reading, self.history) if isinstance(reading, np.ndarray) and self.history > 1 else reading


class AnyText(gymnasium.spaces.Text):
    """Every text of at most `length` characters, of whichever script; samples are of ASCII alone.

    Gymnasium's own lists each character that there may be, which of Unicode's are more than a million.
    """

    def __init__(self, length: int) -> None:
        super().__init__(length, min_length=0, charset=SAMPLED)

    def contains(self, x: Any) -> bool:
        """Whether `x` is such a text."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        """In short."""
        return f"AnyText({self.max_length})"


class _Channel:
    """A timed sensor's readings so far in the episode."""

    def __init__(self, timed: Timed, spec: SensorSpec) -> None:
        self._timed, self._spec = timed, spec
        self.steps, self.past = 0, list[Any]()

    def begin(self) -> None:
        self.steps, self.past = 0, []

    def read(self, world: Any, rng: np.random.Generator) -> Any:
        timed = self._timed
        if self.steps % timed.every == 0:
            self.past.append(self._noisy(timed.sensor.read(world), rng))
        else:
            self.past.append(self.past[-1])
        self.past = self.past[-(timed.delay + timed.history) :]
        self.steps += 1
        arrived = [self.past[max(len(self.past) - 1 - timed.delay - age, 0)] for age in range(timed.history)]
        return np.concatenate(arrived) if timed.history > 1 else arrived[0]

    def _noisy(self, reading: Any, rng: np.random.Generator) -> Any:
        if not self._timed.noise:
            return copy(reading)
        noisy = reading + rng.normal(0, self._timed.noise, reading.shape)
        return np.clip(np.rint(noisy) if self._spec.kind == "image" else noisy, self._spec.low, self._spec.high).astype(
            reading.dtype
        )


class Observer:
    """The sensors of one environment, and how their readings make an observation.

    Images go under `IMAGES + name`; vectors are concatenated under `STATE` in the order of the config;
    texts go under `TASK`, one below the other, those that are empty left out. A key without a sensor is absent.

    Args:
        config: instances, names or mappings.
        world: what they look at.
        plugins: modules whose sensors the config may name.

    Raises:
        ValueError: what cannot be built, two sensors of a name, or a sensor that this world cannot serve.
    """

    def __init__(self, config: Sequence[Any], world: Any, plugins: Sequence[str] = ()) -> None:
        self.sensors: tuple[Sensor, ...] = tuple(
            registry.build("sensors", item, plugins, f"sensors[{i}]") for i, item in enumerate(config)
        )
        if not self.sensors:
            raise registry.ConfigError("sensors: at least one is needed")
        specs = []
        for i, sensor in enumerate(self.sensors):
            try:
                specs.append(sensor.spec(world))
            except ValueError as error:
                raise registry.ConfigError(f"sensors[{i}] ({sensor.name}): {error}") from error
            except AttributeError as error:
                if error.obj is not world:
                    raise
                message = f"sensors[{i}] ({sensor.name}): this environment has nothing that it reads: {error}"
                raise registry.ConfigError(message) from error
        self.specs: tuple[SensorSpec, ...] = tuple(specs)
        first: dict[str, int] = {}
        for i, sensor in enumerate(self.sensors):
            if first.setdefault(sensor.name, i) != i:
                raise registry.ConfigError(
                    f"sensors[{i}]: sensors[{first[sensor.name]}] is {sensor.name!r} already; each needs its own"
                )
        self._channels = {
            i: _Channel(sensor, self.specs[i]) for i, sensor in enumerate(self.sensors) if isinstance(sensor, Timed)
        }
        self._rng = np.random.default_rng(0)
        self._fresh = False

    def space(self) -> gymnasium.spaces.Dict:
        """The observation space."""
        spaces: dict[str, gymnasium.Space] = {}
        for sensor, spec in zip(self.sensors, self.specs, strict=True):
            if spec.kind == "image":
                spaces[IMAGES + sensor.name] = gymnasium.spaces.Box(0, 255, spec.shape, np.uint8)
        texts = [spec.shape[0] for spec in self.specs if spec.kind == "text"]
        if texts:
            length = sum(texts) + len(texts) - 1
            spaces[TASK] = AnyText(length)
        vectors = [spec for spec in self.specs if spec.kind == "vector"]
        if vectors:
            low, high = (
                np.concatenate([np.full(spec.shape, getattr(spec, side), np.float32) for spec in vectors])
                for side in ("low", "high")
            )
            spaces[STATE] = gymnasium.spaces.Box(low, high, dtype=np.float32)
        return gymnasium.spaces.Dict(spaces)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The places that the state tells of, by its entries."""
        found, start = list[Mark](), 0
        for spec in self.specs:
            if spec.kind == "vector":
                for mark in spec.marks:
                    flags = tuple(start + flag for flag in mark.flags)
                    found.append(Mark(start + mark.at, flags, mark.camera))
                start += spec.shape[0]
        return tuple(found)

    def begin(self, world: Any, rng: np.random.Generator) -> None:
        """Forget the last episode; the first observation of the new one is held against its specs."""
        if self._channels:
            self._rng = np.random.default_rng(rng.integers(2**63))
        for channel in self._channels.values():
            channel.begin()
        self._fresh = True

    def read(self, world: Any, spoilt: bool = False) -> dict[str, Any]:
        """The observation of the present step, once a step; its arrays are the caller's to keep.

        spoilt: whether the world broke down, so that numbers that are not finite are no sensor's fault; they become 0.

        Raises:
            ValueError: at an episode's beginning, naming the sensor, what it stated and what it returned; in any step,
                naming the sensor whose numbers are not finite.
        """
        observation: dict[str, Any] = {}
        vectors, texts = list[Any](), list[Any]()
        for i, (sensor, spec) in enumerate(zip(self.sensors, self.specs, strict=True)):
            channel = self._channels.get(i)
            reading = channel.read(world, self._rng) if channel else sensor.read(world)
            if spec.kind == "text":
                reading = kept_text(str(reading), f"sensor {sensor.name!r}")
            if self._fresh:
                _check(sensor, spec, sensor.read(world) if channel else reading)
            if spec.kind == "vector":
                vectors.append(reading)
            elif spec.kind == "text":
                texts.append(reading)
            else:
                observation[IMAGES + sensor.name] = np.array(reading)
        self._fresh = False
        if texts:
            observation[TASK] = SEPARATOR.join(text for text in texts if text)
        if vectors:
            state = np.concatenate(vectors, dtype=np.float32, casting="same_kind")
            if not math.isfinite(state.dot(state)):  # it also overflows where a number is too large to learn from
                if not spoilt:
                    self._refuse(vectors)
                state = np.where(np.abs(state) < LARGEST, state, 0.0).astype(np.float32)
            observation[STATE] = state
        return observation

    def _refuse(self, vectors: Sequence[np.ndarray]) -> None:
        """Name the sensor that read what is not finite, or too large."""
        names = [each.name for each, spec in zip(self.sensors, self.specs, strict=True) if spec.kind == "vector"]
        for name, vector in zip(names, vectors, strict=True):
            if not (np.abs(vector) < LARGEST).all():
                raise ValueError(
                    f"sensor {name!r} read {vector.tolist()}; every number must be finite, and below {LARGEST:g}"
                )

    def snapshot(self) -> dict[str, Any]:
        """What late and noisy sensors remember."""
        channels = {i: {"steps": each.steps, "past": list(each.past)} for i, each in self._channels.items()}
        return {"rng": self._rng.bit_generator.state, "channels": channels}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a `snapshot`."""
        self._rng.bit_generator.state = snapshot["rng"]
        for i, channel in self._channels.items():
            channel.steps, channel.past = snapshot["channels"][i]["steps"], list(snapshot["channels"][i]["past"])


def _check(sensor: Any, spec: SensorSpec, reading: Any) -> None:
    if spec.kind == "text" and isinstance(reading, str) and len(reading) > spec.shape[0]:
        raise ValueError(
            f"sensor {sensor.name!r}: a text of {len(reading)} characters, and its `length` is {spec.shape[0]}: "
            f"{reading[:60]!r}..."
        )
    if not _fits(reading, spec):
        raise ValueError(f"sensor {sensor.name!r} stated {spec}, but read {_described(reading)}")


def _fits(reading: Any, spec: SensorSpec) -> bool:
    """Whether a sensor has read what it stated."""
    if spec.kind == "text":
        return isinstance(reading, str) and len(reading) <= spec.shape[0]
    array = np.asarray(reading)
    if array.shape != spec.shape or array.dtype != spec.dtype:
        return False
    if array.dtype == np.uint8 and (spec.low, spec.high) == (0, 255):  # any byte is a level
        return True
    return bool(np.isfinite(array).all()) and bool(np.all((array >= spec.low) & (array <= spec.high)))


def _described(reading: Any) -> str:
    """A reading in an error."""
    if isinstance(reading, str):
        return repr(reading)
    array = np.asarray(reading)
    return f"{array.dtype} {array.shape} in [{array.min()}, {array.max()}]" if array.size else "nothing"
