"""Deciding while collecting."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vla_rl.algorithms.algorithm import Decision
from vla_rl.models.policy import Policy
from vla_rl.replay.reader import evenly
from vla_rl.runtime.learner import Learner
from vla_rl.specs import LOG_PROB


class Explorer:
    """Samples of a policy, `epsilon` of them uniformly random; `greedy_share` of the lanes take the most likely ones.

    What replay remembers of a decision beside its tokens is its log-probability under the policy as it was, as
    `configs.ACTED` declares.

    learner: draws the noise, so that several processes draw what one would.
    """

    def __init__(self, policy: Policy, learner: Learner, epsilon: float = 0.0, greedy_share: float = 0.0) -> None:
        self._policy, self._learner, self._epsilon, self._greedy_share = policy, learner, epsilon, greedy_share

    @torch.no_grad()
    def __call__(self, observation: dict[str, Any], lanes: slice | None = None) -> Decision:
        """Decide for a batch of observations.

        lanes: which of all lanes the observations are of; the first ones, unless told.
        """
        policy = self._policy
        grounded = policy.ground(observation)
        features = grounded if policy.frozen_trunk else policy.encode(observation)
        logits = policy.logits(features)
        rows = len(logits[0])
        tokens = policy.sample(logits, 1, self._noise(rows))
        if self._epsilon > 0:
            random = policy.uniform(rows, 1, self._noise(rows))
            strays = self._learner.uniform(rows) < self._epsilon
            tokens = torch.where(strays[:, None, None], random, tokens)
        greedy = greedy_lanes(self._greedy_share, np.arange(rows) + (lanes.start if lanes else 0))
        if len(greedy):
            at = torch.from_numpy(greedy).to(tokens.device, non_blocking=True)
            tokens = tokens.index_copy(0, at, policy.greedy([each[at] for each in logits]).unsqueeze(1))
        log_prob = policy.log_prob(logits, tokens).squeeze(1).float().cpu().numpy()
        remembered = None if features.remembered is None else features.remembered.cpu().numpy()
        return Decision(tokens.squeeze(1).cpu().numpy(), grounded.pack(), {LOG_PROB: log_prob}, remembered)

    def _noise(self, rows: int) -> torch.Tensor:
        return self._learner.uniform(rows, 1, len(self._policy.slots))


def greedy_lanes(share: float, lanes: np.ndarray) -> np.ndarray:
    """Which of these lanes are greedy, as places in `lanes`; of all lanes up to any one it is `share`, rounded."""
    return np.flatnonzero(evenly(share, lanes))
