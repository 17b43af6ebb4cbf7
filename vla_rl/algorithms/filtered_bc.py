"""Filtered behaviour cloning: imitate what came before enough reward. The floor that every critic has to beat."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vla_rl.algorithms import losses
from vla_rl.algorithms.acting import Explorer
from vla_rl.algorithms.algorithm import Decision
from vla_rl.algorithms.configs import FilteredBc
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.rates import ActorRates
from vla_rl.algorithms.rehearsal import Rehearsal, remembered
from vla_rl.models.policy import Policy
from vla_rl.replay.batch import Batch
from vla_rl.runtime.learner import Learner


class FilteredBcAlgorithm:
    """Imitates the rows of a batch that enough reward followed, and demonstrations.

    settings: the hyperparameters. policy: the actor. learner: device, precision and processes. reference: not used.
    rehearsal: what holds a trunk that trains to what it could.
    """

    def __init__(
        self,
        settings: FilteredBc,
        policy: Policy,
        learner: Learner,
        reference: Policy | None = None,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        self.rehearsal = rehearsal
        self.settings, self.policy, self.learner = settings, learner.prepare(policy), learner
        self.explorer = Explorer(policy, learner, settings.epsilon, settings.greedy_share)
        self.rates = ActorRates.of(policy, settings.actor_lr, settings.backbone_lr, settings.backbone_warmup)
        self.optimizer = learner.optimizer(self.rates.groups(policy), settings.actor_lr, of_policy=True)
        self.updates = 0
        self._loss: Tensor | None = None  # [B], of the last batch

    @property
    def scorer(self) -> None:
        """Nothing ranks decisions."""

    def explore(self, observation: dict[str, Any], lanes: slice | None = None) -> Decision:
        """Decide while collecting; see `Explorer`."""
        return self.explorer(observation, lanes)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Imitate what the batch holds of demonstrations, and of episodes that went well."""
        learner = self.learner
        rows = learner.in_memory(
            len(batch), lambda: LearnerBatch.of(batch, self.policy, learner.device, following=False)
        )
        learner.hold(batch)
        return learner.in_memory(len(rows), lambda: self.imitate(rows))

    def imitate(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Take a step on the rows that are worth imitating; returns metrics."""
        well = losses.went_well(rows.demo, rows.returns, rows.rest, self.settings.least_return)
        share = self.learner.mean(well.float().mean())
        with self.learner.autocast():
            features = rows.grounded if self.policy.frozen_trunk else self.policy.encode(rows.observation)
            log_prob = self.policy.log_prob(features, rows.labels.unsqueeze(1)).float().squeeze(1)
            loss = losses.imitation_loss(log_prob, well, share)
            whole, metrics = remembered(loss, self.rehearsal, self.settings.rehearsal_weight, self.learner)
        norm = self.learner.step(whole, self.optimizer, self.settings.clip)
        self.updates += 1
        self._loss = torch.where(well, -log_prob.detach(), 0.0)
        return metrics | {"actor/imitation": loss.detach(), "actor/grad_norm": norm, "actor/imitated": share}

    def priorities(self) -> Tensor:
        """The imitation loss of each row of the last batch, float32 [B]; 0 of rows that are not imitated."""
        assert self._loss is not None, "nothing was learnt yet"
        return self._loss

    def anneal(self, done: float) -> None:
        """Set the learning rate for a run of which the share `done` in [0, 1] is over."""
        share = 1.0 - (1.0 - self.settings.final_lr) * done
        self.rates.set(self.optimizer, share, self.updates)

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the policy's own weights that a resumed run needs."""
        held = {} if self.rehearsal is None else {"rehearsal": self.rehearsal.state_dict()}
        own = {"optimizer": self.optimizer.state_dict(), "learner": self.learner.state_dict(), "updates": self.updates}
        return own | held

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.rates.load(self.optimizer, state["optimizer"])
        self.learner.load_state_dict(state["learner"])
        self.updates = state.get("updates", 0)
        if self.rehearsal is not None and "rehearsal" in state:  # else it begins now
            self.rehearsal.load_state_dict(state["rehearsal"])
