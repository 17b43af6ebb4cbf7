"""What decisions will cost, by a critic of its own; and how that enters what they are worth.

Shapes: B rows, C of them with a next observation, N decisions a row, K slots, E critics.
"""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
from torch import Tensor

from vla_rl.algorithms import losses
from vla_rl.algorithms.actor_critic_config import ActorCriticConfig
from vla_rl.algorithms.algorithm import Scorer
from vla_rl.algorithms.critic import DecisionNet, Ensemble, follow, sizes_of, told_by
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models import bounds
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.rewards.costs import Budget, CostUse, RealisedCosts
from vla_rl.runtime.learner import Learner
from vla_rl.specs import COST

RECENT = 100
"""Episodes whose cost is told where no budget says of how many."""


class CostCritic(DecisionNet):
    """C_e(z, a), the discounted cost to come, e = 1..E; see `DecisionNet` for what it reads.

    A plain regression, since nobody knows beforehand how much an environment may ask: it is unbiased for costs that are
    rare, and needs no range. It is told in units of `scale`, the largest root mean square of a batch's targets so far.
    """

    scale: Tensor

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.register_buffer("scale", torch.zeros(()))
        self.out = Ensemble(self.members, self.width, 1)
        torch.nn.init.zeros_(self.out.weight)  # nothing costs until something does

    @property
    def unit(self) -> Tensor:
        """What it is told in; 1 until anything has cost something."""
        return torch.where(self.scale > 0, self.scale, 1.0)

    def forward(self, readout_BR: Tensor, tokens_BNK: Tensor, seen: Features | None = None) -> Tensor:
        """The cost in units of `scale`, [E, B, N]; the frozen features serve slots of words and places."""
        told = self.out(self.bent(self.sums(readout_BR, tokens_BNK, seen)))
        return told.squeeze(-1).unflatten(1, tokens_BNK.shape[:2])

    @torch.no_grad()
    def widen(self, scale: Tensor) -> None:
        """Have the unit be at least `scale`, with every cost told as before (arXiv 1602.07714)."""
        before = self.unit
        self.scale.copy_(torch.maximum(self.scale, scale))
        for parameter in self.out.parameters():
            parameter.mul_(before / self.unit)


