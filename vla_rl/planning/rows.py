"""Observations and batches of a run's shapes, whatever they show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rl import build, envs
from vla_rl.config import RunConfig
from vla_rl.data import normalise
from vla_rl.envs import EnvSpec
from vla_rl.models.policy import Policy
from vla_rl.replay import Batch
from vla_rl.specs import REMEMBERED, STATE, TASK, TRAINING_SEEDS


@dataclass(frozen=True)
class Rows:
    """What a run sees and learns from.

    words: an instruction. picture: gives pictures of a shape.
    """

    run: RunConfig
    spec: EnvSpec
    words: str
    picture: Callable[[tuple[int, ...]], Any]

    def seen(self, policy: Policy, rows: int) -> dict[str, Any]:
        """A batched observation."""
        lead = (rows,) if policy.settings.stack == 1 else (rows, policy.settings.stack)
        found = {key: self.picture((*lead, *size)) for key, size in self.spec.observation.images.items()}
        found |= {TASK: [self.words] * rows, STATE: np.zeros((rows, self.spec.observation.state), np.float32)}
        if policy.remembered_shape is not None:
            found[REMEMBERED] = np.zeros((rows, *policy.remembered_shape), np.float32)
        return found

    def batch(self, policy: Policy, rows: int, following: bool, cached: bool) -> Batch:
        """A batch as replay gives it, no two rows of which show the same."""
        tokens = np.zeros((rows, len(self.spec.tokens.slots)), np.int64)
        columns = policy.cached_features() if cached else {}
        features = {name: np.zeros((rows, *shape), kind) for name, (shape, kind) in columns.items()}
        some, signals = np.zeros(rows, np.float32), build.signals(self.run)
        return Batch(
            observation=self.seen(policy, rows),
            next_observation=self.seen(policy, rows) if following else {},
            tokens=tokens,
            labels=tokens,
            reward=some,
            discount=some,
            returns=some,
            features=features,
            next_features=features if following else {},
            demo=np.ones(rows, bool),
            weight=some,
            index=np.arange(rows),
            shown=np.arange(rows * (1 + following)).reshape(rows, -1, 1),
            extra={each.name: np.zeros((rows, *each.shape), each.dtype) for each in signals},
            extra_returns={each.name: some for each in signals if each.summed},
        )


def instruction(run: RunConfig) -> str:
    """One that the run's first environment gives."""
    env = envs.factory(run)()
    try:
        return str(env.reset(seed=TRAINING_SEEDS.start)[0][TASK])
    finally:
        env.close()


def seen_together(run: RunConfig) -> int:
    """Observations that are seen at a time, at most: in acting, in evaluation, and of demonstrations."""
    acting = -(-run.train.num_envs // run.train.groups)
    return max(acting, run.eval.num_envs, normalise.ROWS if run.demos.episodes else 1)


def nbytes(batch: Batch) -> int:
    """Bytes of what is seen in a batch, and of its features."""
    parts = (batch.observation, batch.next_observation, batch.features, batch.next_features)
    return sum(value.nbytes for part in parts for value in part.values() if hasattr(value, "nbytes"))


def next_trains_all(algorithm: Any) -> None:
    """Have an algorithm's next update be one of the actor, too, where it has them, long after the warm-up."""
    if hasattr(algorithm, "updates"):
        settings = algorithm.settings
        every = getattr(settings, "critic_updates", 1)
        algorithm.updates = (getattr(settings, "warmup_updates", 0) // every + 2) * every - 1
