"""Implicit Q-learning (arXiv 2110.06169): a value of states, fitted to the better part of what was done there.

Shapes: B rows, C of them with a next observation, K slots.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vla_rl.algorithms import losses
from vla_rl.algorithms.actor_critic import ActorCritic
from vla_rl.algorithms.configs import Iql
from vla_rl.algorithms.critic import make_critic, state_value
from vla_rl.algorithms.imitation import advantage_over_samples, imitate
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.runtime.learner import Learner


class IqlAlgorithm(ActorCritic):
    """No decision is judged but those of the batch, so that nothing is sampled in learning."""

    settings: Iql

    def __init__(self, settings: Iql, policy: Policy, learner: Learner, **parts: Any) -> None:
        super().__init__(settings, policy, learner, **parts)
        self.value = make_critic(settings, policy, slots=()).to(learner.device)
        self.value_optimizer = learner.optimizer(self.value.parameters(), settings.critic_lr, settings.weight_decay)

    @property
    def rates(self) -> list[tuple[Any, float]]:
        """Every optimiser, and the learning rate that it begins with."""
        return [*super().rates, (self.value_optimizer, self.settings.critic_lr)]

    def update_critic(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Move Q towards its target, and V towards the expectile of Q."""
        return super().update_critic(rows) | self.update_value(rows)

    def update_value(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Move V(s) towards the expectile of the target critic's Q(s, a)."""
        q = self.target_q(rows.grounded, rows.tokens.unsqueeze(1)).squeeze(1)
        loss = losses.expectile_loss(q - self.value_of(rows.grounded), self.settings.expectile, rows.weight)
        norm = self.learner.step(loss, self.value_optimizer, self.settings.clip)
        return {"value/loss": loss.detach(), "value/grad_norm": norm}

    def value_of(self, grounded: Features) -> Tensor:
        """V float32 [B], the mean of the members."""
        with self.learner.autocast():
            return state_value(self.value, self.readout(grounded), grounded)

    @torch.no_grad()
    def next_value(self, rows: LearnerBatch) -> Tensor:
        """[C] V at what follows the rows, within the critic's range."""
        assert rows.next_grounded is not None, "nothing follows"
        return self.value_of(rows.next_grounded).clamp(*self.settings.value_range)

    def update_actor(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Imitate the batch by exp(A / beta), held by demonstrations and the supervised start; where costs or
        straying count, A is told beside the policy's own samples."""
        with self.learner.autocast():
            logits = self.policy.logits(self.actor_features(rows.grounded, rows.observation))
        if self.constraint is not None or self.occupancy is not None:
            advantage = advantage_over_samples(self, logits, rows, self.settings.backup_samples)
            return imitate(self, logits, advantage, rows)
        with torch.no_grad():
            q = self.target_q(rows.grounded, rows.tokens.unsqueeze(1)).squeeze(1)
            advantage = q - self.value_of(rows.grounded)
        return imitate(self, logits, advantage, rows)

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the policy's own weights that a resumed run needs."""
        own = {"value": self.value.state_dict(), "value_optimizer": self.value_optimizer.state_dict()}
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict(state)
        self.value.load_state_dict(state["value"])
        self.value_optimizer.load_state_dict(state["value_optimizer"])
