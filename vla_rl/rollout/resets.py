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
from vla_rl.envs.history import joined
from vla_rl.envs.vector import VectorEnvs
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.rewards.credit import Resets
from vla_rl.rollout.branches import Met, can_go_back, roll_out, sampled
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
        if not can_go_back(self._envs[0]):
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
            noted = None if decision.remembered is None else decision.remembered[row : row + 1]
            here = Met(snapshot["env"], seen, noted)
            found = self.advantage(here, decision.tokens[row], (self._seed, made, row))
            if found is not None:
                credit[row] = found, 1.0
        return dataclasses.replace(decision, extras=decision.extras | {CREDIT.name: credit})

    def advantage(self, met: Met, tokens: np.ndarray, seed: tuple[int, ...]) -> float | None:
        """A(s, c) of decision `tokens` int64 [K] in a state; None where the environment spoilt all that tells it."""
        count = self._settings.rollouts
        streams = [np.random.default_rng([*seed, 1, number]) for number in range(count)]
        own, _ = sampled(self._policy, joined([met.seen] * count), streams)
        pairs = [(0, decision, number) for number in range(count) for decision in (0, 1 + number)]
        chosen = [np.concatenate([tokens[None], own])]
        paid = np.full((1 + count, count), np.nan)
        for each in roll_out(self._envs, self._policy, [met], chosen, pairs, self._gamma, seed):
            if not each.spoilt:
                _, decision, number = each.job
                paid[decision, number] = each.paid
        better = paid[0] - np.diagonal(paid[1:])
        known = better[~np.isnan(better)]
        return float(known.mean()) if len(known) else None
