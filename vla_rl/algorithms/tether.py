"""What holds an actor to the policy that a run starts from: KL(policy || start), by a weight or within a budget.

Shapes: B rows of a batch, K slots.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_rl.algorithms.actor_critic_config import ActorCriticConfig
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.policy import Logits, Policy
from vla_rl.replay import ReplayBuffer
from vla_rl.runtime.learner import Learner

PREFIXES = 16
"""Decisions of a row over which the divergence is averaged, where there is a grammar."""
FIRST_WEIGHT = 0.1
"""Of a divergence that has a budget, unless `kl_weight` says otherwise."""
RATE, LEAST, MOST = 0.1, 0.1, 1000.0
"""How fast the logarithm of such a weight follows; and how little and how much of the first one it becomes."""
MOST_BEYOND = 10.0
"""So many times as much a divergence weighs at most that is beyond its budget."""


class HeldFrames:
    """What was seen in demonstrations of tasks that a run does not train, and is to leave as they are."""

    def __init__(self, buffer: ReplayBuffer, policy: Policy) -> None:
        self._buffer, self._policy = buffer, policy
        self._ids = buffer.sampleable_ids()

    def draw(self, rows: int, learner: Learner) -> LearnerBatch:
        """So many of them at random, without what follows."""
        at = (learner.uniform(rows).cpu().numpy() * len(self._ids)).astype(np.int64)
        batch = self._buffer.transitions(self._ids[at], images=not self._policy.frozen_trunk, following=False)
        return LearnerBatch.of(batch, self._policy, learner.device, following=False)


class Weight:
    """Of a divergence: fixed, or beta <- beta exp(RATE (KL / budget - 1)), the exponent at most RATE either way.

    What is beyond the budget weighs at once as much more as it is too large, so that it does not swing.
    """

    def __init__(self, first: float, budget: float | None) -> None:
        self.first, self.budget = first or FIRST_WEIGHT, budget
        self.value = self.first

    def pull(self, divergence: Tensor, anchor: float = 1.0) -> Tensor:
        """The part of a loss. anchor: factor of a weight that is fixed; a budget holds in any case."""
        beyond = anchor if self.budget is None else (divergence.detach() / self.budget).clamp(1.0, MOST_BEYOND)
        return self.value * beyond * divergence

    def follow(self, divergence: float) -> None:
        """Take note of the divergence, in nats a decision."""
        if self.budget is not None:
            step = RATE * min(max(divergence / self.budget - 1.0, -1.0), 1.0)
            self.value = min(max(self.value * math.exp(step), LEAST * self.first), MOST * self.first)


class Tether:
    """The divergences of an actor from its start, on the frames of a batch and on held ones.

    reference: the start. held: what is to be left as it is; needed where that has a budget.
    """

    def __init__(
        self,
        settings: ActorCriticConfig,
        policy: Policy,
        learner: Learner,
        reference: Policy | None,
        held: HeldFrames | None = None,
    ) -> None:
        self._policy, self._reference, self._learner, self._held = policy, reference, learner, held
        self._rows = settings.actor_batch_size
        self.weights: dict[str, Weight] = {}
        if settings.kl_weight > 0 or settings.kl_budget is not None:
            self.weights["kl"] = Weight(settings.kl_weight, settings.kl_budget)
        if settings.held_budget is not None:
            self.weights["held_kl"] = Weight(0.0, settings.held_budget)
        self._found: dict[str, Tensor] = {}

    def pull(self, logits: Logits, rows: LearnerBatch, anchor: float = 1.0) -> Tensor | float:
        """What is added to the actor's loss, by the actor's `logits` of the batch's rows; `anchor`: see `Weight`."""
        self._found = {}
        if "kl" in self.weights:
            self._found["kl"] = self.divergence(logits, rows, self._noise(rows))
        if "held_kl" in self.weights:
            assert self._held is not None, "algorithm.held_budget without held tasks"
            held = self._held.draw(self._rows, self._learner)
            seen = held.grounded if self._policy.frozen_trunk else self._policy.encode(held.observation)
            self._found["held_kl"] = self.divergence(self._policy.logits(seen), held, self._noise(held))
        return sum(self.weights[name].pull(found, anchor) for name, found in self._found.items())

    def divergence(self, logits: Logits, rows: LearnerBatch, noise: Tensor | None = None) -> Tensor:
        """KL(policy || start) in nats a decision, the mean over the rows, by the policy's `logits`; see `Policy.kl`."""
        assert self._reference is not None, "a divergence without a reference"
        with torch.no_grad():
            frozen = self._reference.frozen_trunk
            start = self._reference.logits(rows.grounded if frozen else self._reference.encode(rows.observation))
        return self._policy.kl(logits, start, noise).mean()

    def _noise(self, rows: LearnerBatch) -> Tensor:
        return self._learner.uniform(len(rows), PREFIXES, len(self._policy.slots))

    def follow(self) -> dict[str, Tensor]:
        """Have the weights follow what `pull` found, where there is a budget; returns both for the log."""
        told: dict[str, Tensor] = {}
        for name, found in self._found.items():
            weight = self.weights[name]
            mean = self._learner.mean(found.detach())
            told[f"policy/{name}"] = mean
            if weight.budget is not None:
                weight.follow(float(mean))
                told[f"policy/{name}_weight"] = torch.tensor(weight.value)
        return told

    def state_dict(self) -> dict[str, Any]:
        """The weights."""
        return {name: weight.value for name, weight in self.weights.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; what it does not tell begins now."""
        for name, weight in self.weights.items():
            weight.value = state.get(name, weight.value)
