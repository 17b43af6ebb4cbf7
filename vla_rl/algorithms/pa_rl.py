"""Sampled-candidate policy improvement with a decoupled critic (the family of PA-RL, arXiv 2412.06685).

Shapes: B rows, N candidates, K slots.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vla_rl.algorithms import losses
from vla_rl.algorithms.actor_critic import ActorCritic
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.policy import Logits


class PaRlAlgorithm(ActorCritic):
    """The actor imitates its own samples and the replayed action, by the critic's preference among them."""

    settings: PaRl

    def update_actor(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Imitate the candidates that the critic prefers, held by demonstrations and the supervised start."""
        with self.learner.autocast():
            logits = self.policy.logits(self.actor_features(rows.grounded, rows.observation))
        fixed = [each.detach() for each in logits]
        tokens, weights, statistics = self.weigh_candidates(fixed, rows)
        with self.learner.autocast():
            log_prob = self.policy.log_prob(logits, torch.cat([tokens, rows.labels.unsqueeze(1)], dim=1)).float()
            improvement = losses.weighted_bc_loss(weights, log_prob[:, :-1])
        return self.anchored(improvement, logits, log_prob[:, -1], rows) | statistics

    @torch.no_grad()
    def weigh_candidates(self, logits: Logits, rows: LearnerBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Candidates int64 [B, N, K] (samples, uniform ones, the replayed action last) and their weights [B, N]."""
        settings, policy = self.settings, self.policy
        tokens = policy.sample(logits, settings.candidates, self.noise(len(rows), settings.candidates))
        parts = [tokens]
        if settings.uniform_candidates:
            noise = self.noise(len(rows), settings.uniform_candidates)
            parts.append(policy.uniform(len(rows), settings.uniform_candidates, noise))
        candidates = torch.cat([*parts, rows.tokens.unsqueeze(1)], dim=1)
        q = self.q(rows.grounded, candidates)
        if settings.self_imitation:
            # Whatever would have followed an episode that was cut short is worth the least there is, or more.
            replayed = losses.raise_to_return(q[:, -1], rows.returns + rows.rest * settings.value_range[0])
            q = torch.cat([q[:, :-1], replayed.unsqueeze(1)], dim=1)
        # One candidate has no spread: the least temperature decides between it and the replayed action.
        spread = q[:, :-1].std(dim=1).mean() if q.shape[1] > 2 else q.new_zeros(())
        spread = self.learner.mean(spread)
        weights = losses.candidate_weights(q, (settings.temperature * spread).clamp_min(settings.least_temperature))
        effective = 1.0 / weights.square().sum(1)
        return candidates, weights, {"q/spread": spread, "actor/effective_candidates": effective.mean()}
