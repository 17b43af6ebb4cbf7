"""RECAP (arXiv 2511.14759): imitate everything, told how good it was; then ask for the good.

Shapes: B rows, K slots.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vla_rl.algorithms import losses
from vla_rl.algorithms.actor_critic import ActorCritic
from vla_rl.algorithms.configs import Recap
from vla_rl.algorithms.critic import Critic, make_critic
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.runtime.learner import Learner


class RecapAlgorithm(ActorCritic):
    """The critic tells what observations are worth, and whether a decision was better than usual there."""

    settings: Recap

    def __init__(self, settings: Recap, policy: Policy, learner: Learner, **parts: Any) -> None:
        policy.condition()
        super().__init__(settings, policy, learner, **parts)

    @property
    def scorer(self) -> None:
        """Nothing ranks decisions."""

    def make_critic(self) -> Critic:
        """A critic of observations alone."""
        return make_critic(self.settings, self.policy, slots=())

    def judged(self, tokens: Tensor) -> Tensor:
        """Nothing of a decision."""
        return tokens[..., :0]

    @torch.no_grad()
    def next_value(self, rows: LearnerBatch) -> Tensor:
        """[C] V at what follows the rows."""
        assert rows.next_grounded is not None, "nothing follows"
        return self.value_of(rows.next_grounded)

    @torch.no_grad()
    def value_of(self, grounded: Features) -> Tensor:
        """[B] V at observations."""
        none = torch.zeros(len(grounded), 1, 0, dtype=torch.int64, device=self.learner.device)
        return self.target_q(grounded, none).squeeze(1)

    def update_actor(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Imitate all rows, with and without a word on whether they were good; the good ones are what is asked for."""
        settings, policy = self.settings, self.policy
        advantage, good = self.advantage(rows)
        features = self.actor_features(rows.grounded, rows.observation)
        with self.learner.autocast():
            told = policy.logits(features, good)
            log_prob = policy.log_prob(told, rows.labels.unsqueeze(1)).float().squeeze(1)
            untold = policy.logits(features, torch.full_like(good, -1))
            plain = policy.log_prob(untold, rows.labels.unsqueeze(1)).float().squeeze(1)
            loss = -rows.trusted(settings.told_weight * log_prob + plain).mean()
        acting = policy.logits(features) if self.tether is not None else told
        metrics = self.anchored(loss, acting, log_prob, rows)
        return metrics | {"actor/advantage": advantage.mean(), "actor/good": good.float().mean()}

    @torch.no_grad()
    def advantage(self, rows: LearnerBatch) -> tuple[Tensor, Tensor]:
        """The advantage float32 [B] of each row's decision, and whether it counts as good, int64 [B]: the best `share`
        of them do, and demonstrations."""
        value = self.value_of(rows.grounded)
        advantage = losses.credited(losses.whole(rows.returns, rows.rest) - value, rows.credit)
        least = self.learner.mean(torch.nanquantile(advantage, 1.0 - self.settings.share))
        return torch.nan_to_num(advantage), ((advantage > least) | rows.demo).long()
