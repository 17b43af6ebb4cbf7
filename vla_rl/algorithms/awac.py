"""Advantage-weighted actor-critic (arXiv 2006.09359): what was done is imitated, the more the better it was.

Shapes: B rows, N samples, K slots.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vla_rl.algorithms.actor_critic import ActorCritic
from vla_rl.algorithms.configs import Awac
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.policy import Logits


class AwacAlgorithm(ActorCritic):
    """The actor imitates the decisions of the batch, weighed by how much better they were than its own."""

    settings: Awac

    def update_actor(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Imitate the batch by exp(A / beta), held by demonstrations and the supervised start."""
        with self.learner.autocast():
            logits = self.policy.logits(self.actor_features(rows.grounded, rows.observation))
        advantage = self.advantage([each.detach() for each in logits], rows)
        return self.imitate(logits, advantage, rows)

    @torch.no_grad()
    def advantage(self, logits: Logits, rows: LearnerBatch) -> Tensor:
        """[B] Q(s, a) - mean Q(s, samples of the policy)."""
        samples = self.policy.sample(logits, self.settings.values, self.noise(len(rows), self.settings.values))
        q = self.q(rows.grounded, torch.cat([samples, rows.tokens.unsqueeze(1)], dim=1))
        return q[:, -1] - q[:, :-1].mean(1)
