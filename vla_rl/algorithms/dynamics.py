"""A one-step model of what heads read, learned from replay, and decisions judged by where it says that they lead.

A critic learns what states are worth long before it learns what a decision changes there: over states its values follow
the returns, over the decisions of one state they hardly do. What a decision leads to is a supervised question with a
dense answer, and a value of states does the rest: Q(s, a) = r + (1 - end) gamma V(f(s, a)).

Shapes: B rows, C of them with a next observation, N decisions, K slots, M members, R readout.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vla_rl.algorithms.algorithm import Scorer
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.critic import Critic, DecisionNet, Ensemble, sizes_of
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.setting_checks import known
from vla_rl.models import bounds
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.models.readout import LIMIT
from vla_rl.runtime.learner import Learner

END_WEIGHT = 0.2
"""Of the cross-entropy of the episode's end, beside the error of the changes."""
SPREAD_RATE, LEAST_SPREAD = 0.01, 1e-3
"""How fast the running spread of the changes follows; and its floor, in units of the readout."""


@dataclass(frozen=True)
class Ahead:
    """What is ahead by each member: the readout float32 [M, B, N, R], the reward and the logit of the episode's end
    there [M, B, N]."""

    readout: Tensor
    reward: Tensor
    end: Tensor


class Dynamics(DecisionNet):
    """f_m(z, a): the readout one step later, the reward on the way, and whether the episode ends, m = 1..M.

    It predicts the change, in units of its running spread; a linear part beside the network begins with what most of a
    step is.
    """

    spread: Tensor

    def __init__(self, state_size: int, *given: Any, **named: Any) -> None:
        super().__init__(state_size, *given, **named)
        self.register_buffer("spread", torch.zeros(state_size))
        self.linear = Ensemble(self.members, self.width, state_size + 2)
        self.out = Ensemble(self.members, self.width, state_size + 2)

    def raw(self, readout_BR: Tensor, tokens_BNK: Tensor, seen: Features | None = None) -> Tensor:
        """[M, B, N, R + 2]: the change in units of its spread, the reward, the logit of the end."""
        sums = self.sums(readout_BR, tokens_BNK, seen)
        told = self.out(self.bent(sums)) + self.linear(sums)
        return told.unflatten(1, tokens_BNK.shape[:2])

    def forward(self, readout_BR: Tensor, tokens_BNK: Tensor, seen: Features | None = None) -> Ahead:
        """What is ahead of B readouts by decisions int64 [B, N, K]; the frozen features serve words and places."""
        told = self.raw(readout_BR, tokens_BNK, seen).float()
        readout = readout_BR[:, None] + told[..., :-2] * self.spread.clamp_min(LEAST_SPREAD)
        return Ahead(readout.clamp(-LIMIT, LIMIT), told[..., -2], told[..., -1])

    @torch.no_grad()
    def follow(self, square_R: Tensor, share: Tensor) -> None:
        """Have the running spread follow the mean squared changes of a batch, of which a `share` counts."""
        rate = torch.where(self.spread.amax() > 0, SPREAD_RATE, 1.0)
        followed = torch.lerp(self.spread.square(), square_R, rate).sqrt()
        self.spread.copy_(torch.where(share > 0, followed, self.spread))


