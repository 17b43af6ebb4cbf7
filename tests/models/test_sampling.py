"""Decisions under a grammar: never a forbidden token, probabilities that add up, exact entropies."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces

from vla_rl.actions import Binned, Choice, Chunk, Command, Commands, Compose, Pointer, Variant, allowed
from vla_rl.models import sampling

GRAMMAR = Variant([Binned(3), Choice()]).bind(spaces.OneOf([spaces.Box(-1, 1, (2,)), spaces.Discrete(4)]))
FREE = Binned((2, 3, 4)).bind(spaces.Box(-1, 1, (3,)))
SPACES = {
    "grammar": GRAMMAR,
    "free": FREE,
    "chunk": Chunk(Binned(3), 2).bind(spaces.Box(-1, 1, (1,))),
    "compose": Compose([Binned(2), Choice()]).bind(spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Discrete(3)])),
}


def random_logits(space, rows=2, scale=1.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(rows, slot.choices, generator=generator) for slot in space.slots]


def noise(space, rows, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, n, len(space.slots), generator=generator).clamp_(1e-6, 1 - 1e-6)


def every_sequence(space):
    return torch.tensor(list(itertools.product(*(range(slot.choices) for slot in space.slots))))


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


def test_samples_obey_the_masks(space):
    tokens = sampling.sample(space, random_logits(space), noise(space, 2, 200))
    assert all(allowed(space, decision) for decision in tokens.flatten(0, 1).numpy())
    decoded = [space.decode(decision) for decision in tokens[0, :5].numpy()]
    assert len(decoded) == 5


def test_probabilities_of_all_sequences_add_to_one(space):
    every = every_sequence(space)
    log_prob = sampling.log_prob(space, random_logits(space), every.expand(2, -1, -1))
    assert torch.allclose(log_prob.exp().sum(1), torch.ones(2), atol=1e-5)
    forbidden = [not allowed(space, decision) for decision in every.numpy()]
    assert log_prob[:, forbidden].exp().sum() == 0


def test_samples_follow_their_probabilities(space):
    logits = random_logits(space)
    tokens = sampling.sample(space, logits, noise(space, 2, 20_000))
    every = every_sequence(space)
    wanted = sampling.log_prob(space, logits, every.expand(2, -1, -1)).exp()
    strides = torch.tensor([int(np.prod([s.choices for s in space.slots[k + 1 :]])) for k in range(len(space.slots))])
    for row in range(2):
        counts = torch.bincount((tokens[row] * strides).sum(-1), minlength=len(every)) / 20_000
        assert (counts - wanted[row]).abs().max() < 0.02


@pytest.mark.parametrize("edge", [1e-6, 1 - 1e-6])
def test_what_cannot_be_is_never_drawn_at_the_edges_of_the_noise(edge):
    logits = [torch.where(torch.arange(slot.choices) == 1, 0.0, -2000.0).expand(2, -1) for slot in FREE.slots]
    drawn = sampling.sample(FREE, logits, torch.full((2, 3, len(FREE.slots)), edge))
    assert (drawn == 1).all()


def test_the_same_noise_gives_the_same_decisions_however_the_rows_are_cut(space):
    logits, drawn = random_logits(space, 4), noise(space, 4, 3)
    joint = sampling.sample(space, logits, drawn)
    halves = [sampling.sample(space, [each[i : i + 2] for each in logits], drawn[i : i + 2]) for i in (0, 2)]
    assert torch.equal(joint, torch.cat(halves))


def test_greedy_takes_the_best_allowed_token_of_each_slot(space):
    logits = random_logits(space, 6)
    tokens = sampling.greedy(space, logits)
    for row in range(6):
        chosen: list[int] = []
        for k, _slot in enumerate(space.slots):
            mask = space.mask(np.asarray([chosen], np.int64).reshape(1, k))
            values = logits[k][row].clone()
            if mask is not None:
                values[~torch.from_numpy(mask[0])] = -torch.inf
            chosen.append(int(values.argmax()))
        assert tokens[row].tolist() == chosen


def test_the_divergence_as_a_loss_counts_the_prefixes_that_it_changes(space):
    logits, others = random_logits(space), random_logits(space, seed=1)
    every = every_sequence(space).expand(2, -1, -1)
    gradients = []
    for exact in (True, False):
        leaves = [each.clone().requires_grad_() for each in logits]
        if exact:
            p, q = (sampling.log_prob(space, each, every) for each in (leaves, others))
            kl = (p.exp() * (p - q)).sum(1)
        else:
            kl = sampling.divergence(space, leaves, others, sampling.sample(space, logits, noise(space, 2, 50_000)))
        kl.sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for wanted, found in zip(*gradients, strict=True):
        assert torch.allclose(found, wanted, atol=0.02)


def test_entropy_and_divergence_match_enumeration(space):
    logits, others = random_logits(space), random_logits(space, seed=1)
    every = every_sequence(space).expand(2, -1, -1)
    p, q = (sampling.log_prob(space, each, every) for each in (logits, others))
    samples = sampling.sample(space, logits, noise(space, 2, 20_000))
    entropy = sampling.entropy(space, logits, samples)
    kl = sampling.divergence(space, logits, others, samples)
    assert sampling.has_grammar(space) == (space is GRAMMAR)
    tolerance = 0.05 if space is GRAMMAR else 1e-4
    if space is not GRAMMAR:
        assert torch.equal(sampling.entropy(space, logits, None), entropy)
    assert torch.allclose(entropy, -(p.exp() * p).sum(1), atol=tolerance)
    assert torch.allclose(kl, (p.exp() * (p - q)).sum(1), atol=tolerance)


def test_gradient_through_a_grammar_is_finite():
    logits = [each.requires_grad_() for each in random_logits(GRAMMAR)]
    tokens = sampling.sample(GRAMMAR, logits, noise(GRAMMAR, 2, 8))
    sampling.log_prob(GRAMMAR, logits, tokens).sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in logits)


def test_smoothed_labels_spread_over_neighbours_and_stay_within_the_grammar(space):
    logits = random_logits(space)
    labels = sampling.greedy(space, random_logits(space, seed=3))
    sharp = sampling.cross_entropy(space, logits, labels)
    assert torch.allclose(sharp, -sampling.log_prob(space, logits, labels.unsqueeze(1)).squeeze(1))
    assert torch.allclose(sampling.cross_entropy(space, logits, labels, 0.05), sharp, atol=1e-4)
    smooth = sampling.cross_entropy(space, logits, labels, 0.7)
    assert (smooth < 50).all()  # no weight on what the grammar forbids
    # The best logits under a smoothed label still prefer the label.
    free = [torch.zeros(2, slot.choices, requires_grad=True) for slot in space.slots]
    sampling.cross_entropy(space, free, labels, 0.7).sum().backward()
    for k, each in enumerate(free):
        assert torch.equal((-each.grad).argmax(-1), labels[:, k])


def test_smoothing_a_place_spreads_over_the_grid_and_leaves_choices_sharp():
    place = Pointer("front", (3, 4)).bind(spaces.Box(-1, 1, (2,)))
    logits = [torch.zeros(1, 12, requires_grad=True)]
    sampling.cross_entropy(place, logits, torch.tensor([[5]]), 0.7).sum().backward()
    pull = -logits[0].grad.view(3, 4)
    assert pull[1, 1] > pull[1, 0] == pull[1, 2] == pull[0, 1] == pull[2, 1] > pull[0, 0] > pull[1, 3]
    choice = Choice().bind(spaces.Discrete(4))
    logits = random_logits(choice)
    labels = torch.tensor([[1], [3]])
    assert torch.allclose(
        sampling.cross_entropy(choice, logits, labels, 2.0), sampling.cross_entropy(choice, logits, labels)
    )


def commands():
    """A grammar of few masks in one slot, since a place is pointed at or not, and of many in another: a span's end."""
    takes = {"click": ["at"], "type": ["words"], "wait": []}
    arguments = {"at": spaces.Box(-1, 1, (2,)), "words": spaces.MultiDiscrete([6, 6])}
    return Command("screen", (3, 4)).bind(Commands(takes, arguments))


