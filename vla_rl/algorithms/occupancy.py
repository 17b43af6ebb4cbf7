"""How far a policy strays from a trusted one, by a discriminator; and how that enters what decisions are worth.

The discriminator tells decisions of the policy from those of the reference: its logit is log(mu / mu_ref). What is
above 1 of that ratio is a cost of the decision, and a critic of its own tells the discounted costs to come, so that the
critic of success keeps its range, its returns and its n steps.

Shapes: B rows, C of them with a next observation, N decisions a row, K slots, E networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vla_rl.algorithms.actor_critic_config import ActorCriticConfig
from vla_rl.algorithms.algorithm import Scorer
from vla_rl.algorithms.constraints import ConstrainedScorer, CostLearner, CostScorer, saved_costs
from vla_rl.algorithms.critic import DecisionNet, Ensemble, sizes_of
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.replay.batch import Batch
from vla_rl.rewards.occupancy import OccupancyPenalty
from vla_rl.runtime.learner import Learner

WIDTH, DECAY = 64, 1e-3
"""Of the discriminator, which is small since demonstrations are few; and its weight decay."""
MOST_BYTES = 64 << 20
"""Of what is kept of the start policy's decisions: where features hold whole sequences, that is of fewer."""
RATE = 0.02
"""How fast the running divergence follows that of a batch."""


