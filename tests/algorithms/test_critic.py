"""The critic against a naive evaluation of one member, one row and one decision at a time."""

import dataclasses
import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch.nn import functional

from vla_rl.actions import Binned
from vla_rl.algorithms.configs import Iql, PaRl, Recap
from vla_rl.algorithms.critic import Critic, slot_codes, waved
from vla_rl.algorithms.losses import categorical_loss, hl_gauss
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.models.features import Features
from vla_rl.models.pointers import SLOTS as SLOTS_OF_POINTERS
from vla_rl.models.policy import Policy
from vla_rl.models.samples import Sample
from vla_rl.runtime.learner import Learner
from vla_rl.specs import Slot

SLOTS = (Slot(5, "bin"), Slot(3, "choice"), Slot(12, "place", grid=(3, 4), camera="front"))


def features(rows: int, words: int = 4, width: int = 5) -> Features:
    """Random ones of two views, whose visual tokens lie on a grid of 2 x 2."""
    return Features(
        places=torch.rand(rows, 2 * SLOTS_OF_POINTERS, 2) * 2 - 1,
        extents=torch.rand(rows, 2 * SLOTS_OF_POINTERS, 2),
        confidence=torch.rand(rows, 2 * SLOTS_OF_POINTERS),
        state=torch.zeros(rows, 0),
        visual=torch.randn(rows, 2, 4, width),
        words=torch.randn(rows, words, 2 * width),
    )


def made(slots: tuple[Slot, ...], members: int = 3, width: int = 16) -> Critic:
    """A critic whose places point into the second of two views."""
    views = [1] * sum(slot.kind == "place" for slot in slots)
    return Critic(7, slots, views, hidden_size=5, grid=(2, 2), members=members, width=width)


def drawn(slots: tuple[Slot, ...], rows: int, count: int) -> torch.Tensor:
    return torch.stack([torch.randint(slot.choices, (rows, count)) for slot in slots], -1)


def test_decisions_that_share_a_state_get_what_they_get_alone() -> None:
    slots = (*SLOTS, Slot(4, "word"))
    critic, seen = made(slots), features(4)
    readout, tokens = torch.randn(4, 7), drawn(slots, 4, 6)
    together = critic(readout, tokens, seen)
    assert together.shape == (3, 4, 6, 51)
    for n in range(6):
        alone = critic(readout, tokens[:, n : n + 1], seen)
        assert torch.allclose(alone[:, :, 0], together[:, :, n], atol=1e-5)


def test_what_is_told_of_a_word_is_what_it_is_not_where_it_stands() -> None:
    slots = (Slot(3, "choice"), Slot(4, "word"))
    critic, seen = made(slots), features(2)
    readout, tokens = torch.randn(2, 7), drawn(slots, 2, 6)
    with torch.no_grad():
        for member in critic.action:
            member.weight.zero_()  # of the places in the text
    order = torch.tensor([2, 0, 3, 1])
    moved, other = tokens.clone(), dataclasses.replace(seen, words=seen.words[:, order])
    moved[..., 1] = torch.argsort(order)[tokens[..., 1]]
    torch.testing.assert_close(critic(readout, moved, other), critic(readout, tokens, seen))
    assert not torch.allclose(critic(readout, moved, seen), critic(readout, tokens, seen))


