"""Pictures and what points into them move together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_rl.actions.command import Command, Commands
from vla_rl.algorithms.augment import Augment, recoloured, shifted
from vla_rl.specs import IMAGES, STATE

GRID, SIZE = (6, 8), (24, 32)
SCREEN = IMAGES + "screen"


def command() -> Command:
    """Clicks and drags point, keys do not."""
    place = spaces.Box(0, 1, (2,), np.float32)
    takes = {"key": ("key",), "click": ("at",), "drag": ("at", "to")}
    return Command(grid=GRID).bind(Commands(takes, {"key": spaces.Discrete(5), "at": place, "to": place}))


def marked(cells: np.ndarray) -> torch.Tensor:
    """Black pictures [B, H, W, 3], in each a white cell."""
    pictures = np.zeros((len(cells), *SIZE, 3), np.uint8)
    for picture, cell in zip(pictures, cells, strict=True):
        row, column = divmod(int(cell), GRID[1])
        picture[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
    return torch.from_numpy(pictures)


@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(0, 12), stack=st.booleans())
@settings(max_examples=40, deadline=None)
def test_places_among_the_tokens_move_with_the_picture(seed: int, shift: int, stack: bool) -> None:
    torch.manual_seed(seed)
    rng, space, rows = np.random.default_rng(seed), command(), 16
    kinds = rng.integers(0, 3, rows)
    names = list(space.parts)
    slot = {name: 1 + names.index(name) for name in names}
    tokens = np.zeros((rows, 1 + len(names)), np.int64)
    tokens[:, 0] = kinds
    pointed = rng.integers(0, GRID[0] * GRID[1], (rows, 2))
    tokens[kinds > 0, slot["at"]] = pointed[kinds > 0, 0]
    tokens[kinds == 2, slot["to"]] = pointed[kinds == 2, 1]
    tokens[kinds == 0, slot["key"]] = rng.integers(0, 5, (kinds == 0).sum())
    pictures = marked(pointed[:, 0])
    seen = {SCREEN: torch.stack([pictures, pictures], 1) if stack else pictures, STATE: torch.zeros(rows, 2)}
    labels = tokens.copy()
    changed, (moved, moved_labels) = Augment(shift=shift)(seen, [tokens, labels], space)

    assert changed[STATE] is seen[STATE]
    assert changed[SCREEN].shape == seen[SCREEN].shape
    assert np.array_equal(moved, moved_labels)
    assert np.array_equal(tokens, labels)  # the batch itself stays
    assert np.array_equal(moved[:, [0, slot["key"]]], tokens[:, [0, slot["key"]]])
    assert not moved[kinds == 0][:, [slot["at"], slot["to"]]].any()
    steps = grid_cell(moved[:, slot["at"]]) - grid_cell(tokens[:, slot["at"]])
    assert np.abs(steps).max() <= shift // 4
    clicks, newest = kinds > 0, changed[SCREEN][:, 0] if stack else changed[SCREEN]
    assert torch.equal(newest[clicks], shifted(pictures, 4 * steps)[clicks])
    # What was pointed at is where the moved token points.
    assert (newest[clicks][marked(moved[clicks, slot["at"]]) > 0] == 255).all()
    drags = kinds == 2
    assert np.array_equal(grid_cell(tokens[drags, slot["to"]]) + steps[drags], grid_cell(moved[drags, slot["to"]]))


def grid_cell(places: np.ndarray) -> np.ndarray:
    """Rows and columns int64 [B, 2] of places."""
    return np.stack(np.divmod(places, GRID[1]), 1)


def test_the_edge_is_repeated() -> None:
    picture = torch.arange(12, dtype=torch.uint8).view(1, 2, 2, 3)
    down = shifted(picture, np.array([[1, 0]]))
    assert torch.equal(down[0, 0], picture[0, 0])
    assert torch.equal(down[0, 1], picture[0, 0])
    left = shifted(picture, np.array([[0, -1]]))
    assert torch.equal(left[0, :, 0], picture[0, :, 1])
    assert torch.equal(left[0, :, 1], picture[0, :, 1])


def test_pictures_that_nothing_points_into_move_by_pixels_each_row_apart() -> None:
    torch.manual_seed(0)
    picture = torch.randint(0, 256, (1, 24, 32, 3), dtype=torch.uint8).expand(200, -1, -1, -1)
    changed, _ = Augment(shift=2)({SCREEN: picture})
    found = {
        (y, x)
        for y in range(-2, 3)
        for x in range(-2, 3)
        if (changed[SCREEN] == shifted(picture, np.array([[y, x]]).repeat(200, 0))).flatten(1).all(1).any()
    }
    assert len(found) == 25


def test_colours() -> None:
    picture = torch.tensor([[50, 150]], dtype=torch.uint8).view(1, 1, 2, 1).expand(3, 4, 2, 3)
    changed = recoloured(picture, torch.tensor([1.0, 1.5, 2.0]), torch.tensor([0.5, 1.0, 1.0]))
    assert [row[0, :, 0].tolist() for row in changed] == [[75, 125], [75, 225], [100, 255]]
    assert changed.dtype == torch.uint8
    same, _ = Augment()({SCREEN: picture})
    assert same[SCREEN] is picture
    assert not Augment()


@pytest.mark.parametrize("wrong", [{"shift": -1}, {"brightness": 1.0}, {"contrast": -0.1}])
def test_refuses_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augment(**wrong)  # type: ignore[arg-type]
