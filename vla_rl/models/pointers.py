"""Named pointers: where in each view lies the thing that a `<ptr>` or `<self>` token stands for, how large, if at all?

They sit on any backbone's tokens: the last hidden state of a slot token asks, the image tokens before the
language model answer.

A pointer looks twice. Where the text names a thing by another one ("left of the red circle"), the first look finds that
other one, and the second goes on from there; else both find the thing itself.

Shapes: B batch, V views, S slots (MENTIONS + 1), N visual tokens of a view (row by row from the top left),
D the backbone's width, K width of a key, F waves, 2 = (x to the right, y down).
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.utils import cached_file

from vla_rl.models.bounds import shapes
from vla_rl.models.transfer import constant
from vla_rl.paths import SUMS, write_sums

MENTIONS = 4
"""How many `<ptr>` tokens follow an instruction; `<self>` comes after them."""
SLOTS = MENTIONS + 1

FILE = "pointers.safetensors"
_SMALL = 2.0
"""Extents start at sigmoid(-2) = 0.12 of half an image."""
_WAVES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of a step across the whole view, in turns: how the second look tells how far a cell is from where the first was."""
_STEP = 16
"""Numbers that it makes of them, E below."""
_log = logging.getLogger(__name__)


@dataclass
class Pointed:
    """What the pointers found, all float32."""

    places_BVS2: torch.Tensor
    """In [-1, 1] over the view's image: x to the right, y down."""
    extents_BVS2: torch.Tensor
    """In (0, 1): half the thing's width and height, in half images. `<self>` points with a point, which has none."""
    confidence_logit_BVS: torch.Tensor
    """Its sigmoid is the probability that the slot names a thing and the view shows it."""
    logits_BVSN: torch.Tensor
    """Over the view's visual tokens; their softmax around the best one weighs the places."""
    offsets_BVSN2: torch.Tensor
    """In (-1, 1): the place inside each cell, in half cells from its centre."""
    first_logits_BVSN: torch.Tensor
    """The first look's over the view's visual tokens."""


def cell_centres(grid: tuple[int, int], device: torch.device | str | None = None) -> torch.Tensor:
    """The centres [rows * columns, 2] of a grid's cells, in [-1, 1], x first, row by row from the top left."""
    rows, columns = grid
    y = (torch.arange(rows, device=device) + 0.5) / rows * 2 - 1
    x = (torch.arange(columns, device=device) + 0.5) / columns * 2 - 1
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flip(-1).reshape(rows * columns, 2)


