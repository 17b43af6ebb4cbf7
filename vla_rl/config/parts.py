"""What every part of a run's config is made of; and the part that says which environment."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vla_rl import registry
from vla_rl.registry import ConfigError

Component = dict[str, Any]
"""A mapping with `type`, from which the registry makes a component."""


Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy's random states take; all of them may seed a run."""
UserPath = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]
"""A file or a folder; `~` is the user's own."""


class Part(BaseModel):
    """Frozen; unknown keys, missing keys, infinities and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EnvConfig(Part):
    """The environment and its observations.

    id: a Gymnasium id. sensors: the contents of the observations, in order; null for an environment that defines its
    own observations. image_size: width and height of the camera images, instead of each sensor's own; null keeps
    those. actions: a readable name for each number of an action, or null.
    kwargs: further settings of the environment. adapter: how another package's environment is adapted (fields of
    `vla_rl/Adapter-v0`), or null.
    """

    id: str = Field(min_length=1)
    sensors: list[Component] | None
    image_size: int | None = Field(ge=1)
    actions: list[str] | None
    kwargs: dict[str, Any]
    adapter: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The id in short, as folders are named: `vla_rl/Reach-v0` is `reach`; or what the adapter says.

        Where one id stands for many tasks, the task's name follows: `metaworld_door-open`.
        """
        short = re.sub(r"-v\d+$", "", self.id.rsplit("/", 1)[-1]).lower()
        if self.adapter is not None and self.adapter.get("name"):
            short = str(self.adapter["name"])
        task = re.sub(r"-v\d+$", "", registry.task_named(self.id, self.kwargs)).lower()
        return f"{short}_{task}" if task and not short.endswith(task) else short

    def sized(self, plugins: Sequence[str] = ()) -> list[Component] | None:
        """The sensors, whose pictures are of `image_size` where that is set.

        Raises:
            ConfigError: a size, and no sensor that has one.
        """
        if self.image_size is None:
            return self.sensors
        side = {"width": self.image_size, "height": self.image_size}

        def resized(sensor: Component) -> Component:
            inner = {key: resized(item) for key, item in sensor.items() if isinstance(item, dict) and "type" in item}
            fields = registry.parameters(registry.resolve("sensors", sensor["type"], plugins))
            return sensor | inner | (side if side.keys() <= fields.keys() else {})

        found = [resized(sensor) for sensor in self.sensors or ()]
        if found == (self.sensors or []) and not any(side.items() <= sensor.items() for sensor in found):
            raise ConfigError(f"env.image_size: {self.image_size}, but no sensor of {self.id} has a width and a height")
        return found