class CostScorer:
    """What decisions will cost, the mean of a critic's members.

    policy: whose features the critic reads, in the policy's own precision.
    """

    def __init__(self, critic: CostCritic, policy: Policy) -> None:
        self.critic, self._policy = critic, policy

    @torch.no_grad()
    def __call__(self, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """The discounted cost float32 [B, N] of decisions int64 [B, N, K]."""
        told = told_by(self.critic, self._policy, grounded, tokens_BNK)
        return told.float().mean(0) * self.critic.unit


class Ranking:
    """What decisions are worth by success and cost; the multiplier is that of now."""

    def __init__(self, use: CostUse, costs: CostScorer, multiplier: float) -> None:
        self.use, self._costs, self.multiplier = use, costs, multiplier

    def __call__(self, q_BN: Tensor, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """The worth float32 [B, N] of decisions int64 [B, N, K] of success Q."""
        return self.use.rank(q_BN, self._costs(grounded, tokens_BNK), self.multiplier)


class Ranks(Protocol):
    """What ranks decisions, by success and by something else."""

    def __call__(self, q_BN: Tensor, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """The worth float32 [B, N] of decisions int64 [B, N, K] of success Q."""


class ConstrainedScorer:
    """What decisions are worth by the success that `judge` promises, and by what else counts, such as their cost."""

    def __init__(self, judge: Scorer, ranking: Ranks) -> None:
        self._judge, self._ranking = judge, ranking

    def __call__(self, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """The worth float32 [B, N] of decisions int64 [B, N, K], from the frozen features of B observations."""
        return self._ranking(self._judge(grounded, tokens_BNK), grounded, tokens_BNK)


class CostLearner:
    """A critic of discounted costs, its target, and how they learn, whatever it is that costs."""

    def __init__(self, settings: ActorCriticConfig, policy: Policy, learner: Learner) -> None:
        self.settings, self._policy, self._learner = settings, policy, learner
        self.critic = make_cost_critic(settings, policy).to(learner.device)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self._target_costs = CostScorer(self.target, policy)
        self.optimizer = learner.optimizer(self.critic.parameters(), settings.critic_lr, settings.weight_decay)

    @property
    def rates(self) -> list[tuple[Any, float]]:
        """The optimiser, and the learning rate that it begins with."""
        return [(self.optimizer, self.settings.critic_lr)]

    @torch.no_grad()
    def ahead(self, rows: LearnerBatch, following: Tensor | None) -> Tensor | None:
        """[B] what decisions of the policy after the rows, int64 [C, N, K], cost by the target; 0 where none is
        followed, and None where nobody knows what follows."""
        if rows.next_grounded is None or following is None:
            return None
        value = self._target_costs(rows.next_grounded, following).mean(1)
        if rows.followed is None:
            return value
        return torch.zeros_like(rows.reward).index_copy(0, rows.followed, value)

    def move(self, rows: LearnerBatch, wanted: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move the critic towards the costs `wanted` [B] by the mean of squared errors times `weight` [B], and have its
        target follow. scale: the least unit from now on. Returns the loss, its gradient's norm, and what it told."""
        learner = self._learner
        for critic in (self.critic, self.target):
            critic.widen(scale)
        with learner.autocast():
            told = self.critic(self._policy.readout(rows.grounded), rows.tokens.unsqueeze(1), rows.grounded)
            missed = (told.squeeze(2).float() - wanted / self.critic.unit).square()
            loss = (missed * weight).mean()
        norm = learner.step(loss, self.optimizer, self.settings.clip)
        follow(self.target, self.critic, self.settings.target_ema)
        return loss.detach(), norm, told


class Constraint(CostLearner):
    """What a config's `algorithm.cost` becomes: a cost critic, how it learns, and the multiplier.

    rank: of decisions, by success and cost. listener: hears of the run's episodes, for what they cost.
    """

    def __init__(self, settings: ActorCriticConfig, policy: Policy, learner: Learner) -> None:
        super().__init__(settings, policy, learner)
        use: CostUse = settings.cost
        self.rank = Ranking(use, CostScorer(self.critic, policy), use.start)
        self.listener = RealisedCosts(use.recent if isinstance(use, Budget) else RECENT)
        self._spent: float | None = None  # what episodes cost when the multiplier was last adjusted

    def update(self, rows: LearnerBatch, following: Tensor | None) -> dict[str, Tensor]:
        """Move the critic towards what the rows cost; what demonstrations cost was not recorded.

        following: int64 [C, N, K], decisions of the policy at the next observations, where those are there.
        """
        target, learner = self.target_cost(rows, following), self._learner
        own = (~rows.demo).float()
        target = target.where(~rows.demo, 0.0)
        scale = learner.mean(target.square().mean()).sqrt()
        loss, norm, told = self.move(rows, target, rows.weight * own, scale)
        with torch.no_grad():
            count = own.sum().clamp_min(1.0)
            mean = (told.float().mean((0, 2)) * self.critic.unit * own).sum() / count
        return {
            "cost/loss": loss,
            "cost/grad_norm": norm,
            "cost/mean": mean,
            "cost/target": target.sum() / count,
        }

    @torch.no_grad()
    def target_cost(self, rows: LearnerBatch, following: Tensor | None) -> Tensor:
        """[B] the mix of the observed cost and of its backup, as the reward's target is mixed.

        Where a row's return is not known (another goal, an episode that goes on), neither is its cost.
        """
        observed = torch.where(losses.whole(rows.returns, rows.rest).isfinite(), rows.extra_returns[COST], torch.nan)
        value = self.ahead(rows, following)
        if value is None:
            return observed
        return losses.td_target(rows.extra[COST], rows.discount, value, observed, self.settings.mc_weight)

    def adjust(self) -> dict[str, Tensor]:
        """Have the multiplier follow what the latest episodes of all processes have cost."""
        episodes, spent = self._learner.total(*self.listener.total)
        if not episodes:
            return {}
        each = spent / episodes
        risen = 0.0 if self._spent is None else each - self._spent
        self.rank.multiplier, self._spent = self.rank.use.adjusted(self.rank.multiplier, each, risen), each
        told = {"cost/episode": each, "cost/multiplier": self.rank.multiplier}
        return {name: torch.tensor(value) for name, value in told.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "critic": self.critic.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "multiplier": self.rank.multiplier,
            "spent": self._spent,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name in ("critic", "target", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.rank.multiplier, self._spent = state["multiplier"], state.get("spent")


def make_cost_critic(settings: ActorCriticConfig, policy: Policy) -> CostCritic:
    """A fresh cost critic of a policy's decisions, as large as the critic."""
    width, waves = settings.critic_width, settings.critic_waves
    return CostCritic(**sizes_of(policy), members=settings.critics, width=width, waves=waves)


def constrained(settings: ActorCriticConfig, policy: Policy, state: dict[str, Any], judge: Scorer) -> Scorer:
    """What ranks decisions by `judge` and, where a saved algorithm heeds costs, by those; on the policy's device."""
    if settings.cost is None:
        return judge
    saved = state.get("constraint", {})
    costs = saved_costs(settings, policy, saved, "the checkpoint's cost critic")
    return ConstrainedScorer(judge, Ranking(settings.cost, costs, float(saved["multiplier"])))


def saved_costs(settings: ActorCriticConfig, policy: Policy, saved: dict[str, Any], name: str) -> CostScorer:
    """What decisions will cost by a saved critic, on the policy's device; `name` is what errors call it."""
    critic = bounds.filled(lambda: make_cost_critic(settings, policy), saved.get("critic"), name)
    return CostScorer(critic.to(policy.device).requires_grad_(False), policy)