def cells_at(places: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Places [..., 2] in [-1, 1] -> int64 [...], the cells of the grid that hold them, row by row."""
    rows, columns = grid
    share = ((places + 1) / 2).clamp(0, 1 - 1e-6)
    return (share[..., 1] * rows).long() * columns + (share[..., 0] * columns).long()


def around_best(logits_BVSN: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The softmax of the best token's logit and its neighbours' on the grid (up to eight); 0 elsewhere.

    Where two things look alike, the mean over all tokens lies between them, where nothing is. Of the tiny backbone's
    pointers on Reach this brought those off by more than 3 of 64 pixels from 13% to 7.5%.
    """
    best_BVS1 = logits_BVSN.argmax(-1, keepdim=True)
    return logits_BVSN.masked_fill(~_near(best_BVS1, grid, 1), -torch.inf).softmax(-1)


def _near(cell: torch.Tensor, grid: tuple[int, int], reach: int) -> torch.Tensor:
    """Which of a grid's N cells are at most `reach` rows and columns from `cell` int64 [..., 1]: bool [..., N]."""
    rows, columns = grid
    row_N = torch.arange(rows, device=cell.device).repeat_interleave(columns)
    column_N = torch.arange(columns, device=cell.device).repeat(rows)
    return ((row_N - row_N[cell]).abs() <= reach) & ((column_N - column_N[cell]).abs() <= reach)


def peaks(pointed: Pointed, grid: tuple[int, int], count: int) -> torch.Tensor:
    """The `count` places that each pointer thinks most possible, and the share of each: float32 [B, V, S, count, 3].

    The first one is `places_BVS2`; each further one is around the best token more than two cells from those before.
    """
    logits_BVSN, found = pointed.logits_BVSN, []
    share_BVSN, left_BVSN = logits_BVSN.softmax(-1), logits_BVSN
    cells_BVSN2 = _places_in_cells(pointed.offsets_BVSN2, grid)
    for _ in range(count):
        best_BVS1 = left_BVSN.argmax(-1, keepdim=True)
        near_BVSN = _near(best_BVS1, grid, 1)
        weight_BVSN = logits_BVSN.masked_fill(~near_BVSN, -torch.inf).softmax(-1)
        place_BVS2 = torch.einsum("bvsn,bvsnc->bvsc", weight_BVSN, cells_BVSN2)
        found.append(torch.cat([place_BVS2, (share_BVSN * near_BVSN).sum(-1, keepdim=True)], -1))
        left_BVSN = left_BVSN.masked_fill(_near(best_BVS1, grid, 2), -torch.inf)
    return torch.stack(found, 3)


def _places_in_cells(offsets_BVSN2: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """What the offsets in each cell come to over the whole view, [B, V, S, N, 2]."""
    rows, columns = grid
    half_cell = constant([1 / columns, 1 / rows], offsets_BVSN2.device)
    return cell_centres(grid, offsets_BVSN2.device) + offsets_BVSN2 * half_cell


def _waves(steps: torch.Tensor) -> torch.Tensor:
    """Sines and cosines [..., F] of steps [..., 2] over a view that is 2 wide and high."""
    turns = steps[..., None] * (math.pi * constant(_WAVES, steps.device))
    return torch.cat([turns.sin(), turns.cos()], -1).flatten(-2)


class SecondLook(nn.Module):
    """What a pointer looks for once it has looked: it asks with its slot, what it found, and where that was. It changes
    nothing until it is taught.
    """

    def __init__(self, hidden_size: int, key_size: int) -> None:
        super().__init__()
        self.shown = nn.Sequential(
            nn.Linear(2 * hidden_size, 2 * key_size), nn.GELU(), nn.Linear(2 * key_size, key_size)
        )
        self.way = nn.Linear(2 * hidden_size, _STEP)
        self.step = nn.Sequential(nn.Linear(4 * len(_WAVES), 2 * _STEP), nn.GELU(), nn.Linear(2 * _STEP, _STEP))
        for layer in (self.shown[-1], self.way):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        slots_BSD: torch.Tensor,
        visual_BVND: torch.Tensor,
        key_BVNK: torch.Tensor,
        first_BVSN: torch.Tensor,
        grid: tuple[int, int],
    ) -> torch.Tensor:
        """What is added to the logits [B, V, S, N]: by what a token shows and how far off it is."""
        weight_BVSN = first_BVSN.softmax(-1)
        centres_N2 = cell_centres(grid, slots_BSD.device)
        place_BVS2 = weight_BVSN @ centres_N2
        slots_BVSD = slots_BSD[:, None].expand(-1, first_BVSN.shape[1], -1, -1)
        pair_BVSD = torch.cat([slots_BVSD, weight_BVSN @ visual_BVND], -1)
        step_BVSNE = self.step(_waves(centres_N2 - place_BVS2[..., None, :]))
        shown_BVSN = torch.einsum("bvsk,bvnk->bvsn", self.shown(pair_BVSD), key_BVNK)
        return shown_BVSN + torch.einsum("bvse,bvsne->bvsn", self.way(pair_BVSD), step_BVSNE)


class Pointers(nn.Module):
    """For each slot and view: a softmax around the best visual token, an offset in its cell, extent, confidence.

    twice: whether they look twice, which those that were taught before there was a second look do not.

    Attributes:
        grounded: whether they were taught to point; else they point at random.
    """

    def __init__(self, hidden_size: int, key_size: int = 64, twice: bool = True) -> None:
        super().__init__()
        self.hidden_size, self.key_size, self.grounded = hidden_size, key_size, False
        self.slot_norm = nn.LayerNorm(hidden_size)
        self.visual_norm = nn.LayerNorm(hidden_size)
        # One product gives the queries for the cell, the offset's x and y, the width and the height; the bias of
        # the last four leaves the visual token alone a say.
        self.query = nn.Linear(hidden_size, 5 * key_size)
        self.key = nn.Linear(hidden_size, 2 * key_size)
        self.seen = nn.Sequential(nn.Linear(2 * hidden_size, key_size), nn.GELU(), nn.Linear(key_size, 1))
        self.second = SecondLook(hidden_size, key_size) if twice else None

    def forward(self, slots_BSD: torch.Tensor, visual_BVND: torch.Tensor, grid: tuple[int, int]) -> Pointed:
        """Point. Computes in float32, whatever the backbone's dtype or autocast: bf16 holds a place to 1% only."""
        with torch.autocast(slots_BSD.device.type, enabled=False):
            return self._point(slots_BSD, visual_BVND, grid)

    def _point(self, slots_BSD: torch.Tensor, visual_BVND: torch.Tensor, grid: tuple[int, int]) -> Pointed:
        slots_BSD = self.slot_norm(slots_BSD.float())
        visual_BVND = self.visual_norm(visual_BVND.float())
        B, S, _ = slots_BSD.shape
        V = visual_BVND.shape[1]
        scale = self.key_size**-0.5
        query_BS5K = self.query(slots_BSD).view(B, S, 5, self.key_size)
        key_BVNK, inner_BVNK = self.key(visual_BVND).split(self.key_size, -1)
        first_BVSN = torch.einsum("bsk,bvnk->bvsn", query_BS5K[:, :, 0], key_BVNK) * scale
        logits_BVSN = first_BVSN
        if self.second is not None:
            logits_BVSN = logits_BVSN + self.second(slots_BSD, visual_BVND, key_BVNK, first_BVSN, grid) * scale
        inner_BVSN4 = torch.einsum("bsck,bvnk->bvsnc", query_BS5K[:, :, 1:], inner_BVNK) * scale
        offsets_BVSN2 = torch.tanh(inner_BVSN4[..., :2])
        weight_BVSN = around_best(logits_BVSN, grid)
        places_BVS2 = torch.einsum("bvsn,bvsnc->bvsc", weight_BVSN, _places_in_cells(offsets_BVSN2, grid))
        extents_BVS2 = torch.einsum("bvsn,bvsnc->bvsc", weight_BVSN, torch.sigmoid(inner_BVSN4[..., 2:] - _SMALL))
        attended_BVSD = weight_BVSN @ visual_BVND
        pair = torch.cat([slots_BSD[:, None].expand(B, V, S, -1), attended_BVSD], -1)
        return Pointed(places_BVS2, extents_BVS2, self.seen(pair)[..., 0], logits_BVSN, offsets_BVSN2, first_BVSN)

    def look_twice(self) -> None:
        """From now on look twice; at first what is found stays the same."""
        if self.second is None:
            self.second = SecondLook(self.hidden_size, self.key_size).to(self.key.weight.device)

    def save(self, folder: str | Path) -> None:
        """Write `pointers.safetensors` into a backbone's folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous().cpu() for name, value in self.state_dict().items()}, Path(folder) / FILE)
        if (Path(folder) / SUMS).exists():
            write_sums(Path(folder), [FILE])

    @classmethod
    def of(cls, source: str | Path | None, hidden_size: int) -> Pointers:
        """The pointers of a backbone that comes from a folder or the hub; fresh ones for another. Raises as `load`."""
        return cls.load(source, hidden_size) if source else cls(hidden_size)

    @classmethod
    def load(cls, source: str | Path, hidden_size: int) -> Pointers:
        """The pointers of a backbone's folder or hub id; fresh ones, with a loud warning, where it has none. On torch's
        device "meta", ones of their shapes.

        Raises:
            ValueError: the file does not fit the backbone's width or lacks or adds weights.
        """
        found = cached_file(str(source), FILE, _raise_exceptions_for_missing_entries=False)
        if torch.get_default_device().type == "meta":
            return cls(hidden_size) if found is None else cls(hidden_size, *_layout(shapes(Path(found))))
        if found is None:
            _log.warning(
                "%s has no %s: its pointers start from random weights and point at nothing. Train them by "
                "scripts/ground.py, and have head and critic read more than them: policy.head.reads=[pointers,tokens].",
                source,
                FILE,
            )
            return cls(hidden_size)
        try:
            weights = load_file(found)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{found} is damaged: {error}") from error
        pointers = cls(hidden_size, *_layout({name: tuple(value.shape) for name, value in weights.items()}))
        try:
            pointers.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{found} does not fit pointers of width {hidden_size}: {error}") from error
        pointers.grounded = True
        return pointers


def _layout(sizes: dict[str, tuple[int, ...]]) -> tuple[int, bool]:
    """What a file's weights, by the names of their shapes, say of pointers: the size of a key, and whether they look
    twice."""
    key_size = sizes["key.weight"][0] // 2 if "key.weight" in sizes else 64
    return key_size, any(name.startswith("second.") for name in sizes)
