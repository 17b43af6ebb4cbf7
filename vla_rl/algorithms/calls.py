"""Learning when to call a tool, from what calls are worth: the difference to what else could be done.

Shapes: B rows, n pairs (a call, and another decision), N decisions a row, K slots.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_rl.actions import Commands
from vla_rl.algorithms import losses
from vla_rl.algorithms.algorithm import Scorer
from vla_rl.algorithms.constraints import Constraint
from vla_rl.algorithms.critic import Critic
from vla_rl.config import RunConfig
from vla_rl.envs import EnvSpec
from vla_rl.models.features import Features
from vla_rl.models.policy import Logits, Policy
from vla_rl.models.sampling import FORBIDDEN
from vla_rl.registry import ConfigError
from vla_rl.rewards.calls import CallValue
from vla_rl.runtime.learner import Learner

OTHERS = 4
"""Decisions of the policy without a call, of which the best is held against a call where its value is learned."""


def call_kinds(run: RunConfig, spec: EnvSpec) -> np.ndarray | None:
    """Which kinds of the environment's commands are calls of tools, bool; None where nobody asks.

    Raises:
        ConfigError: there are no such kinds, or the trunk trains, so that nothing can be kept of what was seen.
    """
    asked = getattr(run.algorithm, "calls", None)
    if asked is None:
        return None
    kinds = spec.actions.kinds if isinstance(spec.actions, Commands) else ()
    if not set(asked.kinds) <= set(kinds):
        raise ConfigError(f"algorithm.calls.kinds: {list(asked.kinds)}; {run.env_name} has the kinds {list(kinds)}")
    if run.policy.train != "head" or run.replay.stack > 1:
        raise ConfigError("algorithm.calls: needs policy.train=head and replay.stack=1")
    return np.array([kind in asked.kinds for kind in kinds])


@dataclass(frozen=True)
class Pair:
    """What was found of a state. grounded: its features, one row, on the CPU. tokens: int64 [2, K], the call first.
    paid, spent: float32 [2], the returns of reward and of cost that followed each, the mean of some rollouts."""

    grounded: Features
    tokens: np.ndarray
    paid: np.ndarray
    spent: np.ndarray


class CallLearning:
    """Pairs that were followed up, what critics learn of them, and what the actor prefers.

    calls: bool [kinds of commands], which are calls; the kind is the first slot of a decision.

    Raises:
        ConfigError: the policy's head decides otherwise than of all slots at once.

    Attributes:
        owed: states that are due to be followed up, with a fraction. followed: those that were.
    """

    def __init__(self, settings: CallValue, calls: np.ndarray, policy: Policy, learner: Learner) -> None:
        if policy.settings.head.type != "parallel":
            raise ConfigError(
                "algorithm.calls: needs policy.head.type=parallel, whose kinds of commands are chosen first"
            )
        self.settings, self.policy, self._learner = settings, policy, learner
        self._calls = torch.from_numpy(calls).to(learner.device)
        self._pairs = deque[Pair](maxlen=settings.keep)
        self.owed, self.followed = 0.0, 0
        self._ready = False

    def add(self, pair: Pair) -> None:
        """Learn from this, too."""
        self._pairs.append(pair)

    def proposed(self, logits: Logits, call: bool, samples: int) -> Tensor:
        """Decisions of the policy that are calls, or that are not, int64 [B, samples, K]."""
        allowed = self._calls if call else ~self._calls
        assert isinstance(logits, list), "a head that is not parallel"
        first = logits[0].masked_fill(~allowed, FORBIDDEN)
        noise = self._learner.uniform(len(first), samples, len(self.policy.slots))
        return self.policy.sample([first, *logits[1:]], samples, noise)

    def update(
        self, critic: Critic, optimizer: Any, constraint: Constraint | None, sigma: float, clip: float
    ) -> dict[str, Tensor]:
        """Move the difference of a pair's Q, and of its costs, towards what was found; returns metrics.

        sigma: of a histogram's target, in units of value; errors weigh as much as in those.
        """
        self._ready = self._learner.agree(bool(self._pairs))  # all processes take a step, or none
        if not self._ready:
            return {}
        grounded, tokens, paid, spent = self._drawn()
        readout = self.policy.readout(grounded)
        with self._learner.autocast():
            q = critic.value(critic(readout, tokens, grounded))
            loss = losses.difference_loss(q, paid) / (2 * sigma**2)
        self._learner.step(loss, optimizer, clip)
        told = difference(q.detach().mean(0))
        metrics = {"calls/loss": loss.detach(), "calls/paid": difference(paid).mean()}
        if constraint is not None:
            with self._learner.autocast():
                cost = constraint.critic(readout, tokens, grounded).float()
                missed = losses.difference_loss(cost, spent / constraint.critic.unit)
            self._learner.step(missed, constraint.optimizer, clip)
            told = difference(constraint.rank(q.detach().mean(0), grounded, tokens))
        value = difference(self._worth(paid, spent, constraint))
        decided = value != 0
        agrees = (told.sign() == value.sign()) & decided
        return metrics | {
            "calls/value": value.mean(),
            "calls/learned": told.mean(),
            "calls/agree": agrees.float().sum() / decided.sum().clamp_min(1),
        }

    def preference(self, logits: Logits, grounded: Features, scorer: Scorer, constraint: Constraint | None) -> Tensor:
        """The actor's loss: of a call and another decision, rather the one that is worth more; by what was followed up,
        and, of the rows that `logits` [B, C] and features are of, by what ranks decisions."""
        with torch.no_grad():
            call = self.proposed(logits, True, 1)
            others = self.proposed(logits, False, OTHERS)
            worth = scorer(grounded, torch.cat([call, others], 1))
            best = worth[:, 1:].argmax(1)
            rows = torch.arange(len(best), device=best.device)
            tokens = torch.stack([call[:, 0], others[rows, best]], 1)
            values = torch.stack([worth[:, 0], worth[rows, 1 + best]], 1)
        loss = self._preferred(logits, tokens, values)
        if self._ready:
            found, tokens, paid, spent = self._drawn()
            loss = loss + self._preferred(self.policy.logits(found), tokens, self._worth(paid, spent, constraint))
        return self.settings.weight * loss

    def _preferred(self, logits: Logits, tokens: Tensor, values: Tensor) -> Tensor:
        scale = torch.tensor(self.settings.temperature, device=values.device)
        weights = losses.candidate_weights(values, scale)
        return losses.weighted_bc_loss(weights, self.policy.log_prob(logits, tokens).float())

    def _worth(self, paid: Tensor, spent: Tensor, constraint: Constraint | None) -> Tensor:
        """What each of a pair was worth, [n, 2], by success and by cost where that counts."""
        return paid if constraint is None else constraint.rank.use.rank(paid, spent, constraint.rank.multiplier)

    def _drawn(self) -> tuple[Features, Tensor, Tensor, Tensor]:
        """Some pairs: features of n rows, tokens int64 [n, 2, K], paid and spent float32 [n, 2]."""
        device = self._learner.device
        drawn = (self._learner.uniform(self.settings.batch, 1, 1) * len(self._pairs)).flatten().long()
        pairs = [self._pairs[i] for i in drawn.clamp_max(len(self._pairs) - 1).tolist()]
        tokens, paid, spent = (
            torch.from_numpy(np.stack([getattr(pair, name) for pair in pairs])).to(device)
            for name in ("tokens", "paid", "spent")
        )
        return Features.concatenate([pair.grounded for pair in pairs]).to(device), tokens, paid, spent

    def state_dict(self) -> dict[str, Any]:
        """The pairs, and what is due."""
        pairs = [{**vars(pair), "grounded": pair.grounded.there()} for pair in self._pairs]
        return {"pairs": pairs, "owed": self.owed, "followed": self.followed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._pairs.clear()
        self.owed, self.followed = state.get("owed", 0.0), state.get("followed", 0)
        for pair in state.get("pairs", []):
            self.add(Pair(**{**pair, "grounded": Features(**pair["grounded"])}))


def difference(pair_n2: Tensor) -> Tensor:
    """Of each pair, what the call has more, [n]."""
    return pair_n2[..., 0] - pair_n2[..., 1]
