"""Sampled-candidate policy improvement with a decoupled critic (the family of PA-RL, arXiv 2412.06685).

Shapes: B rows, N candidates, K slots.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vla_rl.algorithms import losses
from vla_rl.algorithms.actor_critic import ActorCritic
from vla_rl.algorithms.algorithm import Scorer
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.constraints import constrained
from vla_rl.algorithms.critic import load_scorer as load_critic
from vla_rl.algorithms.dynamics import MeanScorer, WorldModel, load_model_scorer
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.occupancy import penalised
from vla_rl.models.policy import Logits, Policy
from vla_rl.runtime.learner import Learner


class PaRlAlgorithm(ActorCritic):
    """The actor imitates its own samples and the replayed action, by the critic's preference among them.

    model: where `settings.critic` asks for one.
    """

    settings: PaRl

    def __init__(self, settings: PaRl, policy: Policy, learner: Learner, **parts: Any) -> None:
        super().__init__(settings, policy, learner, **parts)
        self.model = WorldModel(settings, policy, learner, self.critic) if settings.has_model else None
        self.judge = self.q if self.model is None else judge(settings, self.q, self.model.scorer)

    @property
    def rates(self) -> list[tuple[Any, float]]:
        """Every optimiser, and the learning rate that it begins with."""
        return [*super().rates, *(self.model.rates if self.model else [])]

    def update_critic(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Move Q towards its target, and the model towards what happened."""
        metrics = super().update_critic(rows)
        return metrics if self.model is None else metrics | self.model.update(rows)

    def update_actor(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Imitate the candidates that the critic prefers, held by demonstrations and the supervised start."""
        with self.learner.autocast():
            logits = self.policy.logits(self.actor_features(rows.grounded, rows.observation))
        tokens, weights, statistics = self.weigh_candidates(logits, rows)
        with self.learner.autocast():
            log_prob = self.policy.log_prob(logits, torch.cat([tokens, rows.labels.unsqueeze(1)], dim=1)).float()
            improvement = losses.weighted_bc_loss(rows.trusted(weights), log_prob[:, :-1])
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
        q = self.judge(rows.grounded, candidates)
        if settings.self_imitation:
            # Whatever would have followed an episode that was cut short is worth the least there is, or more.
            replayed = losses.raise_to_return(q[:, -1], rows.returns + rows.rest * settings.value_range[0])
            q = torch.cat([q[:, :-1], replayed.unsqueeze(1)], dim=1)
        if rows.credit is not None:
            usual = q[:, :-1].mean(1)
            replayed = usual + losses.credited(q[:, -1] - usual, rows.credit)
            q = torch.cat([q[:, :-1], replayed.unsqueeze(1)], dim=1)
        if self.occupancy is not None:
            q = self.occupancy.rank(q, rows.grounded, candidates)
        if self.constraint is not None:
            q = self.constraint.rank(q, rows.grounded, candidates)
        # One candidate has no spread: the least temperature decides between it and the replayed action.
        spreads = q[:, :-1].std(dim=1) if q.shape[1] > 2 else q.new_zeros(len(q))
        spread = self.learner.mean(spreads.mean())
        unit = spread if settings.spread == "batch" else spreads.unsqueeze(1)
        weights = losses.candidate_weights(q, (settings.temperature * unit).clamp_min(settings.least_temperature))
        effective = 1.0 / weights.square().sum(1)
        return candidates, weights, {"q/spread": spread, "actor/effective_candidates": effective.mean()}

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the policy's own weights that a resumed run needs."""
        return super().state_dict() | ({"model": self.model.state_dict()} if self.model else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict(state)
        if self.model:
            self.model.load_state_dict(state["model"])


def judge(settings: PaRl, direct: Scorer, model: Scorer) -> Scorer:
    """What judges candidates where there is a model."""
    return model if settings.critic == "model" else MeanScorer(direct, model)


def load_scorer(settings: PaRl, policy: Policy, state: dict[str, Any]) -> Scorer:
    """The scorer of a saved `PaRlAlgorithm.state_dict`, on the policy's device."""
    direct = load_critic(settings, policy, state)
    found: Scorer = direct
    if settings.has_model:
        found = judge(settings, direct, load_model_scorer(settings, policy, state.get("model", {}), direct.critic))
    return constrained(settings, policy, state, penalised(settings, policy, state, found))
