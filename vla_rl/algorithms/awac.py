"""Advantage-weighted actor-critic (arXiv 2006.09359): what was done is imitated, the more the better it was.

Shapes: B rows.
"""

from __future__ import annotations

from torch import Tensor

from vla_rl.algorithms.actor_critic import ActorCritic
from vla_rl.algorithms.configs import Awac
from vla_rl.algorithms.imitation import advantage_over_samples, imitate
from vla_rl.algorithms.learner_batch import LearnerBatch


class AwacAlgorithm(ActorCritic):
    """The actor imitates the decisions of the batch, weighed by how much better they were than its own."""

    settings: Awac

    def update_actor(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Imitate the batch by exp(A / beta), held by demonstrations and the supervised start."""
        with self.learner.autocast():
            logits = self.policy.logits(self.actor_features(rows.grounded, rows.observation))
        advantage = advantage_over_samples(self, logits, rows, self.settings.values)
        return imitate(self, logits, advantage, rows)
