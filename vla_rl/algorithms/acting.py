"""Deciding while collecting."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_rl.algorithms.algorithm import Decision, Scorer
from vla_rl.models.features import Features
from vla_rl.models.forward import Forward
from vla_rl.models.policy import Policy
from vla_rl.models.sampling import Logits, rows_of
from vla_rl.models.transfer import fetched, sent
from vla_rl.replay.reader import evenly
from vla_rl.runtime.learner import Learner
from vla_rl.specs import ACTING, BY_CRITIC, GREEDY, LOG_PROB, SAMPLED, VALUE

LEAST_SPREAD = 1e-6
"""Where all of Q is closer together, only the policy decides."""


class Explorer:
    """Samples of a policy, `epsilon` of them uniformly random; `greedy_share` of the lanes take the most likely ones.

    `critic_share` of the lanes take the best of `critic_samples` by what ranks decisions (`best_of`), where that is
    told; else they sample as others do. What replay remembers of a decision beside its tokens is its log-probability
    under the policy as it was, and, where there are such lanes, how it was taken; see `ActorCriticConfig.needs`.

    learner: draws the noise, so that several processes draw what one would. epsilon, greedy_share: may be changed.

    Attributes:
        keeps_features: whether replay keeps the frozen features of decisions. Of a trunk that trains, they take another
            pass, which acting itself does without.
    """

    def __init__(
        self,
        policy: Policy,
        learner: Learner,
        epsilon: float = 0.0,
        greedy_share: float = 0.0,
        critic_share: float = 0.0,
        critic_samples: int = 16,
    ) -> None:
        self._policy, self._learner = policy, learner
        self._forward = Forward(policy, learner.record)
        self.keeps_features = True
        self.epsilon, self.greedy_share = epsilon, greedy_share
        self._critic_share, self._critic_samples = critic_share, critic_samples

    @torch.no_grad()
    def __call__(
        self,
        observation: dict[str, Any],
        lanes: slice | None = None,
        scorer: Scorer | None = None,
        promise: Scorer | None = None,
    ) -> Decision:
        """Decide for a batch of observations.

        lanes: which of all lanes the observations are of; the first ones, unless told. scorer: what ranks decisions,
        once it is fit to act by. promise: says what replay is to remember that decisions were worth, as `VALUE`.
        """
        policy = self._policy
        features, logits = self._forward(observation)
        rows = len(features)
        ways = ways_of(self.greedy_share, self._critic_share, np.arange(rows) + (lanes.start if lanes else 0))
        by_critic = scorer is not None and bool((ways == BY_CRITIC).any())
        grounded = features
        if not policy.frozen_trunk and (self.keeps_features or by_critic or promise is not None):
            grounded = policy.ground(observation)
        tokens = policy.sample(logits, 1, self._noise(rows))
        if self.epsilon > 0:
            random = policy.uniform(rows, 1, self._noise(rows))
            strays = self._learner.uniform(rows) < self.epsilon
            tokens = torch.where(strays[:, None, None], random, tokens)
        if len(at := _places(ways == GREEDY, tokens.device)):
            tokens = tokens.index_copy(0, at, policy.greedy(rows_of(logits, at)).unsqueeze(1))
        if scorer is not None and by_critic:
            at = _places(ways == BY_CRITIC, tokens.device)
            noise = self._noise(len(at), self._critic_samples)
            best, _ = best_of(policy, scorer, grounded.rows(at), rows_of(logits, at), noise)
            tokens = tokens.index_copy(0, at, best.unsqueeze(1))
        extras = {LOG_PROB: policy.log_prob(logits, tokens).squeeze(1).float()}
        if promise is not None:
            extras[VALUE] = promise(grounded, tokens).squeeze(1).float()
        host = fetched({
            "tokens": tokens.squeeze(1),
            "features": grounded.stored(),
            "extras": extras,
            "remembered": features.remembered,
        })  # fmt: skip
        if self._critic_share > 0:
            # Before the critic acts there is nothing to compare.
            host["extras"][ACTING] = ways if scorer is not None else np.zeros_like(ways)
        return Decision(**host)

    def _noise(self, rows: int, samples: int = 1) -> Tensor:
        return self._learner.uniform(rows, samples, len(self._policy.slots))


def best_of(
    policy: Policy, scorer: Scorer, grounded: Features, logits: Logits, noise_BNK: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the greedy decision and N samples the one of the highest Q / T + log pi, int64 [B, K], and its Q float32 [B].

    T is the standard deviation of Q over these decisions. So Q decides between decisions that the policy takes about as
    often, and one that it hardly ever takes, of which a critic knows little, must be worth far more. The sum is highest
    at the mode of pi * exp(Q / T), the best policy under a KL penalty of weight T (arXiv 1805.00909), which is what
    pa_rl and awac lead the actor to, each with a T of its own.
    """
    samples = policy.sample(logits, noise_BNK.shape[1], noise_BNK)
    tokens = torch.cat([policy.greedy(logits).unsqueeze(1), samples], dim=1)
    q = scorer(grounded, tokens)
    spread = q.std(dim=1, correction=0, keepdim=True).clamp_min(LEAST_SPREAD)
    best = (q / spread + policy.log_prob(logits, tokens).float()).argmax(dim=1)
    rows = torch.arange(len(best), device=best.device)
    return tokens[rows, best], q[rows, best]


def ways_of(greedy_share: float, critic_share: float, lanes: np.ndarray) -> np.ndarray:
    """How each of these lanes decides, int8 [B]; of all lanes up to any one each share is what it says, rounded."""
    greedy = evenly(greedy_share, lanes)
    ways = np.where(greedy, GREEDY, SAMPLED).astype(np.int8)
    if critic_share > 0:
        others = lanes - np.floor(greedy_share * lanes + 0.5)  # so many that are not greedy come before
        ways[~greedy & evenly(critic_share / (1.0 - greedy_share), others)] = BY_CRITIC
    return ways


def _places(chosen: np.ndarray, device: torch.device) -> Tensor:
    return sent(np.flatnonzero(chosen), device)