class ModelScorer:
    """Q(s, a) = r + (1 - end) gamma V(f(s, a)), V the critic's mean value of the policy's own decisions there.

    What the heads read of the next observation is predicted; whatever else they look at (words, what is shown at a
    place) is taken to be as it is now. V is asked and not distilled into a network of its own, whose errors were as
    large as what decisions differ by. All decisions of a state are followed by the same random numbers.

    critic: of decisions. `settings` tell gamma and how many decisions V is the mean of.
    """

    def __init__(self, dynamics: Dynamics, critic: Critic, policy: Policy, settings: PaRl) -> None:
        gamma = known(settings.gamma)
        assert gamma is not None, "gamma is worked out before anything is built"
        self._dynamics, self._critic, self._policy, self._gamma = dynamics, critic, policy, gamma
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(1, settings.model_samples, len(policy.slots), generator=generator)
        self._noise = noise.clamp(1e-6, 1 - 1e-6).to(policy.device)

    @torch.no_grad()
    def __call__(self, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """Q float32 [B, N] of decisions int64 [B, N, K], from the frozen features of B observations."""
        B, N, _ = tokens_BNK.shape
        dtype = self._policy.mixed_precision
        with nullcontext() if dtype is None else torch.autocast(tokens_BNK.device.type, dtype):
            ahead = self._dynamics(self._policy.readout(grounded), tokens_BNK, grounded)
            value = self._value(ahead.readout.mean(0).flatten(0, 1), grounded, N).view(B, N)
        q = ahead.reward.mean(0) + torch.sigmoid(-ahead.end).mean(0) * self._gamma * value
        return q.clamp(self._critic.edges[0], self._critic.edges[-1])

    def _value(self, readout_XR: Tensor, grounded: Features, each: int) -> Tensor:
        """V float32 [X] of predicted readouts, of which `each` observation has as many."""
        B = readout_XR.shape[0] // each
        seen = grounded.rows(torch.arange(B, device=readout_XR.device).repeat_interleave(each))
        logits = self._policy.logits(seen, readout=readout_XR)
        tokens = self._policy.sample(logits, self._noise.shape[1], self._noise.expand(len(readout_XR), -1, -1))
        return self._critic.value(self._critic(readout_XR, tokens, seen)).amin(0).mean(1)


class WorldModel:
    """The model, and how it learns from the rows of one step, see `Needs.one_step`; and the scorer that asks it.

    critic: of decisions.
    """

    def __init__(self, settings: PaRl, policy: Policy, learner: Learner, critic: Critic) -> None:
        self.settings, self._policy, self._learner = settings, policy, learner
        self.dynamics = make_dynamics(settings, policy).to(learner.device)
        self.optimizer = learner.optimizer(self.dynamics.parameters(), settings.model_lr, settings.weight_decay)
        self.scorer: Scorer = ModelScorer(self.dynamics, critic, policy, settings)

    @property
    def rates(self) -> list[tuple[Any, float]]:
        """The optimiser, and the learning rate that it begins with."""
        return [(self.optimizer, self.settings.model_lr)]

    def update(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Learn what the decisions of the rows of one step led to."""
        assert rows.next_grounded is not None, "a model needs what follows"
        single = rows.of_followed(rows.steps) == 1
        with torch.no_grad():
            before = self._policy.readout(rows.grounded)
            change = self._policy.readout(rows.next_grounded) - rows.of_followed(before)
            share = self._learner.mean(single.float().mean())
            square = self._learner.mean((change.square() * single[:, None]).mean(0)) / share.clamp_min(1e-6)
            self.dynamics.follow(square, share)
            target = change / self.dynamics.spread.clamp_min(LEAST_SPREAD)
        tokens = rows.of_followed(rows.tokens).unsqueeze(1)
        seen = rows.grounded if rows.followed is None else rows.grounded.rows(rows.followed)
        reward, ended = rows.of_followed(rows.reward), (rows.of_followed(rows.discount) == 0).float()
        weight = single.float() / share.clamp_min(1e-6)
        with self._learner.autocast():
            told = self.dynamics.raw(rows.of_followed(before), tokens, seen).squeeze(2).float()
        missed = F.smooth_l1_loss(told[..., :-2], target.expand_as(told[..., :-2]), reduction="none").mean(-1)
        missed = missed + F.smooth_l1_loss(told[..., -2], reward.expand_as(told[..., -2]), reduction="none")
        told_end = told[..., -1]
        missed = missed + END_WEIGHT * F.binary_cross_entropy_with_logits(
            told_end, ended.expand_as(told_end), reduction="none"
        )
        norm = self._learner.step((missed * weight).mean(), self.optimizer, self.settings.clip)
        with torch.no_grad():
            mean = told[..., :-2].mean(0)
            wrong, all_of_it = ((mean - target).square() * weight[:, None]).mean(), target.square() * weight[:, None]
        return {
            "model/loss": (missed.detach() * weight).mean(),
            "model/explained": 1.0 - wrong / all_of_it.mean().clamp_min(1e-6),
            "model/end": torch.sigmoid(told_end.detach()).mean(),
            "model/grad_norm": norm,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {"dynamics": self.dynamics.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.dynamics.load_state_dict(state["dynamics"])
        self.optimizer.load_state_dict(state["optimizer"])


class MeanScorer:
    """The mean of what several scorers say."""

    def __init__(self, *scorers: Scorer) -> None:
        self._scorers = scorers

    def __call__(self, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """Q float32 [B, N] of decisions int64 [B, N, K], from the frozen features of B observations."""
        return torch.stack([scorer(grounded, tokens_BNK) for scorer in self._scorers]).mean(0)


def make_dynamics(settings: PaRl, policy: Policy) -> Dynamics:
    """A fresh model of a policy's decisions."""
    return Dynamics(**sizes_of(policy), members=settings.model_members, width=settings.model_width)


def load_model_scorer(settings: PaRl, policy: Policy, state: dict[str, Any], critic: Critic) -> Scorer:
    """The scorer of a saved `WorldModel.state_dict` and a critic, on the policy's device."""
    dynamics = bounds.filled(lambda: make_dynamics(settings, policy), state.get("dynamics"), "the checkpoint's model")
    return ModelScorer(dynamics.to(policy.device).requires_grad_(False), critic, policy, settings)
