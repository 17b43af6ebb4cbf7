"""Learning from what was done by how much better it was than usual: what AWAC and IQL have in common.

Shapes: B rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vla_rl.algorithms import losses
from vla_rl.algorithms.actor_critic import ActorCritic
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.policy import Logits

LEAST_SCALE = 1e-3
"""Of advantages, in units of value, where all are alike."""


@torch.no_grad()
def advantage_over_samples(actor: ActorCritic, logits: Logits, rows: LearnerBatch, samples: int) -> Tensor:
    """[B] how much more the rows' decisions are worth than `samples` of the policy's own are on average, by success
    and by cost where that counts."""
    own = actor.policy.sample(logits, samples, actor.noise(len(rows), samples))
    assert actor.scorer is not None, "nothing ranks decisions"
    worth = actor.scorer(rows.grounded, torch.cat([own, rows.tokens.unsqueeze(1)], dim=1))
    return worth[:, -1] - worth[:, :-1].mean(1)


def imitate(actor: ActorCritic, logits: Logits, advantage: Tensor, rows: LearnerBatch) -> dict[str, Tensor]:
    """Take the actor's step that imitates the rows by exp(A / beta) of their advantage [B]; returns metrics.

    The actor's settings tell `beta`, in units of the batch's standard deviation of A, and `max_weight`.
    """
    advantage = losses.credited(advantage, rows.credit)
    spread = actor.learner.mean(advantage.std(correction=0))
    scale = (actor.settings.beta * spread).clamp_min(LEAST_SCALE)
    weights = losses.advantage_weights(advantage, scale, actor.settings.max_weight)
    with actor.learner.autocast():
        both = torch.stack([rows.tokens, rows.labels], dim=1)
        log_prob = actor.policy.log_prob(logits, both).float()
        improvement = losses.weighted_bc_loss(rows.trusted(weights).unsqueeze(1), log_prob[:, :1])
    metrics = actor.anchored(improvement, logits, log_prob[:, 1], rows)
    return metrics | {"actor/advantage": advantage.mean(), "actor/weight": weights.mean()}
