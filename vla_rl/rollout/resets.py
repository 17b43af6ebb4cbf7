"""Credit by counterfactual resets (arXiv 2605.25507): what follows a decision, held against what follows the policy's
own ones from the very same state.

At a few of the decisions that are taken while collecting, the environment's state is restored in environments of its
own: A(s, c) = mean return after (s, c) - mean return after s. The k-th rollouts of both share their random numbers, so
that they differ by what the decision led to and not by luck.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, Self

import gymnasium
import numpy as np

from vla_rl.algorithms.algorithm import Decision
from vla_rl.config import RunConfig
from vla_rl.envs import batched, earned
from vla_rl.envs.history import joined
from vla_rl.envs.snapshots import restore_to, snapshot_of
from vla_rl.envs.vector import VectorEnvs
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.rewards.credit import Resets
from vla_rl.rollout.branches import sampled
from vla_rl.specs import CREDIT, TRAINING_SEEDS


class ResetCredit:
    """Works out the credit of a share of decisions as they are taken.

    make: an environment as the run's are. What is drawn follows from `seed` and from how many rows were made before, so
    that a run that goes on draws the same.

    Raises:
        ConfigError: the environment cannot go back to a state.
    """

    def __init__(
        self, settings: Resets, make: Callable[[], gymnasium.Env], policy: Policy, gamma: float, seed: int
    ) -> None:
        self._settings, self._policy, self._gamma, self._seed = settings, policy, gamma, seed
        self._envs: list[gymnasium.Env] = [make() for _ in range(settings.rollouts)]
        for env in self._envs:
            env.reset(seed=TRAINING_SEEDS[0])  # Gymnasium's wrappers insist on it
        if snapshot_of(self._envs[0]) is None:
            self.close()
            raise ConfigError(
                "algorithm.credit: resets go back to states that were met, and this environment has no `snapshot` and "
                "`restore`, or lies in a wrapper that hides them; take {type: lambda} or {type: milestones}"
            )

    @classmethod
    def of(cls, run: RunConfig, makers: Collection[Callable[[], gymnasium.Env]], policy: Policy) -> Self | None:
        """What a run's config says, whose environments `makers` make; None where it says nothing of resets.

        Raises:
            ConfigError: it cannot go back to where such a run's environments and policy stand.
        """
        needs = run.algorithm.needs
        if needs.credit is None or not needs.credit.acted:
            return None
        wrong = {
            f"env: one, not {len(makers)}": len(makers) > 1,
            "train.groups: 1": run.train.groups > 1,
            "replay.stack: 1": run.replay.stack > 1,
            "policy.remembers: false": policy.settings.remembers,
        }
        needed = next((setting for setting, is_wrong in wrong.items() if is_wrong), None)
        if needed or needs.gamma is None:
            raise ConfigError(f"algorithm.credit: resets need {needed or 'algorithm.gamma: a number'}")
        return cls(needs.credit, next(iter(makers)), policy, needs.gamma, run.seed)

    def close(self) -> None:
        """End its environments."""
        for env in self._envs:
            env.close()

    def told(
        self, decision: Decision, observation: dict[str, Any], envs: VectorEnvs, lanes: slice, made: int
    ) -> Decision:
        """The decision, with the credit of those of its rows that are drawn. envs: whose `lanes` are about to take it.
        made: rows that were made before."""
        credit = np.zeros((len(decision.tokens), *CREDIT.shape), np.float32)
        drawn = np.random.default_rng([self._seed, made]).random(len(credit)) < self._settings.share
        snapshots = envs.snapshot()[lanes] if drawn.any() else []
        for row in np.flatnonzero(drawn).tolist():
            snapshot = snapshots[row]
            if snapshot is None or snapshot["over"]:
                continue
            seen = {key: values[row : row + 1] for key, values in observation.items()}
            credit[row] = self.advantage(snapshot["env"], seen, decision.tokens[row], (self._seed, made, row)), 1.0
        return dataclasses.replace(decision, extras=decision.extras | {CREDIT.name: credit})

    def advantage(
        self, snapshot: dict[str, Any], seen: dict[str, Any], tokens: np.ndarray, seed: tuple[int, ...]
    ) -> float:
        """A(s, c) of decision `tokens` int64 [K] in the state of a snapshot, where `seen` is the observation of it."""
        count = self._settings.rollouts
        own = sampled(self._policy, joined([seen] * count), _streams(seed, count, 0))[0]
        taken, usual = (
            self._returns(snapshot, first, _streams(seed, count, 1)) for first in (np.tile(tokens, (count, 1)), own)
        )
        return float(taken.mean() - usual.mean())

    def _returns(self, snapshot: dict[str, Any], first: np.ndarray, rngs: list[np.random.Generator]) -> np.ndarray:
        """The discounted returns of rollouts that begin with decisions `first` int64 [R, K], float64 [R]."""
        paid, going, decisions, discount = np.zeros(len(first)), list(range(len(first))), first, 1.0
        for env in self._envs:
            restore_to(env, snapshot)
        while going:
            shown, left = [], []
            for number, decision in zip(going, decisions, strict=True):
                observation, reward, terminated, truncated, info = self._envs[number].step(decision)
                paid[number] += discount * earned(reward, info)
                if not (terminated or truncated):
                    shown.append(observation)
                    left.append(number)
            going, discount = left, self._gamma * discount
            if going:
                seen = joined([batched(each) for each in shown])
                decisions = sampled(self._policy, seen, [rngs[number] for number in going])[0]
        return paid


def _streams(seed: tuple[int, ...], count: int, what: int) -> list[np.random.Generator]:
    return [np.random.default_rng([*seed, number, what]) for number in range(count)]