class Discriminator(DecisionNet):
    """log(mu(z, a) / mu_ref(z, a)); see `DecisionNet` for what it reads."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.out = Ensemble(self.members, self.width, 1)
        torch.nn.init.zeros_(self.out.weight)  # nobody strays until it is seen

    def forward(self, readout_BR: Tensor, tokens_BNK: Tensor, seen: Features | None = None) -> Tensor:
        """The logit, [E, B, N]; the frozen features serve slots of words and places."""
        told = self.out(self.bent(self.sums(readout_BR, tokens_BNK, seen)))
        return told.squeeze(-1).unflatten(1, tokens_BNK.shape[:2])


class Penalised:
    """What decisions are worth by success, less what straying costs from there on; the price is that of now."""

    def __init__(self, costs: CostScorer, price: float) -> None:
        self._costs, self.price = costs, price

    def __call__(self, q_BN: Tensor, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """The worth float32 [B, N] of decisions int64 [B, N, K] of success Q."""
        return q_BN - self.price * self._costs(grounded, tokens_BNK)


class Occupancy:
    """What a config's `algorithm.occupancy` becomes.

    Attributes:
        rank: of decisions, by success and by straying.
        excess: the mean density ratio of the policy's decisions less 1, by now, which is chi^2.
    """

    def __init__(self, settings: ActorCriticConfig, policy: Policy, learner: Learner) -> None:
        self.settings, self._policy, self._learner = settings, policy, learner
        self.use: OccupancyPenalty = settings.occupancy
        self.discriminator = Discriminator(**sizes_of(policy), members=1, width=WIDTH).to(learner.device)
        self.optimizer = learner.optimizer(self.discriminator.parameters(), settings.critic_lr, DECAY)
        self.costs = CostLearner(settings, policy, learner)
        self.excess, self._newest = 0.0, -1
        self._start: tuple[Features, Tensor] | None = None
        self.rank = Penalised(CostScorer(self.costs.critic, policy), self.use.price(self.excess))

    @property
    def rates(self) -> list[tuple[Any, float]]:
        """The optimisers, and the learning rates that they begin with."""
        return [(self.optimizer, self.settings.critic_lr), *self.costs.rates]

    @property
    def _networks(self) -> dict[str, Any]:
        """Networks and their optimisers, by the name under which they are saved."""
        costs = {"critic": self.costs.critic, "target": self.costs.target, "critic_optimizer": self.costs.optimizer}
        return {"discriminator": self.discriminator, "optimizer": self.optimizer, **costs}

    def update(
        self, rows: LearnerBatch, batch: Batch, began: bool, following: Callable[[], Tensor | None]
    ) -> dict[str, Tensor]:
        """Learn to tell the policy's decisions from the reference's, and what straying costs from each row on.

        rows: those of `batch`. began: whether the actor has begun to learn; until then, the run's own decisions are
        those of the policy that it starts from. following: gives decisions of the policy at the next observations,
        int64 [C, N, K].
        """
        learner, device = self._learner, rows.demo.device
        own, whole = (torch.from_numpy(each).to(device) for each in (self._own(batch), ~batch.relabelled))
        if not began:
            self._keep(rows, own)
        metrics = learner.in_memory(len(rows), lambda: self._tell_apart(rows, own))
        metrics |= learner.in_memory(len(rows), lambda: self._look_ahead(rows, whole, following()))
        self.rank.price = self.use.price(self.excess)
        told = {"divergence": self.use.divergence(self.excess), "price": self.rank.price}
        return metrics | {f"occupancy/{name}": torch.tensor(value) for name, value in told.items()}

    def _own(self, batch: Batch) -> np.ndarray:
        """Which rows tell where the policy goes by now, bool [B]: recent ones, with their own goal."""
        own = ~batch.demo & ~batch.relabelled
        self._newest = max(self._newest, int(batch.index[own].max(initial=-1)))
        return own & (batch.index > self._newest - self.use.recent)

    def _keep(self, rows: LearnerBatch, own: Tensor) -> None:
        """Remember decisions of the policy that the run starts from, some of each batch, until there are enough."""
        kept = 0 if self._start is None else len(self._start[1])
        each = sum(value[0].nbytes for value in rows.grounded.there().values())
        most = min(self.use.start, max(MOST_BYTES // each, 1))
        at = own.nonzero().flatten()[: min(math.ceil(most / max(self.settings.warmup_updates, 1)), most - kept)]
        if self.use.reference == "demos" or not len(at):
            return
        new = rows.grounded.rows(at).detach(), rows.tokens[at]
        before = self._start
        self._start = (
            new if before is None else (Features.concatenate([before[0], new[0]]), torch.cat([before[1], new[1]]))
        )

    def _tell_apart(self, rows: LearnerBatch, own: Tensor) -> dict[str, Tensor]:
        """Move the discriminator. The policy and the reference count alike, and of the reference its two parts."""
        learner, use = self._learner, self.use
        logit = self.log_ratio(rows.grounded, rows.tokens)
        sides = [(F.softplus(-logit), own)]
        if use.reference != "start":
            sides.append((F.softplus(logit), rows.demo))
        if use.reference != "demos":
            seen, tokens, there = self._drawn(rows)
            sides.append((F.softplus(self.log_ratio(seen, tokens)), there))
        shares = [learner.mean(which.float().mean()) for _, which in sides]  # of all processes
        parts = sum(float(share > 0) for share in shares[1:])
        if not parts or not shares[0] > 0:
            return {}  # there is nothing to tell apart yet
        means = [
            (each * which).mean() / share.clamp_min(1e-6) for (each, which), share in zip(sides, shares, strict=True)
        ]
        loss = means[0] + sum(means[1:]) / parts
        norm = learner.step(loss, self.optimizer, self.settings.clip)
        with torch.no_grad():
            excess, log_ratio = (
                learner.mean((each * own).mean()) / shares[0] for each in (self._ratio(logit) - 1.0, logit)
            )
        self.excess = max(self.excess + RATE * (float(excess) - self.excess), 0.0)
        return {
            "occupancy/loss": loss.detach(),
            "occupancy/grad_norm": norm,
            "occupancy/log_ratio": log_ratio,
            "occupancy/penalty": use.price(self.excess) * excess,
        }

    def _look_ahead(self, rows: LearnerBatch, whole: Tensor, following: Tensor | None) -> dict[str, Tensor]:
        """Move the critic of costs, by the rows of one step that have their own goal, bool `whole` [B]."""
        learner, target = self._learner, self.target_cost(rows, following)
        counts = (whole & (rows.steps == 1)).float() * rows.weight
        share = learner.mean((counts > 0).float().mean()).clamp_min(1e-6)
        scale = (learner.mean((target.square() * (counts > 0)).mean()) / share).sqrt()
        loss, norm, _ = self.costs.move(rows, target, counts / share, scale)
        return {"occupancy/critic_loss": loss, "occupancy/critic_grad_norm": norm}

    @torch.no_grad()
    def target_cost(self, rows: LearnerBatch, following: Tensor | None) -> Tensor:
        """[B] what straying costs from rows of one step on: mu / mu_ref - 1 there, and what follows by the policy."""
        cost = self._ratio(self.log_ratio(rows.grounded, rows.tokens)) - 1.0
        ahead = self.costs.ahead(rows, following)
        return cost if ahead is None else cost + rows.discount * ahead

    def log_ratio(self, grounded: Features, tokens: Tensor) -> Tensor:
        """[B] the logit of decisions int64 [B, K]."""
        with self._learner.autocast():
            told = self.discriminator(self._policy.readout(grounded), tokens.unsqueeze(1), grounded)
        return told.float().flatten()

    def _ratio(self, log_ratio: Tensor) -> Tensor:
        return log_ratio.clamp(max=math.log(self.use.most)).exp()

    def _drawn(self, rows: LearnerBatch) -> tuple[Features, Tensor, Tensor]:
        """As many decisions as rows of the policy that the run started from: features, tokens, and that they are; rows
        that do not count where none are known."""
        noise = self._learner.uniform(len(rows))
        if self._start is None:
            return rows.grounded, rows.tokens, torch.zeros_like(rows.demo)
        seen, tokens = self._start
        at = (noise * len(tokens)).long().clamp_max(len(tokens) - 1)
        return seen.rows(at), tokens[at], torch.ones_like(rows.demo)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        start = None
        if self._start is not None:
            start = {"features": self._start[0].there(), "tokens": self._start[1]}
        networks = {name: each.state_dict() for name, each in self._networks.items()}
        return networks | {"excess": self.excess, "newest": self._newest, "start": start}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name, each in self._networks.items():
            each.load_state_dict(state[name])
        self.excess, self._newest, start = state["excess"], state["newest"], state["start"]
        device = self._learner.device
        self._start = None if start is None else (Features(**start["features"]).to(device), start["tokens"].to(device))
        self.rank.price = self.use.price(self.excess)


def penalised(settings: ActorCriticConfig, policy: Policy, state: dict[str, Any], judge: Scorer) -> Scorer:
    """What ranks decisions by `judge` and, where a saved algorithm heeds straying, by that; on the policy's device."""
    if settings.occupancy is None:
        return judge
    saved = state.get("occupancy", {})
    costs = saved_costs(settings, policy, saved, "the checkpoint's occupancy")
    return ConstrainedScorer(judge, Penalised(costs, settings.occupancy.price(float(saved["excess"]))))
