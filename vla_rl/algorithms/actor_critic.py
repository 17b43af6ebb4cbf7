"""What actor-critics on token actions have in common: acting while collecting, a categorical critic, the schedule.

They need of a policy only `encode`, `ground`, `sample` and `log_prob`: bins, choices, places and tools share this path.
Shapes: B rows, N decisions a row, K slots, E critics, Z value bins.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_rl.algorithms import losses
from vla_rl.algorithms.acting import Explorer
from vla_rl.algorithms.actor_critic_config import ActorCriticConfig
from vla_rl.algorithms.adapting import Adapting
from vla_rl.algorithms.algorithm import Decision, Scorer
from vla_rl.algorithms.augment import Augment
from vla_rl.algorithms.calls import CallLearning
from vla_rl.algorithms.constraints import ConstrainedScorer, Constraint
from vla_rl.algorithms.critic import Critic, QScorer, follow, make_critic
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.occupancy import Occupancy
from vla_rl.algorithms.rates import ActorRates
from vla_rl.algorithms.recorded import RecordedUpdates, recorded_updates
from vla_rl.algorithms.rehearsal import Rehearsal, remembered
from vla_rl.algorithms.tether import HeldFrames, Tether
from vla_rl.algorithms.value_range import warned_beyond
from vla_rl.models.features import Features
from vla_rl.models.policy import Logits, Policy
from vla_rl.replay import EpisodeListener
from vla_rl.replay.batch import Batch
from vla_rl.runtime.learner import Learner

MEASURED, MEASURE_EVERY = 16, 8
"""Rows of a batch on which the actor is measured for the log, which takes as long as to train it on them; and at every
so many updates of the critic and of the actor each is measured, the first one among them."""
LEAST_RETURN = 1e-6
"""That a reward followed, where the actor clones what went well."""


class ActorCritic(ABC):
    """Acts, and updates a critic and a policy from batches of replay; how the actor learns is each one's own.

    Args:
        settings: the hyperparameters.
        policy: the actor; its frozen, grounded features are what the critic reads.
        learner: device, precision and processes.
        reference: the policy of the supervised start, which the actor is held to; learning needs it where
            `needs.reference` says so.
        rehearsal: what holds a trunk that trains to what it could.
        held: what other tasks show, where the actor is to stay as it is.
        calls: which kinds of commands are calls of tools, bool; where `settings.calls` asks what those are worth.
    """

    settings: Any

    def __init__(
        self,
        settings: ActorCriticConfig,
        policy: Policy,
        learner: Learner,
        reference: Policy | None = None,
        rehearsal: Rehearsal | None = None,
        held: HeldFrames | None = None,
        calls: np.ndarray | None = None,
    ) -> None:
        self.rehearsal = rehearsal
        self.settings, self.policy, self.learner = settings, learner.prepare(policy), learner
        self.augment = Augment(settings.shift, settings.brightness, settings.contrast)
        self.reference = learner.prepare(reference) if reference is not None else None
        self.tether = Tether(settings, policy, learner, self.reference, held) if settings.needs.reference else None
        self.explorer = Explorer(
            policy,
            learner,
            settings.epsilon,
            settings.greedy_share,
            settings.critic_share,
            settings.critic_samples,
        )
        # The policy's own, without weights: its normalisation is the same for actor and critic.
        self.readout = policy.readout
        self.critic = self.make_critic().to(learner.device)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.q: Scorer = QScorer(self.critic, policy)
        self.target_q: Scorer = QScorer(self.target, policy)
        self.judge: Scorer = self.q
        self.critic_optimizer = learner.optimizer(self.critic.parameters(), settings.critic_lr, settings.weight_decay)
        self.actor_rates = ActorRates.of(policy, settings.actor_lr, settings.backbone_lr, settings.backbone_warmup)
        self.actor_optimizer = learner.optimizer(self.actor_rates.groups(policy), settings.actor_lr, of_policy=True)
        self.constraint = None if settings.cost is None else Constraint(settings, policy, learner)
        self.occupancy = None if settings.occupancy is None else Occupancy(settings, policy, learner)
        asked = settings.calls
        self.calls = None if asked is None or calls is None else CallLearning(asked, calls, policy, learner)
        self.adapting = None if settings.adaptation is None else Adapting(settings, learner, self.explorer, self.told)
        self.updates, self.trusted = 0, True
        self._warned = False
        self._recorded: RecordedUpdates | None = None
        self._judged: tuple[Tensor, Tensor] | None = None  # logits [E, B, Z] and targets [B] of the last batch

    @property
    def scorer(self) -> Scorer | None:
        """What ranks decisions: by the success that `judge` promises, and by straying and by cost where those count."""
        judge = self.judge if self.occupancy is None else ConstrainedScorer(self.judge, self.occupancy.rank)
        return judge if self.constraint is None else ConstrainedScorer(judge, self.constraint.rank)

    @property
    def listeners(self) -> list[EpisodeListener]:
        """What is to hear of the run's episodes, see `Needs.listens`."""
        costs = [] if self.constraint is None else [self.constraint.listener]
        return [*costs, *([] if self.adapting is None else [self.adapting.watch])]

    @property
    def recent(self) -> tuple[int, float]:
        """See `Adapts`."""
        return (0, 0.0) if self.adapting is None else self.adapting.recent

    def make_critic(self) -> Critic:
        """A fresh critic."""
        return make_critic(self.settings, self.policy)

    def judged(self, tokens: Tensor) -> Tensor:
        """Of decisions int64 [..., K], what the critic judges: all of it."""
        return tokens

    def explore(self, observation: dict[str, Any], lanes: slice | None = None) -> Decision:
        """Decide while collecting; see `Explorer`."""
        promise = None if self.adapting is None else self.promise
        return self.explorer(observation, lanes, self.scorer if self.past_warmup else None, promise)

    def promise(self, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """Q float32 [B, N] of decisions, or V where the critic judges none; see `Scorer`."""
        return self.q(grounded, self.judged(tokens_BNK))

    @property
    def past_warmup(self) -> bool:
        """Whether the critic has learnt enough to be followed."""
        return self.updates > self.settings.warmup_updates

    def trust(self, critic: bool) -> None:
        """Take note that acting by the critic is known to be worse than acting without it (False), or no longer is."""
        self.trusted = critic

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the critic and, every `critic_updates`-th time after the warm-up, one of the actor."""
        # Where returns alone are the target, only those that are not whole ask for what follows; and a model does.
        needs, learner = self.settings.needs, self.learner
        following = needs.following is True or needs.one_step > 0 or learner.any(bool((batch.rest > 0).any()))
        self._warned = self._warned or warned_beyond(batch, self.settings.value_range)
        with learner.at_own_pace():
            read = partial(LearnerBatch.of, batch, self.policy, learner.device, self.augment, following)
            rows = learner.in_memory(len(batch), read)
        learner.hold(batch)
        rows = rows if self.adapting is None else self.adapting.weigh(rows, batch.index, self.critic)
        strays = {}
        if self.occupancy is not None:
            strays = self.occupancy.update(rows, batch, self.past_warmup, lambda: self._next_decisions(rows))
        if self._recorded is None:
            self._recorded = recorded_updates(self)
        metrics, self._judged = self._recorded(rows, self._variant)
        metrics |= strays
        self.updates += 1
        return metrics if rows.trust is None else metrics | {"shift/trust": rows.trust.mean()}

    def update_from(self, rows: LearnerBatch) -> tuple[dict[str, Tensor], Any]:
        """One update but for counting it: metrics, and what `priorities` are worked out from."""
        learner, constraint = self.learner, self.constraint
        metrics = learner.in_memory(len(rows), lambda: self.update_critic(rows))
        if constraint is not None:
            metrics |= learner.in_memory(len(rows), lambda: constraint.update(rows, self._next_decisions(rows)))
        if self.calls is not None:
            limits = self.settings.sigma, self.settings.clip
            metrics |= self.calls.update(self.critic, self.critic_optimizer, constraint, *limits)
        self.update_target()
        if self._moves_actor:
            some = rows.subsample(self.settings.actor_batch_size)
            learn = self.clone if self.falls_back else self.update_actor
            metrics |= learner.in_memory(len(some), lambda: learn(some))
            metrics |= {} if constraint is None else constraint.adjust()
        return metrics, self._judged

    @property
    def _moves_actor(self) -> bool:
        """Whether the update that is due next is one of the actor, too."""
        number, settings = self.updates + 1, self.settings
        return number > settings.warmup_updates and number % settings.critic_updates == 0

    @property
    def _measures_actor(self) -> bool:
        """Whether it is measured then; see `MEASURE_EVERY`."""
        return (self.updates - self.settings.warmup_updates) // self.settings.critic_updates % MEASURE_EVERY == 0

    @property
    def _variant(self) -> tuple[bool, ...]:
        """All that the next update depends on beside tensors."""
        return self.updates % MEASURE_EVERY == 0, self._moves_actor, self._measures_actor, self.falls_back

    @property
    def falls_back(self) -> bool:
        """Whether the actor does without the critic, for now."""
        return bool(self.settings.fallback and not self.trusted)

    def update_critic(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Move every critic's histogram towards the target value."""
        target = self.target_value(rows)
        with self.learner.autocast():
            logits = self._logits(self.critic, rows)
            histogram = losses.hl_gauss(target, self.critic.edges, self.settings.sigma)
            loss = losses.categorical_loss(logits.float(), histogram, rows.weight)
        norm = self.learner.step(loss, self.critic_optimizer, self.settings.clip)
        self._judged = logits.detach(), target
        metrics = {"critic/loss": loss.detach(), "critic/grad_norm": norm}
        return metrics if self.updates % MEASURE_EVERY else metrics | self.measure_critic(rows)

    def _logits(self, critic: Critic, rows: LearnerBatch) -> Tensor:
        """What a critic makes of the rows' decisions, [E, B, Z]."""
        seen = rows.grounded
        return critic(self.readout(seen), self.judged(rows.tokens).unsqueeze(1), seen).squeeze(2)

    def told(self, critic: Critic, rows: LearnerBatch) -> Tensor:
        """[B] what a critic's members make of the rows' decisions, on average."""
        return critic.value(self._logits(critic, rows)).mean(0)

    def measure_critic(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """What the critic made of the rows of its last update."""
        return losses.critic_measures(*self._verdict(), losses.whole(rows.returns, rows.rest))

    def priorities(self) -> Tensor:
        """|Q - target| of each row of the last batch, float32 [B]."""
        q, target = self._verdict()
        return (q - target).abs()

    def _verdict(self) -> tuple[Tensor, Tensor]:
        """Q and the target of each row of the last batch."""
        assert self._judged is not None, "nothing was learnt yet"
        logits, target = self._judged
        return self.critic.value(logits).mean(0), target

    @torch.no_grad()
    def target_value(self, rows: LearnerBatch) -> Tensor:
        """[B] the mix of observed return and backup that the critics learn; the backup alone where the return is not
        the whole, which `rest` tells.

        Where the return alone counts (`mc_weight` 1), the rows must be of finished episodes.
        """
        if rows.next_grounded is None:
            assert self.settings.returns_alone, "a backup without the features of the next observations"
            return rows.returns
        value = self.next_value(rows)
        if rows.followed is not None:
            value = torch.zeros_like(rows.reward).index_copy(0, rows.followed, value)
        returns = losses.whole(rows.returns, rows.rest)
        return losses.td_target(rows.reward, rows.discount, value, returns, self.settings.mc_weight)

    @torch.no_grad()
    def next_value(self, rows: LearnerBatch) -> Tensor:
        """[C] what the target critic makes of what follows the rows, by samples of the policy."""
        assert rows.next_grounded is not None, "nothing follows"
        q = self.target_q(rows.next_grounded, self.decisions(rows))
        return losses.backup_value(q, self.settings.backup, self.settings.value_range)

    @torch.no_grad()
    def decisions(self, rows: LearnerBatch) -> Tensor:
        """Samples of the policy at what follows the rows, int64 [C, `backup_samples`, K]."""
        features, samples = rows.next_grounded, self.settings.backup_samples
        assert features is not None, "nothing follows"
        # Drawn for all rows, so that all processes draw alike, however many rows of theirs are followed.
        noise = rows.of_followed(self.noise(len(rows), samples))
        with self.learner.at_own_pace():
            features = self.actor_features(features, rows.next_observation) if len(features) else features
        return self.policy.sample(features, samples, noise)

    def _next_decisions(self, rows: LearnerBatch) -> Tensor | None:
        """Samples of the policy at what followed the rows, where that is there."""
        return None if rows.next_grounded is None else self.decisions(rows)

    @abstractmethod
    def update_actor(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Improve the policy on some rows of the batch; returns metrics."""

    def clone(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Imitate what a reward followed, and demonstrations, whatever the critic says of it; returns metrics."""
        well = losses.went_well(rows.demo, rows.returns, rows.rest, LEAST_RETURN)
        share = self.learner.mean(well.float().mean())
        with self.learner.autocast():
            logits = self.policy.logits(self.actor_features(rows.grounded, rows.observation))
            log_prob = self.policy.log_prob(logits, rows.labels.unsqueeze(1)).float().squeeze(1)
            imitation = losses.imitation_loss(rows.trusted(log_prob), well, share)
        return self.anchored(imitation, logits, log_prob, rows) | {"actor/imitated": share}

    def anchored(self, loss: Tensor, logits: Logits, label_log_prob: Tensor, rows: LearnerBatch) -> dict[str, Tensor]:
        """Take the actor's step on `loss` and what holds it: demonstrations, and the supervised start.

        label_log_prob: [B], of the demonstrated tokens. Returns metrics.
        """
        settings = self.settings
        demo_share = self.learner.mean(rows.demo.float().mean())
        with self.learner.autocast():
            imitation = losses.imitation_loss(label_log_prob, rows.demo, demo_share)
            anchor = 1.0 if self.adapting is None else self.adapting.response.anchor
            whole = loss + anchor * settings.bc_weight * imitation
            whole = whole if self.tether is None else whole + self.tether.pull(logits, rows, anchor)
            if self.calls is not None and self.scorer is not None:
                whole = whole + self.calls.preference(logits, rows.grounded, self.scorer, self.constraint)
            whole, metrics = remembered(whole, self.rehearsal, settings.rehearsal_weight, self.learner)
        norm = self.learner.step(whole, self.actor_optimizer, settings.clip)
        metrics |= {} if self.tether is None else self.tether.follow()
        metrics |= {
            "actor/improvement": loss.detach(),
            "actor/imitation": imitation.detach(),
            "actor/grad_norm": norm,
        }
        return metrics | self.measure_actor(rows.subsample(MEASURED)) if self._measures_actor else metrics

    @torch.no_grad()
    def measure_actor(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """The policy's entropy, and how far it is from the supervised start."""
        logits = self.policy.logits(self.actor_features(rows.grounded, rows.observation))
        metrics = {"policy/entropy": self.policy.entropy(logits).mean()}
        if self.tether is not None:
            metrics["policy/kl"] = self.tether.divergence(logits, rows)
        return metrics

    def update_target(self) -> None:
        """The target critic follows."""
        follow(self.target, self.critic, self.settings.target_ema)

    def anneal(self, done: float) -> None:
        """Set the learning rates for a run of which the share `done` in [0, 1] is over."""
        share = 1.0 - (1.0 - self.settings.final_lr) * done
        if self.adapting is not None:
            self.adapting.follow(self.critic)
            share = self.adapting.rate(share)
        for optimizer, rate in self.rates:
            for group in optimizer.param_groups:
                group["lr"] = rate * share
        self.actor_rates.set(self.actor_optimizer, share, self.actor_updates)

    @property
    def actor_updates(self) -> int:
        """How many there were."""
        return max(0, (self.updates - self.settings.warmup_updates) // self.settings.critic_updates)

    @property
    def rates(self) -> list[tuple[Any, float]]:
        """Every optimiser but the actor's, and the learning rate that it begins with."""
        own = [(self.critic_optimizer, self.settings.critic_lr)]
        own += [] if self.constraint is None else self.constraint.rates
        return own if self.occupancy is None else [*own, *self.occupancy.rates]

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the policy's own weights that a resumed run needs."""
        return {
            "critic": self.critic.state_dict(),
            "target": self.target.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "learner": self.learner.state_dict(),
            "updates": self.updates,
            "trusted": self.trusted,
            **{name: part.state_dict() for name, part in self._parts.items()},
            **({} if self.adapting is None else {"adapting": self.adapting.state_dict()}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.critic.load_state_dict(state["critic"])
        self.target.load_state_dict(state["target"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.actor_rates.load(self.actor_optimizer, state["actor_optimizer"])
        self.learner.load_state_dict(state["learner"])
        self._recorded = None
        self.updates, self.trusted = state["updates"], state.get("trusted", True)
        for name, part in self._parts.items():
            if name in state:  # else it begins now
                part.load_state_dict(state[name])
        if self.adapting is not None and "adapting" in state:
            self.adapting.load_state_dict(state["adapting"], self.critic)

    @property
    def _parts(self) -> dict[str, Any]:
        """Those parts with a state that the settings ask for, by the name of the setting or of what they do."""
        names = ("rehearsal", "constraint", "occupancy", "calls", "tether")
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    def actor_features(self, grounded: Features, observation: dict[str, Any]) -> Features:
        """What the actor reads, with a gradient where its trunk trains."""
        return grounded if self.policy.frozen_trunk else self.policy.encode(observation)

    def noise(self, rows: int, samples: int) -> Tensor:
        """Uniform in (0, 1), [rows, samples, K]."""
        return self.learner.uniform(rows, samples, len(self.policy.slots))
