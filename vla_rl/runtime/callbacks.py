"""What people's own code hears of a training while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_rl.config import RunConfig
from vla_rl.models.policy import Policy
from vla_rl.replay import EndedEpisode, EpisodeListener


@dataclass(frozen=True)
class Moment:
    """Where a training is.

    step: decisions so far. success_rate: of the latest episodes, 0 to 1; NaN before the first. folder: the run's.
    run: its config. policy: what is being trained; read it, and change nothing.
    """

    step: int
    success_rate: float
    folder: Path
    run: RunConfig
    policy: Policy


class Callback:
    """Hears of a training; override what you need, and give it as `train(..., callbacks=[...])`.

    What it raises ends the run, which leaves a checkpoint. Of several processes of one run, the first one calls.
    """

    def on_step(self, now: Moment) -> bool | None:
        """After the environments took a step and the policy learned from it; False ends the training."""

    def on_episode(self, now: Moment, episode: EndedEpisode) -> bool | None:
        """After an episode that counts: `episode.success`, `episode.reward`, `len(episode)`; False ends the
        training."""

    def on_eval(self, now: Moment, metrics: Mapping[str, float]) -> bool | None:
        """After a validation: `metrics["eval/pc_success"]`, in percent; False ends the training."""


class Callbacks(EpisodeListener):
    """All callbacks of a run, called in order.

    Attributes:
        enough: 1.0 once one of them has asked to end the training; else 0.0.
    """

    def __init__(self, callbacks: Sequence[Callback], now: Callable[[], Moment]) -> None:
        self._callbacks, self._now = callbacks, now
        self.enough = 0.0
        self._heard = -1

    def on_step(self) -> None:
        """Tell of a step."""
        self._tell("on_step")

    def on_eval(self, metrics: Mapping[str, float]) -> None:
        """Tell of a validation."""
        self._tell("on_eval", dict(metrics))

    def on_episode(self, episode: EndedEpisode) -> dict[str, Any]:
        """Tell of an episode, once: a guard has replay tell of all that are remembered again."""
        if episode.ids[-1] > self._heard:
            self._heard = int(episode.ids[-1])
            self._tell("on_episode", episode)
        return {}

    def _tell(self, what: str, *given: Any) -> None:
        for callback in self._callbacks:
            if getattr(callback, what)(self._now(), *given) is False:
                self.enough = 1.0
