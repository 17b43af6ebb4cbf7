"""The reward that a verifier would pay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_rl.replay import EndedEpisode, EpisodeListener
from vla_rl.specs import REWARD, VERIFIED, Signal


@dataclass(frozen=True)
class VerifiedReward(EpisodeListener):
    """Has an episode count for what is verified at its end, whatever was paid: `full` at its last decision, or nothing.

    While it runs, and where it was interrupted, what was paid counts.
    """

    full: float = 1.0

    @property
    def columns(self) -> tuple[Signal]:
        """What rewards count for."""
        return (Signal(REWARD),)

    def on_episode(self, episode: EndedEpisode) -> dict[str, np.ndarray]:
        """Nothing, and at the end what the verifier says."""
        reward = np.zeros(len(episode), np.float32)
        reward[-1] = self.full * bool(episode.signals[VERIFIED][-1])
        return {REWARD: reward}
