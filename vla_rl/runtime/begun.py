"""A run that goes on: what of its newest checkpoint the making of its parts needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_rl.config import RunConfig, fixed
from vla_rl.runtime import checkpoint
from vla_rl.runtime.generations import POLICY

STATE, REFERENCE = "training_state", "reference_model"
"""The parts of a generation beside its policy: what a resumed run needs, of several processes the first one's; and the
policy that `algorithm.kl_weight` ties the actor to."""


@dataclass(frozen=True)
class Begun:
    """A run that goes on, as far as the making of its parts needs it. generation: its newest whole one."""

    generation: checkpoint.Generation

    @classmethod
    def of(cls, folder: Path) -> Begun | None:
        """The run in a folder; None where nothing was saved yet."""
        generation = checkpoint.latest(folder)
        return None if generation is None else cls(generation)

    @property
    def policy(self) -> Path:
        """Where its policy lies."""
        return self.generation.folder / POLICY

    @property
    def reference(self) -> Path | None:
        """Where the policy lies that it is to stay close to; None where an older version did not keep it."""
        folder = self.generation.folder / REFERENCE
        return folder if folder.is_dir() else None

    def told(self, name: str, *default: Any) -> Any:
        """A number or text that it was saved with."""
        return checkpoint.load_entry(self.generation.folder / STATE, name, *default)

    def check(self, run: RunConfig, folder: Path) -> None:
        """Raise ConfigError where the config of the run is one that it cannot go on with."""
        kept = self.told("config", None)
        if kept is not None:
            fixed.check(kept, run, folder)

    def as_chosen(self, run: RunConfig, device: str) -> RunConfig:
        """The run with what was measured when it began, where that is left open, and the device is such a one."""
        if self.told("device", "") != device:
            return run
        precision, compiled, cached = (self.told(name) for name in ("precision", "compiled", "cached"))
        policy, replay = dict[str, Any](), dict[str, Any]()
        if run.policy.precision == "auto" and precision in ("float32", "bfloat16"):
            policy["precision"] = precision
        if run.policy.compile == "auto":
            policy["compile"] = "always" if compiled else "never"
        if run.replay.cache == "auto" and not run.algorithm.needs.augments:
            replay["cache"] = "always" if cached else "never"
        parts = {"policy": run.policy.model_copy(update=policy), "replay": run.replay.model_copy(update=replay)}
        return run.model_copy(update=parts)