@pytest.mark.parametrize("n", [1, 2, 9])
def test_masks_that_are_alike_are_worked_out_once_and_change_nothing(n):
    space = commands()
    logits, others, drawn = random_logits(space, 5), random_logits(space, 5, seed=1), noise(space, 5, n)
    tokens = sampling.sample(space, logits, drawn)
    log_prob, divergence = torch.zeros(5, n), torch.zeros(5, n)
    for row, i in itertools.product(range(5), range(n)):
        for k, token in enumerate(tokens[row, i].tolist()):
            mask = space.mask(tokens[row, i, :k].numpy()[None])
            allows = torch.ones(len(logits[k][row]), dtype=torch.bool) if mask is None else torch.from_numpy(mask[0])
            p, q = (each[k][row].masked_fill(~allows, -torch.inf).softmax(-1) for each in (logits, others))
            assert token == int((p.cumsum(-1) <= drawn[row, i, k]).sum())
            log_prob[row, i] += p[token].log()
            divergence[row, i] += (p * (p / q).log())[allows].sum()
    assert torch.allclose(sampling.log_prob(space, logits, tokens), log_prob, atol=1e-5)
    assert torch.allclose(sampling.divergence(space, logits, others, tokens), divergence.mean(1), atol=1e-5)


def test_of_no_rows_there_is_nothing_to_say():
    space = commands()
    logits = [each[:0] for each in random_logits(space, 5)]
    tokens = sampling.sample(space, logits, noise(space, 0, 4))
    assert tokens.shape == (0, 4, len(space.slots))
    assert sampling.log_prob(space, logits, tokens).shape == (0, 4)
    assert sampling.greedy(space, logits).shape == (0, len(space.slots))
    assert sampling.divergence(space, logits, logits, tokens).shape == (0,)
    assert sampling.cross_entropy(space, logits, tokens[:, 0], 0.5).shape == (0,)
