"""What follows decisions: each is carried out from the same snapshot of an environment, and then the policy acts on.

The k-th rollouts of all decisions of a state share their random numbers (common random numbers), so that decisions
differ by what they lead to and not by luck.

Shapes: B rows, A decisions of a state, K slots.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from vla_rl.envs import batched, earned, spent, spoilt
from vla_rl.envs.history import History, joined
from vla_rl.envs.snapshots import restore_to, snapshot_of
from vla_rl.models.policy import Policy

Job = tuple[int, int, int]
"""Which (state, decision, rollout)."""


@dataclass(frozen=True)
class Met:
    """A state of an episode: its snapshot, what is seen there, and what the policy remembers once it has seen it."""

    snapshot: dict[str, Any]
    seen: dict[str, Any]
    noted: np.ndarray | None


@dataclass(frozen=True)
class Outcome:
    """What followed a decision. paid: the discounted return. spent: the discounted cost. steps: decisions to the
    episode's end, this one included. spoilt: whether the environment spoilt it, so that it tells nothing."""

    job: Job
    paid: float
    spent: float
    steps: int
    spoilt: bool


def can_go_back(env: gymnasium.Env) -> bool:
    """Whether an environment can tell where it stands; it must have begun an episode."""
    return snapshot_of(env) is not None


def meet(env: gymnasium.Env, policy: Policy, seed: int) -> Met:
    """A state of the policy's episode of this seed, any of them as likely."""
    rng, history = np.random.default_rng(seed), History(1)
    observation, _ = env.reset(seed=seed)
    kept: Met | None = None
    for step in range(1_000_000):
        seen = history.push(batched(observation), np.array([step == 0]))
        here = rng.random() < 1 / (step + 1)
        snapshot = (snapshot_of(env) or {}) if here else {}
        tokens, noted = sampled(policy, seen, [rng])
        history.remember(noted)
        kept = Met(snapshot, seen, noted) if here else kept
        observation, _, terminated, truncated, _ = env.step(tokens[0])
        if terminated or truncated:
            break
    assert kept is not None
    return kept


def every(chosen: Sequence[np.ndarray], rollouts: int) -> Iterator[Job]:
    """So many rollouts of each of the `chosen` decisions [A, K] of each state."""
    return ((s, a, r) for s, tokens in enumerate(chosen) for a in range(len(tokens)) for r in range(rollouts))


def roll_out(
    envs: Sequence[gymnasium.Env],
    policy: Policy,
    met: Sequence[Met],
    chosen: Sequence[np.ndarray],
    jobs: Iterable[Job],
    gamma: float,
    seed: Sequence[int] = (),
) -> Iterator[Outcome]:
    """What follows some of the `chosen` decisions int64 [A, K] of each state: they are carried out, and then the policy
    samples, by random numbers that follow from `seed`, the state and the number of the rollout.

    The environments must have begun an episode.
    """
    waits, running = iter(jobs), dict[int, _Rollout]()
    while True:
        for lane, env in enumerate(envs):
            if lane not in running and (job := next(waits, None)) is not None:
                restore_to(env, met[job[0]].snapshot)
                rng = np.random.default_rng([*seed, job[0], job[2]])
                running[lane] = _Rollout(job, rng, chosen[job[0]][job[1]])
                running[lane].history.remember(met[job[0]].noted)
        if not running:
            return
        waiting = [each for each in running.values() if each.decision is None]
        if waiting:
            tokens, noted = sampled(policy, joined([each.seen for each in waiting]), [each.rng for each in waiting])
            for row, each in enumerate(waiting):
                each.decision = tokens[row]
                each.history.remember(None if noted is None else noted[row : row + 1])
        for lane, each in list(running.items()):
            observation, reward, terminated, truncated, info = envs[lane].step(each.decision)
            each.take(batched(observation), earned(reward, info), spent(info), gamma)
            if terminated or truncated:
                yield Outcome(each.job, each.paid, each.spent, each.steps, spoilt(info))
                del running[lane]


@dataclass
class _Rollout:
    """One under way. decision: the next one, where that is known. paid, spent: discounted, so far."""

    job: Job
    rng: np.random.Generator
    decision: np.ndarray | None
    history: History = dataclasses.field(default_factory=lambda: History(1))
    seen: dict[str, Any] = dataclasses.field(default_factory=dict)
    paid: float = 0.0
    spent: float = 0.0
    steps: int = 0

    def take(self, observation: dict[str, Any], reward: float, cost: float, gamma: float) -> None:
        """Take in what came of the decision."""
        self.seen = self.history.push(observation, np.array([False]))
        discount, self.decision = gamma**self.steps, None
        self.paid, self.spent = self.paid + discount * reward, self.spent + discount * cost
        self.steps += 1


@torch.no_grad()
def sampled(
    policy: Policy, seen: dict[str, Any], rngs: Sequence[np.random.Generator]
) -> tuple[np.ndarray, np.ndarray | None]:
    """A decision of the policy a row, int64 [B, K], by each row's own random numbers; and what is remembered then."""
    noise = np.stack([rng.random((1, len(policy.slots))) for rng in rngs])
    features = policy.encode(seen)
    drawn = torch.from_numpy(noise).float().clamp(1e-6, 1 - 1e-6).to(policy.device)
    return policy.sample(features, 1, drawn)[:, 0].cpu().numpy(), features.noted
