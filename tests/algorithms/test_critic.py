"""The critic against a naive evaluation of one member, one row and one decision at a time."""

import pytest
import torch

from vla_rl.algorithms.critic import Critic, slot_codes
from vla_rl.specs import Slot

SLOTS = (Slot(5, "bin"), Slot(3, "choice"), Slot(12, "place", grid=(3, 4), camera="front"))


def test_decisions_that_share_a_state_get_what_they_get_alone() -> None:
    critic = Critic(state_size=7, slots=SLOTS, members=3, width=16)
    readout, tokens = torch.randn(4, 7), torch.stack([torch.randint(slot.choices, (4, 6)) for slot in SLOTS], -1)
    together = critic(readout, tokens)
    assert together.shape == (3, 4, 6, 51)
    for n in range(6):
        alone = critic(readout, tokens[:, n : n + 1])
        assert torch.allclose(alone[:, :, 0], together[:, :, n], atol=1e-5)


def test_what_is_told_of_a_word_is_what_it_is_not_where_it_stands() -> None:
    slots = (Slot(3, "choice"), Slot(4, "word"))
    critic = Critic(state_size=7, slots=slots, word_size=5, members=3, width=16)
    readout, words = torch.randn(2, 7), torch.randn(2, 4, 5)
    tokens = torch.stack([torch.randint(slot.choices, (2, 6)) for slot in slots], -1)
    together = critic(readout, tokens, words)
    for n in range(6):
        torch.testing.assert_close(critic(readout, tokens[:, n : n + 1], words)[:, :, 0], together[:, :, n])
    with torch.no_grad():
        for member in critic.action:
            member.weight.zero_()  # of the places in the text
    order = torch.tensor([2, 0, 3, 1])
    moved = tokens.clone()
    moved[..., 1] = torch.argsort(order)[tokens[..., 1]]
    torch.testing.assert_close(critic(readout, moved, words[:, order]), critic(readout, tokens, words))
    assert not torch.allclose(critic(readout, moved, words), critic(readout, tokens, words))


def test_members_do_not_share_weights_or_gradients() -> None:
    critic = Critic(state_size=7, slots=SLOTS, members=2, width=16)
    readout, tokens = torch.randn(4, 7), torch.zeros(4, 1, 3, dtype=torch.long)
    critic(readout, tokens)[0].sum().backward()
    for parameter in critic.parameters():
        assert parameter.grad is not None
        assert parameter.grad[1].abs().sum() == 0


def test_values_are_means_of_the_histogram() -> None:
    critic = Critic(state_size=2, slots=SLOTS, width=8, bins=51, value_range=(-0.1, 1.1))
    logits = torch.full((1, 51), -100.0)
    logits[0, 25] = 100.0
    assert critic.value(logits)[0] == pytest.approx(0.5, abs=1e-5)


def test_codes_tell_neighbours_from_strangers() -> None:
    codes = slot_codes(Slot(12, "place", grid=(3, 4)))
    assert len(codes.unique(dim=0)) == 12
    assert slot_codes(Slot(5, "bin"))[:, -1].tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1])


def test_it_learns_a_value_that_hangs_on_state_and_action() -> None:
    torch.manual_seed(0)
    critic = Critic(state_size=1, slots=(Slot(5, "bin"),), width=32)
    optimizer = torch.optim.AdamW(critic.parameters(), 3e-3)
    from vla_rl.algorithms.losses import categorical_loss, hl_gauss

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
