"""How long it took from each decision on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_rl.replay import EndedEpisode, EpisodeListener
from vla_rl.specs import Signal


@dataclass(frozen=True)
class StepsLeft(EpisodeListener):
    """Tells of each decision how many followed it in its episode: `Batch.extra["steps_left"]`, 0 at the last one."""

    @property
    def columns(self) -> tuple[Signal]:
        """That one."""
        return (Signal("steps_left"),)

    def on_episode(self, episode: EndedEpisode) -> dict[str, np.ndarray]:
        """Count down."""
        return {"steps_left": np.arange(len(episode), dtype=np.float32)[::-1]}
