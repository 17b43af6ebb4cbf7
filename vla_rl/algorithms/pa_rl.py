"""Sampled-candidate policy improvement with a decoupled critic (the family of PA-RL, arXiv 2412.06685).

It needs of a policy only `encode`, `ground`, `sample` and `log_prob`: bins, choices, places and tools share this path.
Shapes: B rows, N candidates, K slots, E critics, Z value bins.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_rl.algorithms import losses
from vla_rl.algorithms.algorithm import Decision
from vla_rl.algorithms.augment import Augment
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.critic import Critic
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.features import Features
from vla_rl.models.policy import Logits, Policy
from vla_rl.replay.batch import Batch
from vla_rl.runtime.learner import Learner

PREFIXES = 16
"""Decisions of a row over which the divergence from the supervised start is averaged, where there is a grammar."""
MEASURED, MEASURE_EVERY = 16, 8
"""Rows of a batch on which the actor is measured for the log, which takes as long as to train it on them; and at every
so many updates of the critic and of the actor each is measured, the first one among them."""


class PaRlAlgorithm:
    """Acts, and updates a critic and a policy from batches of replay.

    Args:
        settings: the hyperparameters.
        policy: the actor; its frozen, grounded features are what the critic reads.
        learner: device, precision and processes.
        reference: the policy of the supervised start, which `kl_weight` ties the actor to; learning needs it
            where `kl_weight` > 0.
    """

    def __init__(self, settings: PaRl, policy: Policy, learner: Learner, reference: Policy | None = None) -> None:
        self.settings, self.policy, self.learner = settings, learner.prepare(policy), learner
        self.augment = Augment(settings.shift, settings.brightness, settings.contrast)
        self.reference = learner.prepare(reference) if reference is not None else None
        # The policy's own, without weights: its normalisation is the same for actor and critic.
        self.readout = policy.readout
        self.critic = Critic(
            self.readout.size,
            policy.slots,
            views=policy.place_views,
            hidden_size=policy.trunk.backbone.hidden_size,
            grid=policy.trunk.backbone.grid,
            members=settings.critics,
            width=settings.critic_width,
            bins=settings.bins,
            value_range=settings.value_range,
        ).to(learner.device)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.critic_optimizer = learner.optimizer(self.critic.parameters(), settings.critic_lr, settings.weight_decay)
        self.actor_optimizer = learner.optimizer(policy.trainable_parameters(), settings.actor_lr)
        self.updates = 0
        self._warned = False
        self._judged: tuple[Tensor, Tensor] | None = None  # logits [E, B, Z] and targets [B] of the last batch

    # --- acting ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observation: dict[str, Any], best_of: int = 1, greedy: bool = False) -> Decision:
        """Decide for a batch of observations.

        `greedy` takes the policy's most likely tokens; otherwise `best_of` samples are drawn and the one of the
        highest Q is taken.
        """
        grounded, features = self._see(observation)
        if greedy:
            return self._decide(grounded, self.policy.greedy(features).unsqueeze(1))
        return self._decide(grounded, self.policy.sample(features, best_of, self._noise(len(features), best_of)))

    @torch.no_grad()
    def explore(self, observation: dict[str, Any], lanes: slice | None = None) -> Decision:
        """Decide while collecting: samples, `epsilon` of them uniformly random; `greedy_share` of the lanes are greedy.

        lanes: which of all lanes the observations are of; the first ones, unless told.
        """
        settings = self.settings
        grounded, features = self._see(observation)
        rows = len(features)
        tokens = self.policy.sample(features, 1, self._noise(rows, 1))
        if settings.epsilon > 0:
            random = self.policy.uniform(rows, 1, self._noise(rows, 1))
            strays = self.learner.uniform(rows) < settings.epsilon
            tokens = torch.where(strays[:, None, None], random, tokens)
        greedy = greedy_lanes(settings.greedy_share, np.arange(rows) + (lanes.start if lanes else 0))
        if len(greedy):
            at = torch.from_numpy(greedy).to(tokens.device, non_blocking=True)
            tokens = tokens.index_copy(0, at, self.policy.greedy(features.rows(at)).unsqueeze(1))
        return Decision(tokens.squeeze(1).cpu().numpy(), grounded.pack())

    def _see(self, observation: dict[str, Any]) -> tuple[Features, Features]:
        """The frozen features, and those that the actor reads."""
        grounded = self.policy.ground(observation)
        return grounded, grounded if self.policy.frozen_trunk else self.policy.encode(observation)

    def _decide(self, grounded: Features, tokens_BNK: Tensor) -> Decision:
        """The candidate of the highest Q."""
        q = self._q(self.critic, grounded, tokens_BNK)
        best = q.argmax(dim=1, keepdim=True)
        chosen = tokens_BNK.gather(1, best.unsqueeze(-1).expand(-1, -1, tokens_BNK.shape[-1])).squeeze(1)
        return Decision(chosen.cpu().numpy(), grounded.pack(), q=q.gather(1, best).squeeze(1).cpu().numpy())

    # --- learning -------------------------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the critic and, every `critic_updates`-th time after the warm-up, one of the actor."""
        # Where returns alone are the target, only those that are not whole ask for what follows.
        following = self.settings.mc_weight < 1 or bool((batch.rest > 0).any())
        self._check_range(batch)
        rows = LearnerBatch.of(batch, self.policy, self.learner.device, self.augment, following)
        self.learner.hold(batch)
        metrics = self.update_critic(rows)
        self.update_target()
        self.updates += 1
        past_warmup = self.updates > self.settings.warmup_updates
        if past_warmup and self.updates % self.settings.critic_updates == 0:
            metrics |= self.update_actor(rows.subsample(self.settings.actor_batch_size))
        return metrics

    def _check_range(self, batch: Batch) -> None:
        """Warn, once, of what was observed and the critic cannot tell: values beyond its range are cut off."""
        least, most = self.settings.value_range
        slack = 1e-3 * (most - least)
        low, high = least - slack, most + slack
        # What is still to come may bring a sum of rewards back into the range.
        beyond = (batch.returns < low) | (batch.returns > high)
        beyond |= batch.reward + batch.discount * most < low
        beyond |= batch.reward + batch.discount * least > high
        if self._warned or not beyond.any():
            return
        self._warned = True
        row = int(beyond.argmax())
        seen = f"a return of {batch.returns[row]:.6g}"
        if not low > batch.returns[row] and not batch.returns[row] > high:
            seen = f"rewards of {batch.reward[row]:.6g} within a few steps"
        warnings.warn(
            f"algorithm.value_range: the environment gave {seen}, which {[least, most]} does not hold; the critic cuts "
            "off what lies beyond, so choose a range that holds every discounted return",
            stacklevel=3,
        )

    def update_critic(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Move every critic's histogram towards the target value."""
        target = self.target_value(rows)
        with self.learner.autocast():
            seen = rows.grounded
            logits = self.critic(self.readout(seen), rows.tokens.unsqueeze(1), seen).squeeze(2)
            histogram = losses.hl_gauss(target, self.critic.edges, self.settings.sigma)
            loss = losses.categorical_loss(logits.float(), histogram, rows.weight)
        norm = self.learner.step(loss, self.critic_optimizer, self.settings.clip)
        self._judged = logits.detach(), target
        metrics = {"critic/loss": loss.detach(), "critic/grad_norm": norm}
        return metrics if self.updates % MEASURE_EVERY else metrics | self.measure_critic(rows)

    def measure_critic(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """What the critic made of the rows of its last update."""
        q, target = self._verdict()
        returns = losses.whole(rows.returns, rows.rest)
        known = torch.isfinite(returns)
        return {
            "q/mean": q.mean(),
            "q/target": target.mean(),
            "q/return": masked_mean(returns, known),
            "q/minus_return": masked_mean(q - returns, known),
        }

    @property
    def td_error(self) -> Tensor:
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
            assert self.settings.mc_weight == 1.0, "a backup without the features of the next observations"
            return rows.returns
        value = self.next_value(rows.next_grounded, rows.next_observation)
        if rows.followed is not None:
            value = torch.zeros_like(rows.reward).index_copy(0, rows.followed, value)
        returns = losses.whole(rows.returns, rows.rest)
        return losses.td_target(rows.reward, rows.discount, value, returns, self.settings.mc_weight)

    @torch.no_grad()
    def next_value(self, grounded: Features, observation: dict[str, Any]) -> Tensor:
        """[C] what the target critic makes of observations, by samples of the policy."""
        settings = self.settings
        features = self._actor_features(grounded, observation)
        noise = self._noise(len(grounded), settings.backup_samples)
        q = self._q(self.target, grounded, self.policy.sample(features, settings.backup_samples, noise))
        return losses.backup_value(q, settings.backup, settings.value_range)

    def update_actor(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """Imitate the candidates that the critic prefers, held by demonstrations and the supervised start."""
        settings, policy = self.settings, self.policy
        with self.learner.autocast():
            logits = policy.logits(self._actor_features(rows.grounded, rows.observation))
        fixed = [each.detach() for each in logits]
        tokens, weights, statistics = self.weigh_candidates(fixed, rows)
        demo_share = self.learner.mean(rows.demo.float().mean())
        with self.learner.autocast():
            log_prob = policy.log_prob(logits, torch.cat([tokens, rows.labels.unsqueeze(1)], dim=1)).float()
            improvement = losses.weighted_bc_loss(weights, log_prob[:, :-1])
            imitation = losses.imitation_loss(log_prob[:, -1], rows.demo, demo_share)
            loss = improvement + settings.bc_weight * imitation
            if settings.kl_weight > 0:
                assert self.reference is not None, "kl_weight without a reference"
                noise = self._noise(len(rows), PREFIXES)
                kl = policy.kl(logits, self._reference_logits(rows), noise).mean()
                loss = loss + settings.kl_weight * kl
        norm = self.learner.step(loss, self.actor_optimizer, settings.clip)
        metrics = {
            "actor/improvement": improvement.detach(),
            "actor/imitation": imitation.detach(),
            "actor/grad_norm": norm,
        }
        metrics |= statistics
        nth = (self.updates - settings.warmup_updates - 1) // settings.critic_updates
        return metrics if nth % MEASURE_EVERY else metrics | self.measure_actor(rows.subsample(MEASURED))

    @torch.no_grad()
    def measure_actor(self, rows: LearnerBatch) -> dict[str, Tensor]:
        """The policy's entropy, and how far it is from the supervised start."""
        logits = self.policy.logits(self._actor_features(rows.grounded, rows.observation))
        metrics = {"policy/entropy": self.policy.entropy(logits).mean()}
        if self.reference is not None:
            metrics["policy/kl"] = self.policy.kl(logits, self._reference_logits(rows)).mean()
        return metrics

    @torch.no_grad()
    def weigh_candidates(self, logits: Logits, rows: LearnerBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Candidates int64 [B, N, K] (samples, uniform ones, the replayed action last) and their weights [B, N]."""
        settings, policy = self.settings, self.policy
        tokens = policy.sample(logits, settings.candidates, self._noise(len(rows), settings.candidates))
        parts = [tokens]
        if settings.uniform_candidates:
            noise = self._noise(len(rows), settings.uniform_candidates)
            parts.append(policy.uniform(len(rows), settings.uniform_candidates, noise))
        candidates = torch.cat([*parts, rows.tokens.unsqueeze(1)], dim=1)
        q = self._q(self.critic, rows.grounded, candidates)
        if settings.self_imitation:
            # Whatever would have followed an episode that was cut short is worth the least there is, or more.
            replayed = losses.raise_to_return(q[:, -1], rows.returns + rows.rest * settings.value_range[0])
            q = torch.cat([q[:, :-1], replayed.unsqueeze(1)], dim=1)
        # One candidate has no spread: the least temperature decides between it and the replayed action.
        spread = q[:, :-1].std(dim=1).mean() if q.shape[1] > 2 else q.new_zeros(())
        spread = self.learner.mean(spread)
        weights = losses.candidate_weights(q, (settings.temperature * spread).clamp_min(settings.least_temperature))
        effective = 1.0 / weights.square().sum(1)
        return candidates, weights, {"q/spread": spread, "actor/effective_candidates": effective.mean()}

    @torch.no_grad()
    def update_target(self) -> None:
        """The target critic follows by an exponential average, in float32."""
        online: list[Tensor] = list(self.critic.parameters())
        target: list[Tensor] = list(self.target.parameters())
        torch._foreach_lerp_(target, online, self.settings.target_ema)

    def anneal(self, done: float) -> None:
        """Set the learning rates for a run of which the share `done` in [0, 1] is over."""
        settings = self.settings
        share = 1.0 - (1.0 - settings.final_lr) * done
        for optimizer, rate in (
            (self.critic_optimizer, settings.critic_lr),
            (self.actor_optimizer, settings.actor_lr),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * share

    # --- state ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the policy's own weights that a resumed run needs."""
        return {
            "critic": self.critic.state_dict(),
            "target": self.target.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "learner": self.learner.state_dict(),
            "updates": self.updates,
        }

    def load_critic(self, state: dict[str, Any]) -> None:
        """What deciding by Q needs of `state_dict`."""
        self.critic.load_state_dict(state["critic"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.load_critic(state)
        self.target.load_state_dict(state["target"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.actor_optimizer.load_state_dict(state["actor_optimizer"])
        self.learner.load_state_dict(state["learner"])
        self.updates = state["updates"]

    # --- parts ----------------------------------------------------------------------------------------------

    def _q(self, critic: Critic, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """[B, N] the most pessimistic critic's value."""
        with self.learner.autocast():
            logits = critic(self.readout(grounded), tokens_BNK, grounded)
        return critic.value(logits).amin(0)

    def _actor_features(self, grounded: Features, observation: dict[str, Any]) -> Features:
        return grounded if self.policy.frozen_trunk else self.policy.encode(observation)

    def _reference_logits(self, rows: LearnerBatch) -> list[Tensor]:
        assert self.reference is not None
        with torch.no_grad():
            seen = rows.grounded if self.reference.frozen_trunk else self.reference.encode(rows.observation)
            return self.reference.logits(seen)

    def _noise(self, rows: int, samples: int) -> Tensor:
        return self.learner.uniform(rows, samples, len(self.policy.slots))


def greedy_lanes(share: float, lanes: np.ndarray) -> np.ndarray:
    """Which of these lanes are greedy, as places in `lanes`; of all lanes up to any one it is `share`, rounded."""
    return np.flatnonzero(np.floor(share * (lanes + 1) + 0.5) > np.floor(share * lanes + 0.5))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values that the mask selects; NaN where it selects none."""
    return torch.where(mask, values, 0.0).sum() / mask.sum()
