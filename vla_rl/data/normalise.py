"""What a fresh policy takes from demonstrations before it learns: how everything that it reads spreads there."""

from __future__ import annotations

from dataclasses import replace

from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.replay import ReplayBuffer

ROWS = 64
"""Read together."""


def normalise(policy: Policy, demos: ReplayBuffer) -> None:
    """Have a policy normalise what it reads as the decisions of a replay of demonstrations spread; nothing, of none.

    Features that the replay caches are not computed again.
    """
    ids, parts = demos.sampleable_ids(), list[Features]()
    for begin in range(0, len(ids), ROWS):
        batch = demos.transitions(ids[begin : begin + ROWS], images=not demos.caches, following=False)
        seen = LearnerBatch.of(batch, policy, policy.device, following=False).grounded
        parts.append(replace(seen, tokens=None, mask=None, visual=None, cells=None))  # large, and not normalised
    if parts:
        policy.set_normalization(Features.concatenate(parts))