def test_what_is_told_of_a_place_is_what_it_shows_and_which_pointers_are_near() -> None:
    slots = (Slot(64, "place", grid=(8, 8), camera="front"),)
    critic, seen = made(slots), features(3)
    tokens = drawn(slots, 3, 5)
    told = critic._told("0", seen, tokens[..., 0], None)
    for row, n in itertools.product(range(3), range(5)):
        y, x = divmod(int(tokens[row, n, 0]), 8)
        at = torch.tensor([(x + 0.5) / 4 - 1, (y + 0.5) / 4 - 1])
        for slot in range(SLOTS_OF_POINTERS):
            own = SLOTS_OF_POINTERS + slot
            far = ((at - seen.places[row, own]) / (seen.extents[row, own] + 0.25)).square().sum()
            near = seen.confidence[row, own] * torch.exp(-far / 2)
            assert told[row, n, slot] == pytest.approx(float(near), abs=1e-5)
        token = seen.visual[row, 1, (y // 4) * 2 + x // 4]
        torch.testing.assert_close(told[row, n, SLOTS_OF_POINTERS:], functional.layer_norm(token, (5,)))


def test_members_do_not_share_weights_or_gradients() -> None:
    critic = made(SLOTS, members=2)
    readout, tokens = torch.randn(4, 7), torch.zeros(4, 1, 3, dtype=torch.long)
    critic(readout, tokens, features(4))[0].sum().backward()
    for parameter in critic.parameters():
        assert parameter.grad is not None
        assert parameter.grad[1].abs().sum() == 0


def test_where_the_head_reads_tokens_so_does_the_critic_and_not_the_padding() -> None:
    torch.manual_seed(0)
    critic = Critic(7, SLOTS[:1], hidden_size=5, width=16, reads_tokens=True)
    seen = features(3)
    seen.tokens, seen.mask = torch.randn(3, 6, 5), torch.arange(6) < torch.tensor([[4], [6], [1]])
    readout, tokens = torch.randn(3, 7), drawn(SLOTS[:1], 3, 2)
    said = critic(readout, tokens, seen)
    padded = replace(seen, tokens=torch.where(seen.mask.unsqueeze(-1), seen.tokens, 9.0))
    torch.testing.assert_close(critic(readout, tokens, padded), said)
    other = replace(seen, tokens=torch.randn(3, 6, 5))
    assert ((critic(readout, tokens, other) - said).abs().amax((0, 2, 3)) > 1e-3).all()
    said[0].sum().backward()
    assert all(p.grad is not None and p.grad[1].abs().sum() == 0 for p in critic.parameters())


@pytest.mark.parametrize("name", ["pa_rl", "iql", "recap"])
def test_a_critic_of_a_policy_that_reads_tokens_sees_pictures(name: str) -> None:
    head = HeadSettings(reads=("pointers", "tokens"), width=16, text_tokens=40)
    bins = Binned(5).bind(spaces.Box(-1, 1, (3,)))
    policy = Policy.build(PolicySettings(Sample("idefics3"), head), bins, ["front"], 3, seed=0)
    config: Any = {"pa_rl": PaRl, "iql": Iql, "recap": Recap}[name](critic_width=16)
    algorithm = config.build(policy=policy, learner=Learner("cpu"))
    shown = {"observation.images.front": torch.zeros(2, 32, 32, 3, dtype=torch.uint8)}
    seen = policy.ground({**shown, "observation.state": torch.zeros(2, 3), "task": ["go", "go"]})
    assert seen.tokens is not None
    other = replace(seen, tokens=torch.randn_like(seen.tokens))
    tokens = torch.zeros(2, 1, 3, dtype=torch.long)
    one, two = (algorithm.q(each, algorithm.judged(tokens)) for each in (seen, other))
    assert (one - two).abs().min() > 1e-5
    if name == "iql":
        assert not torch.equal(algorithm.value_of(seen), algorithm.value_of(other))


def test_values_are_means_of_the_histogram() -> None:
    critic = Critic(state_size=2, slots=SLOTS[:2], width=8, bins=51, value_range=(-0.1, 1.1))
    logits = torch.full((1, 51), -100.0)
    logits[0, 25] = 100.0
    assert critic.value(logits)[0] == pytest.approx(0.5, abs=1e-5)


def test_codes_tell_neighbours_from_strangers() -> None:
    codes = slot_codes(Slot(12, "place", grid=(3, 4)))
    assert len(codes.unique(dim=0)) == 12
    assert slot_codes(Slot(5, "bin"))[:, -1].tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1])


def test_waves_are_sines_and_cosines_of_each_number() -> None:
    readout = torch.tensor([[0.3, -2.0]])
    told = waved(readout, 2)[0].tolist()
    angles = [[z * math.pi / 2 * octave for z in (0.3, -2.0)] for octave in (1, 2)]
    expected = [0.3, -2.0, *(wave(z) for row in angles for wave in (math.sin, math.cos) for z in row)]
    assert told == pytest.approx(expected, abs=1e-6)
    assert waved(readout, 0).equal(readout)


def test_waves_tell_apart_what_differs_little() -> None:
    """A step within a tenth of the input's spread, learned in as many updates with waves and without."""

    def error(waves: int) -> float:
        torch.manual_seed(0)
        critic = Critic(state_size=1, slots=(Slot(2, "bin"),), width=32, members=1, waves=waves)
        optimizer = torch.optim.AdamW(critic.parameters(), 3e-3)
        for _ in range(150):
            state = torch.randn(128, 1)
            target = ((state[:, 0] * 10).floor() % 2).float()
            logits = critic(state, torch.zeros(128, 1, 1, dtype=torch.int64)).squeeze(2)
            loss = categorical_loss(logits, hl_gauss(target, critic.edges, 0.035), torch.ones(128))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        at = torch.linspace(-0.95, 0.95, 20)[:, None]
        value = critic.value(critic(at, torch.zeros(20, 1, 1, dtype=torch.int64))).detach()[0, :, 0]
        return float((value - (at[:, 0] * 10).floor() % 2).abs().mean())

    assert error(waves=5) < 0.5 * error(waves=0)


@pytest.mark.parametrize("wrong", [-1, 9])
def test_only_so_many_waves_make_sense(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"critic_waves: 0 to 8, got {wrong}"):
        PaRl(critic_waves=wrong)


def test_it_learns_a_value_that_hangs_on_state_and_action() -> None:
    torch.manual_seed(0)
    critic = Critic(state_size=1, slots=(Slot(5, "bin"),), width=32)
    optimizer = torch.optim.AdamW(critic.parameters(), 3e-3)
    for _ in range(200):
        state, token = torch.rand(128, 1) * 2 - 1, torch.randint(5, (128,))
        target = 1.0 - (state[:, 0] - (token / 2 - 1)).abs() / 2
        logits = critic(state, token[:, None, None]).squeeze(2)
        loss = categorical_loss(logits, hl_gauss(target, critic.edges, 0.035), torch.ones(128))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    value = critic.value(critic(torch.tensor([[0.5]]), torch.arange(5)[None, :, None])).detach().mean(0)[0]
    assert value.argmax() == 3
    assert value[3] == pytest.approx(1.0, abs=0.1)
