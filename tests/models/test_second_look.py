"""The second look of pointers: nothing changes until it is taught, and it can find what stands beside another thing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from vla_rl.models.pointers import Pointers

GRID = (6, 6)
KINDS = 12


def test_it_changes_nothing_until_it_is_taught(tmp_path: Path) -> None:
    torch.manual_seed(0)
    once = Pointers(16, key_size=8, twice=False)
    once.save(tmp_path)
    twice = Pointers.load(tmp_path, 16)
    assert twice.second is None, "who was taught to look once does so"
    twice.look_twice()
    slots, visual = torch.randn(2, 5, 16), torch.randn(2, 2, 36, 16)
    first, second = once(slots, visual, GRID), twice(slots, visual, GRID)
    assert torch.equal(first.logits_BVSN, second.logits_BVSN)
    assert torch.equal(second.first_logits_BVSN, second.logits_BVSN)
    twice.save(tmp_path)
    assert Pointers.load(tmp_path, 16).second is not None


def right_neighbours(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Things of different kinds in a row of a grid, a slot that names one of them, and the cells of it and of the one
    to its right."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.eye(KINDS + 1, 16)
    cells = torch.full((count, 36), KINDS)
    row = torch.randint(6, (count,), generator=generator)
    kinds = torch.rand(count, KINDS, generator=generator).argsort(-1)[:, :6]
    rows = torch.arange(count)
    for column in range(6):
        cells[rows, row * 6 + column] = kinds[:, column]
    named = torch.randint(5, (count,), generator=generator)
    slot = codes[kinds[rows, named]][:, None]
    return slot, codes[cells][:, None], row * 6 + named, row * 6 + named + 1


@pytest.mark.parametrize(("twice", "least", "most"), [(True, 0.95, 1.0), (False, 0.0, 0.5)])
def test_only_the_second_look_finds_the_thing_beside_another(twice: bool, least: float, most: float) -> None:
    torch.manual_seed(1)
    pointers = Pointers(16, key_size=16, twice=twice)
    optimiser = torch.optim.Adam(pointers.parameters(), lr=1e-2)
    for step in range(300):
        slots, visual, first, second = right_neighbours(64, step)
        found = pointers(slots, visual, GRID)
        loss = functional.cross_entropy(found.logits_BVSN[:, 0, 0], second)
        loss = loss + functional.cross_entropy(found.first_logits_BVSN[:, 0, 0], first)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    slots, visual, _, second = right_neighbours(500, 10_000)
    right = (pointers(slots, visual, GRID).logits_BVSN[:, 0, 0].argmax(-1) == second).float().mean()
    assert least <= right <= most
