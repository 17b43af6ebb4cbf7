"""What an actor-critic does differently once the world has shifted, and what it makes of what it remembers from before.

Shapes: B rows of a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_rl.adaptation.on_shift import Adaptation
from vla_rl.adaptation.watch import Watch
from vla_rl.algorithms.acting import Explorer
from vla_rl.algorithms.actor_critic_config import ActorCriticConfig
from vla_rl.algorithms.critic import Critic
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.runtime.learner import Learner

FORMER = 3
"""Critics of before a shift that are kept: those of the last shifts."""
LEAST = 0.02
"""No critic is surer than this of what a return will not be, as a share of its range."""
Told = Callable[[Critic, LearnerBatch], Tensor]
"""What a critic makes of a batch's rows, float32 [B]."""


class Adapting:
    """What a config's `algorithm.adaptation` becomes. told: by which old and new critics are compared.

    Attributes:
        watch: hears of the run's episodes. response: how the run differs from its settings, by now. former: the critics
            as they were at the last shifts.
    """

    def __init__(self, settings: ActorCriticConfig, learner: Learner, explorer: Explorer, told: Told) -> None:
        self._settings, self._learner, self._explorer, self._told = settings, learner, explorer, told
        self._adaptation: Adaptation = settings.adaptation
        complete, gamma = settings.truncation == "fail", float(settings.gamma)
        self.watch = Watch(self._adaptation, gamma, settings.value_range, complete, learner.processes)
        self.former: list[Critic] = []
        self._alarms = self._decisions = 0
        self._begun: int | None = None
        self.response = self._adaptation.response(None)

    @property
    def recent(self) -> tuple[int, float]:
        """See `Adapts`."""
        return self.watch.since, self.response.recent

    def rate(self, usual: float) -> float:
        """The learning rates' share of their first values."""
        return max(usual, self.response.rate)

    def follow(self, critic: Critic) -> None:
        """Have the run adapt to what was heard in all of its processes; `critic` knows the world as it was."""
        alarms, self._decisions = map(int, self._learner.total(self.watch.alarms, self.watch.decisions))
        if alarms > self._alarms:
            self.watch.heed()
            self._alarms, self._begun = alarms, self._decisions
            self.former = [*self.former, frozen(critic)][-FORMER:]
        self._respond()

    def _respond(self) -> None:
        since = None if self._begun is None else self._decisions - self._begun
        self.response = self._adaptation.response(since)
        self._explorer.epsilon = max(self._settings.epsilon, self.response.epsilon)
        self._explorer.greedy_share = self._settings.greedy_share * self.response.greedy

    def weigh(self, rows: LearnerBatch, index: np.ndarray, critic: Critic) -> LearnerBatch:
        """The rows, of which those from before the shift, and demonstrations, count as far as they still predict.

        That is the likelihood of the return that followed under the critic of now, as a share of the highest one under
        the `former` critics, at most 1. A return is taken for the probability of a success (Papke and Wooldridge 1996),
        so that what is compared is a critic's mean alone. index: int64 [B], where rows lie in replay.
        """
        if not self.former or not self.response.weigh:
            return rows
        trust = self._learner.in_memory(len(rows), lambda: self._trust(rows, index, critic))
        return replace(rows, weight=rows.weight * trust, trust=trust)

    @torch.no_grad()
    def _trust(self, rows: LearnerBatch, index: np.ndarray, critic: Critic) -> Tensor:
        least, most = self._settings.value_range
        share = (rows.returns - least) / (most - least)
        critics = (critic, *self.former)
        now, *before = (log_likelihood(share, (self._told(each, rows) - least) / (most - least)) for each in critics)
        predicts = (now - torch.stack(before).amax(0)).clamp_max(0.0).exp()
        old = rows.demo | torch.from_numpy(index < self.watch.since).to(rows.demo.device)
        known = old & torch.isfinite(rows.returns) & (rows.rest == 0)
        mean = torch.where(known, predicts, 0.0).sum() / known.sum().clamp_min(1)
        return torch.where(old, torch.where(known, predicts, mean), 1.0)

    def state_dict(self) -> dict[str, Any]:
        """What has followed from what was heard in all processes."""
        counts = {"alarms": self._alarms, "decisions": self._decisions, "begun": self._begun}
        return counts | {"former": [critic.state_dict() for critic in self.former]}

    def load_state_dict(self, state: dict[str, Any], critic: Critic) -> None:
        """Go on from what `state_dict` gave; `critic` is of the same shape as the former ones."""
        self._alarms, self._decisions, self._begun = state["alarms"], state["decisions"], state["begun"]
        self.former = [frozen(critic) for _ in state["former"]]
        for each, saved in zip(self.former, state["former"], strict=True):
            each.load_state_dict(saved)
        self._respond()


def frozen(critic: Critic) -> Critic:
    """A copy of the critic as it is."""
    return copy.deepcopy(critic).requires_grad_(False)


def log_likelihood(share_B: Tensor, told_B: Tensor) -> Tensor:
    """Of returns by what a critic made of them beforehand, both as shares of its range: [B]; NaN of an unknown one."""
    told, share = told_B.clamp(LEAST, 1.0 - LEAST), share_B.clamp(0.0, 1.0)
    return share * told.log() + (1.0 - share) * (1.0 - told).log()
