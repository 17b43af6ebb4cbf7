"""A batch on the device: what is shown twice is encoded once, and the loop waits for nothing on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_pa_rl import SETTINGS, bandit, make
from torch.utils._python_dispatch import TorchDispatchMode

from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.policy import Policy
from vla_rl.replay import Batch
from vla_rl.specs import STATE, TASK

FRONT = "observation.images.front"
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")
"""Operators for whose outcome the processor waits."""


def overlapping(batch: Batch) -> Batch:
    """Next observations that are the observations of the rows after, as in an episode; every third shows the same."""
    rows = len(batch)
    batch.observation[FRONT][::3] = batch.observation[FRONT][0]
    batch.observation[TASK] = ["reach it" if i % 2 else "go" for i in range(rows)]
    after = (np.arange(rows) + 1) % rows
    shown = np.stack([np.where(np.arange(rows) % 3, np.arange(rows), 0), np.arange(rows) % 2], 1)
    batch.next_observation = {
        FRONT: batch.observation[FRONT][after],
        STATE: 1 - batch.observation[STATE],
        TASK: [batch.observation[TASK][i] for i in after],
    }
    batch.shown = np.stack([shown, shown[after]], 1)
    return batch


@pytest.mark.parametrize("train", ["head", "lora"])
def test_encoding_what_is_shown_once_is_encoding_every_row(random_backbone: Path, train: str) -> None:
    algorithm = make(random_backbone, train=train)
    policy, device = algorithm.policy, algorithm.learner.device
    batch = overlapping(bandit(algorithm, 12, seed=0, images=True))
    encoded = []
    ground = policy.ground
    policy.ground = lambda seen: (encoded.append(len(seen[TASK])), ground(seen))[1]  # type: ignore[method-assign]
    once = LearnerBatch.of(batch, policy, device)
    assert encoded == [10]
    batch.shown = None
    each = LearnerBatch.of(batch, policy, device)
    assert encoded == [10, 12, 12]
    assert once.next_grounded is not None
    assert each.next_grounded is not None
    for name in ("places", "extents", "confidence", "state"):
        for a, b in ((once.grounded, each.grounded), (once.next_grounded, each.next_grounded)):
            assert torch.allclose(getattr(a, name), getattr(b, name), atol=1e-5), name
    alone = LearnerBatch.of(batch, policy, device, following=False)
    assert alone.next_grounded is None
    assert len(alone.subsample(5)) == 5


class Waits(TorchDispatchMode):
    """Notes every operator that an accelerator would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split("::")[-1].split(".")[0]
        masks = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in WAITS or masks:
            self.found.add(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mc_weight", [0.5, 1.0])
def test_an_update_waits_for_nothing(random_backbone: Path, mc_weight: float, monkeypatch) -> None:
    algorithm = make(random_backbone, PaRl(**{**vars(SETTINGS), "mc_weight": mc_weight}))
    batch = bandit(algorithm, 64, seed=0)
    algorithm.update(batch)
    # On a processor every step looks whether it was skipped; elsewhere one in many does.
    monkeypatch.setattr(algorithm.learner, "_count", lambda bad, loss: None)
    with Waits() as waits:
        assert "actor/improvement" in algorithm.update(batch)
    assert not waits.found


@pytest.mark.parametrize("train", ["head", "lora", "all"])
def test_a_digest_tells_frozen_trunks_apart_and_outlives_training_and_saving(
    random_backbone: Path, train: str, tmp_path: Path
) -> None:
    algorithm = make(random_backbone, train=train)
    policy = algorithm.policy
    digest = policy.digest()
    assert digest == make(random_backbone).policy.digest()
    batch = bandit(algorithm, 64, seed=0, images=True)
    for _ in range(2):
        algorithm.update(batch)
    assert policy.digest() == digest
    policy.save_pretrained(tmp_path)
    assert Policy.from_pretrained(tmp_path).digest() == digest
    trunk = policy.trunk if policy.frozen is None else policy.frozen
    with torch.no_grad():
        trunk.pointers.query.bias[0] += 1e-3
    assert policy.digest() != digest
