"""DrQ-v2 and RLPD: their targets and augmentation as written out naively, and that they learn from pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from scripts.agents.course import NUMBERS, PIXELS
from scripts.agents.experience import Batch
from scripts.agents.pixels import DRQV2, RLPD, Agent, Settings, random_shift

SIDE = 12
SMALL = {"channels": (8,), "strides": (2,), "hidden": (32,), "latent": 16}


def seen(count: int) -> dict[str, Tensor]:
    pictures = torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8)
    return {PIXELS: pictures, NUMBERS: torch.rand(count, 4)}


def batch(count: int) -> Batch:
    reward, discount = torch.rand(count), torch.rand(count)
    return Batch(seen(count), torch.rand(count, 2), reward, discount, seen(count))


def agent(settings: Settings) -> Agent:
    torch.manual_seed(0)
    return Agent((3, SIDE, SIDE), 4, 2, settings)


def test_pictures_move_as_a_whole_and_borders_repeat() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(40, 2, 5, 6)
    moved = random_shift(pictures, 2)
    padded = np.pad(pictures.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    places = set()
    for before, after in zip(padded, moved.numpy(), strict=True):
        fits = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if np.array_equal(before[:, down : down + 5, right : right + 6], after)
        ]
        assert len(fits) == 1
        places |= set(fits)
    assert len(places) > 10
    assert torch.equal(random_shift(pictures, 0), pictures)


def test_the_target_of_drqv2_is_the_least_of_both_critics_at_a_noisy_action() -> None:
    drqv2 = agent(replace(DRQV2, **SMALL, shift=0, noise=(0.0, 0.0)))
    given = batch(7)
    found = drqv2.targets(given, 0)
    pictures, numbers = given.following[PIXELS].float(), given.following[NUMBERS]
    features = drqv2.encoder(pictures, numbers)
    action = torch.tanh(drqv2.actor(features, numbers)[0])
    one, other = drqv2.target(features, numbers, action)
    assert torch.allclose(found, given.reward + given.discount * torch.minimum(one, other), atol=1e-5)


def test_the_target_of_rlpd_counts_those_that_are_drawn_and_no_entropy() -> None:
    rlpd = agent(replace(RLPD, **SMALL, shift=0))
    given = batch(6)
    torch.manual_seed(3)
    found = rlpd.targets(given, 0)
    torch.manual_seed(3)
    pictures, numbers = given.following[PIXELS].float(), given.following[NUMBERS]
    action, _ = rlpd._sample(rlpd.encoder(pictures, numbers), numbers, 0)
    values = rlpd.target(rlpd.target_encoder(pictures, numbers), numbers, action)
    assert values.shape == (10, 6)
    which = torch.randperm(10)[:1]
    assert torch.allclose(found, given.reward + given.discount * values[which[0]], atol=1e-5)


def test_the_log_probability_is_that_of_a_squashed_gaussian() -> None:
    rlpd = agent(replace(RLPD, **SMALL))
    given = seen(5)
    features = rlpd.encoder(given[PIXELS].float(), given[NUMBERS])
    action, log_prob = rlpd._sample(features, given[NUMBERS], 0)
    mean, log_std = rlpd.actor(features, given[NUMBERS])
    assert log_std is not None
    squashed = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    assert torch.allclose(log_prob, squashed.log_prob(action).sum(dim=1), atol=1e-3)


def test_critics_alone_teach_the_encoder() -> None:
    drqv2 = agent(replace(DRQV2, **SMALL))
    before = [parameter.clone() for parameter in drqv2.critics.parameters()]
    eyes = [parameter.clone() for parameter in drqv2.encoder.parameters()]
    features = drqv2.encoder(seen(4)[PIXELS].float(), torch.rand(4, 4)).detach()
    drqv2._update_actor(features, torch.rand(4, 4), 0)
    assert all(torch.equal(*pair) for pair in zip(before, drqv2.critics.parameters(), strict=True))
    assert all(torch.equal(*pair) for pair in zip(eyes, drqv2.encoder.parameters(), strict=True))
    drqv2.update(batch(4), 0)
    assert not any(torch.equal(*pair) for pair in zip(eyes, drqv2.encoder.parameters(), strict=True))


def bright(places: Tensor) -> dict[str, Tensor]:
    """Pictures with a bright column at places in [-1, 1]."""
    columns = ((places + 1) / 2 * (SIDE - 1)).round().long()
    pictures = torch.zeros(len(places), 3, SIDE, SIDE, dtype=torch.uint8)
    pictures[torch.arange(len(places)), :, :, columns] = 255
    return {PIXELS: pictures, NUMBERS: torch.zeros(len(places), 4)}


@pytest.mark.parametrize("name", ["drqv2", "rlpd", "film"])
def test_it_learns_to_point_at_a_bright_column(name: str) -> None:
    """One step an episode: the nearer the first entry of an action is to the column, the more it earns."""
    base = DRQV2 if name == "drqv2" else RLPD
    settings = replace(base, **SMALL, shift=0, lr=3e-3, critics=2, drawn=1, temperature=0.02, film=name == "film")
    learner = agent(replace(settings, noise=(0.3, 0.3)))
    for _ in range(400):
        places = torch.rand(64) * 2 - 1
        actions = torch.rand(64, 2) * 2 - 1
        reward = 1 - (actions[:, 0] - places).abs()
        learner.update(Batch(bright(places), actions, reward, torch.zeros(64), bright(places)), 0)
    places = torch.linspace(-0.8, 0.8, 9)
    off = (learner.act(bright(places), greedy=True)[:, 0] - places).abs().mean()
    assert off < 0.25, off  # who does not look is off by 0.44
