"""How another package's environment is shown to a policy, as data. Light: `vla-rl list` reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sims.adapters import suites
from vla_rl import registry

AUTO = ("is_success", "success")
"""What environments call success, in the order in which "auto" looks for it."""


@dataclass(frozen=True)
class View:
    """A camera of one's own: it looks at `lookat` [3] (metres) from `distance`; angles in degrees.

    With `body`, it looks at that body of the model instead, wherever it goes.
    """

    azimuth: float = 90.0
    elevation: float = -30.0
    distance: float = 1.0
    lookat: tuple[float, float, float] = (0.0, 0.0, 0.0)
    body: str | None = None

    def __post_init__(self) -> None:
        if self.distance <= 0:
            raise ValueError(f"distance must be positive, got {self.distance}")


@dataclass(frozen=True)
class Threshold:
    """Success where the number that `info` has under `key` lies above, or below, a bound."""

    key: str
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError("give one of `above` and `below`")

    def holds(self, value: float) -> bool:
        """Whether the bound is passed."""
        return value > self.above if self.above is not None else value < self.below  # type: ignore[operator]


@dataclass(frozen=True)
class Adapter:
    """Another package's environment, shown as one of ours: cameras, vectors, an instruction, sparse success.

    suite: a known suite, or a module that the run's `plugins` list; importing it registers the id. Null: Gymnasium
    knows the id by itself. name: what folders are called, where the id says too little.
    instruction: the text; `{word}` stands for what the environment's kwargs, observation or info call so, and
    `{goal/word}` for an entry within one of the observation's.
    success: the info's key that says it, absent where there was none; a mapping {key, above} or {key, below} for a
    number in the info; "auto" for `is_success` or else `success`; or null where there is none.
    reward: 1 at success and 0 else ("success"), or the environment's own ("dense"). terminate: whether success ends
    the episode.
    cameras: further cameras of a MuJoCo model, by name: fields of `View`. view: the camera that `render` shows;
    default: the first of `cameras`, or the model's first. expert: a component that says what to do, or null.
    """

    instruction: str
    suite: str | None = None
    name: str | None = None
    success: str | dict[str, Any] | None = "auto"
    reward: Literal["success", "dense"] = "success"
    terminate: bool = True
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)
    view: str | None = None
    expert: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise ValueError("instruction: empty; say in words what is to be done")
        if self.success is None and self.reward == "success":
            raise ValueError(
                "success: null, so that nothing would ever be rewarded; name the info's key that means success, "
                "give a mapping such as {key: x_position, above: 5}, or set reward: dense"
            )
        self.threshold()
        self.views()

    def views(self) -> dict[str, View]:
        """The cameras."""
        return {name: registry.validated(View, values, f"cameras.{name}") for name, values in self.cameras.items()}

    def threshold(self) -> Threshold | None:
        """The bound that means success, where a mapping says it."""
        if not isinstance(self.success, Mapping):
            return None
        return registry.validated(Threshold, self.success, "success")

    @property
    def success_keys(self) -> tuple[str, ...]:
        """Where in the info success may stand; the first that is there counts."""
        if self.success == "auto":
            return AUTO
        threshold = self.threshold()
        return (threshold.key,) if threshold else (str(self.success),)

    @property
    def installed(self) -> bool:
        """Whether the environment can be made here. Imports nothing."""
        return self.suite is None or suites.installed(self.suite)


def fill(template: str, values: Mapping[str, Any]) -> str:
    """The template with each `{word}` replaced by its value.

    Raises:
        ConfigError: nothing has that name.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise registry.ConfigError(
                f"env.adapter.instruction: nothing is called {match[1]!r}; {registry.nearest(match[1], values)}"
            )
        return str(values[match[1]])

    return " ".join(re.sub(r"{(\w+(?:/\w+)*)}", value, template).split())
