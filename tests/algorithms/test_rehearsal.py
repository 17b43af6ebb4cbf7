"""What holds a trunk that reward teaches to what it could before."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.models.families import Random, observation
from vla_rl.actions import Binned
from vla_rl.algorithms.rehearsal import Rehearsal
from vla_rl.config.policy import HeadSettings, LoraSettings, PolicySettings, Trainable
from vla_rl.models.policy import Policy
from vla_rl.runtime.learner import Learner

ROWS = 8


def started(train: Trainable = "all") -> tuple[Policy, Learner, Rehearsal]:
    space = Binned(5).bind(spaces.Box(-1, 1, (3,)))
    settings = PolicySettings(Random(), HeadSettings(width=32), train=train, lora=LoraSettings(rank=2, alpha=4))
    learner = Learner(device="cpu", seed=1)
    policy = learner.prepare(Policy.build(settings, space, ["front"], 3, seed=0))
    pictures = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    return policy, learner, Rehearsal(policy, (pictures, ["reach the red cube"] * 12 + ["find the button"] * 12), ROWS)


def learn(policy: Policy, loss: Callable[[], torch.Tensor], steps: int = 30) -> None:
    optimizer = torch.optim.Adam([p for p in policy.trunk.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def forgotten(rehearsal: Rehearsal, learner: Learner) -> float:
    return float(np.mean([rehearsal.loss(learner).item() for _ in range(5)]))


@pytest.mark.parametrize("train", ["lora", "all"])
def test_nothing_is_forgotten_at_first_and_what_is_comes_back(train: Trainable) -> None:
    torch.manual_seed(0)
    policy, learner, rehearsal = started(train)
    assert forgotten(rehearsal, learner) == pytest.approx(0.0, abs=1e-5)
    with torch.no_grad():
        for parameter in policy.trunk.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    before = forgotten(rehearsal, learner)
    assert before > 1e-4
    learn(policy, lambda: rehearsal.loss(learner), 60)
    assert forgotten(rehearsal, learner) < 0.6 * before


def test_it_is_the_start_that_a_resumed_run_is_held_to() -> None:
    policy, learner, rehearsal = started()
    seen = observation(4)
    learn(policy, lambda: -policy.encode(seen).places.sum())
    resumed = Rehearsal(policy, (rehearsal.pictures.numpy(), rehearsal.texts), ROWS)
    assert forgotten(resumed, learner) == pytest.approx(0.0, abs=1e-5)
    resumed.load_state_dict(rehearsal.state_dict())
    assert torch.equal(resumed.taught.places, rehearsal.taught.places)
    assert forgotten(resumed, learner) > 1e-4
