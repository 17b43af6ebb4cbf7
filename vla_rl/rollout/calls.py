"""What calls of tools are worth, found by going back: with the call, and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gymnasium
import numpy as np
import torch

from vla_rl.algorithms.calls import CallLearning, Pair
from vla_rl.models.policy import Policy
from vla_rl.rollout.branches import Met, can_go_back, every, meet, roll_out
from vla_rl.specs import LANE_SEEDS

LANES = 16
"""Rollouts that run together."""
TOGETHER = 8
"""States that are followed up at once."""


class FollowUp:
    """Follows up a share of a run's states, in environments of its own, and has `learning` learn from what it finds.

    makers: of an environment, one each of the run's; they take turns. gamma: of the returns. seed: of the run and its
        process; episodes begin with training seeds that it draws. The policy's trunk must be frozen, since features are
        kept.

    Attributes:
        able: whether the environments can go back; else nothing is ever followed up.
    """

    def __init__(
        self, learning: CallLearning, makers: Sequence[Callable[[], gymnasium.Env]], gamma: float, seed: tuple[int, int]
    ) -> None:
        self._learning, self._gamma = learning, gamma
        self._seed = seed
        self._lanes = [[make() for _ in range(LANES)] for make in makers]
        for lanes in self._lanes:
            for env in lanes:
                env.reset(seed=LANE_SEEDS[0])
        self.able = all(can_go_back(lanes[0]) for lanes in self._lanes)

    def __call__(self, decisions: int) -> dict[str, float]:
        """Follow up what is due after so many further decisions of the run; how many states, and steps, that took."""
        learning = self._learning
        learning.owed += learning.settings.share * decisions
        if not self.able or learning.owed < TOGETHER:
            return {}
        rng = np.random.default_rng([*self._seed, learning.followed])
        envs = self._lanes[learning.followed // TOGETHER % len(self._lanes)]
        learning.owed, learning.followed = learning.owed - TOGETHER, learning.followed + TOGETHER
        seeds = LANE_SEEDS.start + rng.integers(len(LANE_SEEDS), size=TOGETHER)
        pairs, steps = follow_up(envs, learning, seeds.tolist(), self._gamma)
        for pair in pairs:
            learning.add(pair)
        return {"calls/states": float(len(pairs)), "calls/steps": float(steps)}

    def close(self) -> None:
        """End the environments."""
        for env in (env for lanes in self._lanes for env in lanes):
            env.close()


def follow_up(
    envs: list[gymnasium.Env], learning: CallLearning, seeds: list[int], gamma: float
) -> tuple[list[Pair], int]:
    """A state of an episode of each seed, and what followed a call there and another decision, both the policy's; and
    how many steps the rollouts took. States whose rollouts an environment spoilt are left out."""
    policy, rollouts = learning.policy, learning.settings.rollouts
    met = [meet(env, policy, seed) for env, seed in zip(_around(envs, len(seeds)), seeds, strict=True)]
    chosen = [_proposed(learning, policy, state) for state in met]
    paid, spent = np.full((2, len(met), 2, rollouts), np.nan, np.float32)
    steps = 0
    for each in roll_out(envs, policy, met, chosen, every(chosen, rollouts), gamma):
        steps += each.steps
        if not each.spoilt:
            paid[each.job], spent[each.job] = each.paid, each.spent
    pairs = []
    for number, (state, tokens) in enumerate(zip(met, chosen, strict=True)):
        if np.isfinite(paid[number]).all():
            grounded = policy.ground(state.seen).to("cpu")
            pairs.append(Pair(grounded, tokens, paid[number].mean(1), spent[number].mean(1)))
    return pairs, steps


def _around(envs: list[gymnasium.Env], times: int) -> list[gymnasium.Env]:
    return [envs[i % len(envs)] for i in range(times)]


@torch.no_grad()
def _proposed(learning: CallLearning, policy: Policy, state: Met) -> np.ndarray:
    """A call and another decision of the policy, int64 [2, K]."""
    logits = policy.logits(policy.encode(state.seen))
    both = torch.cat([learning.proposed(logits, call, 1) for call in (True, False)], 1)
    return both[0].cpu().numpy()
