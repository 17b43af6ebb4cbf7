"""A place's logits, held against a plain computation: a key for each cell, and a mixture of all over all cells."""

import math

import pytest
import torch
from torch.nn import functional

from vla_rl.models.features import Features
from vla_rl.models.heads import Attend, WordHead
from vla_rl.models.place_head import KEY, PlaceHead, Plain
from vla_rl.models.pointers import SLOTS, cell_centres, cells_at
from vla_rl.specs import Slot

HIDDEN, WIDTH, ROWS, WORDS = 12, 8, 3, 7
GRIDS = {
    "two cells a token": ((6, 6), (3, 3)),
    "no whole number": ((7, 5), (3, 2)),
    "coarser than tokens": ((2, 3), (4, 6)),
    "alike": ((4, 4), (4, 4)),
}


def shaken(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    return module


def seen(tokens: int, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Features(
        places=torch.tanh(normal(ROWS, 2 * SLOTS, 2)),
        extents=torch.rand(ROWS, 2 * SLOTS, 2, generator=generator),
        confidence=torch.rand(ROWS, 2 * SLOTS, generator=generator),
        state=normal(ROWS, 1),
        visual=normal(ROWS, 2, tokens, HIDDEN),
        cells=torch.log_softmax(2 * normal(ROWS, 2 * SLOTS, tokens), -1),
        words=normal(ROWS, WORDS, 2 * HIDDEN),
        word_mask=torch.arange(WORDS) < torch.tensor([[7], [4], [1]]),
    )


@pytest.mark.parametrize(("grid", "tokens"), GRIDS.values(), ids=list(GRIDS))
def test_a_place_is_what_pointers_and_keys_of_all_cells_say(grid, tokens):
    features = seen(tokens[0] * tokens[1])
    head = shaken(PlaceHead(WIDTH, HIDDEN, Slot(grid[0] * grid[1], "place", grid=grid, camera="screen"), 1, tokens))
    x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    centres = cell_centres(grid)
    token = cells_at(centres, tokens)
    # The pointers: each says a bump by 95%, and by 5% its tokens, whose shares go to their cells.
    of_view = slice(SLOTS, 2 * SLOTS)
    away = (features.places[:, of_view].unsqueeze(2) - centres).square().sum(-1)
    width = head.log_sigma.exp().unsqueeze(-1) * 2 / max(grid)
    bumps = torch.softmax(-0.5 * away / width.square(), -1)
    by_tokens = features.cells[:, of_view].exp()[:, :, token] / (token == token[:, None]).sum(1)
    said = torch.cat([0.95 * bumps + 0.05 * by_tokens, torch.full((ROWS, 1, len(centres)), 1 / len(centres))], 1)
    known = functional.pad(features.confidence[:, of_view].clamp_min(1e-4).log(), (0, 1))
    share = torch.softmax(head.mixture(x) + known, -1)
    pointed = (share.unsqueeze(-1) * said).sum(1).log()
    # The keys: one for a token, and one times the code of where in its token a cell lies.
    size = torch.tensor([tokens[1], tokens[0]])
    at = (centres + 1) / 2 * size
    inside = (at - at.floor()) * 2 - 1
    angles = [inside * math.pi * 2.0**octave for octave in (-1, 0, 1)]
    code = head.code(torch.cat([inside, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], 1))
    key, inner_key = head.key(head.norm(features.visual[:, 1]))[:, token].split(KEY, -1)
    query, inner_query = head.query(x).unsqueeze(1).split(KEY, -1)
    attention = (query * key + inner_query * inner_key * code).sum(-1) / math.sqrt(KEY)
    wanted = head.gain * pointed + attention
    found = head(x, features, Plain(features))
    assert torch.allclose(found, wanted, atol=1e-4)
    gradients = [
        torch.autograd.grad((torch.log_softmax(each, -1) * centres[:, 0]).sum(), list(head.parameters()))
        for each in (found, wanted)
    ]
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-3 * float(theirs.abs().max()) + 1e-4)


def test_where_nothing_points_the_logits_are_finite():
    grid = (24, 24)
    features = seen(4)
    features.cells = torch.full_like(features.cells, -torch.inf)
    head = shaken(PlaceHead(WIDTH, HIDDEN, Slot(576, "place", grid=grid, camera="screen"), 0, (2, 2)))
    head.mixture.bias.data = torch.tensor([200.0] + [-200.0] * SLOTS)
    x = torch.zeros(ROWS, WIDTH)
    logits = head(x, features, Plain(features))
    logits.logsumexp(-1).sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(each.grad).all() for each in head.parameters() if each.grad is not None)


@pytest.mark.parametrize("size", [16, 24], ids=["packed weights", "keys of another size"])
def test_queries_attend_as_pytorchs_attention_does(size):
    attend = shaken(Attend(16, size))
    generator = torch.Generator().manual_seed(2)
    x, tokens = torch.randn(ROWS, 5, 16, generator=generator), torch.randn(ROWS, WORDS, size, generator=generator)
    mask = torch.arange(WORDS) < torch.tensor([[7], [4], [1]])
    keys = attend.norm_tokens(tokens)
    wanted, _ = attend.attention(attend.norm_query(x), keys, keys, key_padding_mask=~mask)
    found = attend(x, functional.layer_norm(tokens, (size,)), mask)
    assert torch.allclose(found, torch.tanh(attend.gate) * wanted, atol=1e-5)


def test_where_there_is_nothing_to_attend_to_nothing_breaks():
    attend = shaken(Attend(16, 16))
    found = attend(torch.ones(2, 3, 16), torch.zeros(2, 4, 16), torch.zeros(2, 4, dtype=torch.bool))
    assert torch.isfinite(found).all()


def test_words_are_scored_by_their_keys_and_what_all_queries_share():
    features = seen(4)
    head = shaken(WordHead(WIDTH, 2 * HIDDEN, WORDS - 2))
    x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(3))
    words = head.norm(features.words[:, : WORDS - 2])
    wanted = (head.query(x).unsqueeze(1) * head.key(words)).sum(-1) / math.sqrt(KEY) + head.prior(words).squeeze(-1)
    found = head(x, features, Plain(features))
    there = features.word_mask[:, : WORDS - 2]
    assert torch.allclose(found[there], wanted[there], atol=1e-5)
    assert (found[~there] == -20).all()
