"""The logits of a place: what the pointers say of it, and what the visual tokens answer.

Shapes: B rows, V views, S slots of the pointers, W width of the head or words of a text, C cells of the grid (Y rows,
X columns), N visual tokens of a view, D width of the backbone, E width of a key, U codes of places in a token.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vla_rl.models.features import Features
from vla_rl.models.pointers import SLOTS, cell_centres
from vla_rl.models.progress import WORD_WIDTH
from vla_rl.specs import Slot

ABSENT = -20.0
"""The logit of a word that the text does not have: no grammar forbids it, so its probability must stay finite."""
KEY = 32
"""E."""
_LEAST = 1e-30
"""The probability of a cell that nothing points at, whose logarithm must stay finite."""
_DOUBT = 0.05
"""How much of a pointer's say goes to all visual tokens as it weighs them, the rest to the one place that it settles
on: what it took for second best is tried now and then, and a click that was rewarded there teaches the pointer."""
_OCTAVES = (-1, 0, 1)


class PlaceHead(nn.Module):
    """Logits over a grid laid on a camera's image, which may be finer than the grid of visual tokens.

    They add up: the log of a mixture of what the pointers say (so that it points at the first thing mentioned before
    any training), and attention to the visual tokens with keys for the cells inside each. Where features tell of turns
    (of so many cameras: `told`), what each word names is in the mixture too, as likely as its score says; and the
    attention asks for what the likely words mean, so that it learns to find things that the pointers miss.
    """

    coarse: torch.Tensor
    crowd: torch.Tensor
    inside: torch.Tensor
    answer: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(
        self, width: int, hidden_size: int, slot: Slot, view: int, backbone_grid: tuple[int, int], told: int = 0
    ) -> None:
        super().__init__()
        assert slot.grid is not None, slot
        self.grid, self.view, self.cameras = slot.grid, view, told
        self.named = nn.Linear(width, 1) if told else None
        self.wanted = nn.Linear(WORD_WIDTH, 2 * KEY) if told else None
        coarse_C, inside_U14, answer_3C = laid_on(slot.grid, backbone_grid)
        crowd_N = torch.zeros(backbone_grid[0] * backbone_grid[1], dtype=torch.int64)
        centres_C2 = cell_centres(slot.grid)
        fixed = {
            "rows": centres_C2[:: slot.grid[1], 1],
            "columns": centres_C2[: slot.grid[1], 0],
            "coarse": coarse_C,
            "crowd": crowd_N.index_add(0, coarse_C, torch.ones_like(coarse_C)).clamp_min(1),
            "inside": inside_U14,
            "answer": answer_3C,
        }
        for name, value in fixed.items():
            self.register_buffer(name, value, persistent=False)
        self.mixture = nn.Linear(width, SLOTS + 1)
        self.gain = nn.Parameter(torch.empty(()))
        self.log_sigma = nn.Parameter(torch.empty(SLOTS))
        self.cell = 2 / max(slot.grid)
        self.norm = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(width, 2 * KEY)
        self.key = nn.Linear(hidden_size, 2 * KEY)
        self.code = nn.Linear(inside_U14.shape[1], KEY)

    def forward(
        self,
        x_BW: torch.Tensor,
        features: Features,
        plain: Plain,
        scores_BW: torch.Tensor | None = None,
        meaning_BWH: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """float32 [B, C]. scores_BW, meaning_BWH: of the words, where features tell of turns."""
        asked_BX = self.query(x_BW)
        if self.wanted is not None:
            assert scores_BW is not None, "no scores of words"
            assert meaning_BWH is not None, "no meaning of words"
            asked_BX = asked_BX + self.wanted(torch.einsum("bw,bwh->bh", likely(features, scores_BW), meaning_BWH))
        return self.gain * self.pointed(x_BW, features, scores_BW) + self.attention(asked_BX, plain)

    def attention(self, asked_BX: torch.Tensor, plain: Plain) -> torch.Tensor:
        """What the visual tokens answer to queries [B, 2 * E], one for a token and one for what is inside it, [B, C].

        The key of a cell is that of its token and, times the code of where it lies inside, another one. No key is made:
        a token answers to a query and to each code alike, and codes add up along the two axes, so that there are
        fewer questions than numbers in a key.
        """
        outer_BE, inner_BE = asked_BX.split(KEY, -1)
        parts_UE = torch.cat([self.code.bias.unsqueeze(0), functional.linear(self.inside, self.code.weight)])
        inner_BUE = inner_BE.unsqueeze(1) * parts_UE
        outer_BUE = functional.pad(outer_BE.unsqueeze(1), (0, 0, 0, len(self.inside)))
        asked_BUX = torch.cat([outer_BUE, inner_BUE], -1) / math.sqrt(KEY)
        constant_BU = asked_BUX @ self.key.bias
        said_BUN = answers(self.norm, asked_BUX @ self.key.weight, plain.visual(self.view))
        said_BX = (said_BUN + constant_BU.unsqueeze(-1)).flatten(1)
        return said_BX.gather(1, self.answer.flatten().expand(len(said_BX), -1)).unflatten(1, self.answer.shape).sum(1)

    def pointed(self, x_BW: torch.Tensor, features: Features, scores_BW: torch.Tensor | None = None) -> torch.Tensor:
        """Log-probability [B, C] of a mixture: of each pointer a bump at its place and, by _DOUBT, what it makes of
        all visual tokens, each one's share spread over its cells; of what words name, where features tell of turns; and
        a uniform part.
        """
        assert features.cells is not None, "features without the pointers' cells"
        rows_S = slice(self.view * SLOTS, (self.view + 1) * SLOTS)
        known_BS = functional.pad(features.confidence[:, rows_S].clamp_min(1e-4).log(), (0, 1))
        logits_BX = self.mixture(x_BW) + known_BS
        if self.named is not None:
            logits_BX = torch.cat([logits_BX, self.named(x_BW)], -1)
        share_BX = torch.softmax(logits_BX, -1)
        share_BS, uniform_B1 = share_BX[:, :SLOTS], share_BX[:, SLOTS : SLOTS + 1]
        bumps_BC = self._bumps(features.places[:, rows_S], self.log_sigma, (1 - _DOUBT) * share_BS)
        tokens_BN = torch.einsum("bs,bsn->bn", _DOUBT * share_BS, features.cells[:, rows_S].exp()) / self.crowd
        said_BC = bumps_BC + tokens_BN[:, self.coarse] + uniform_B1 / len(self.coarse)
        if self.named is not None:
            assert scores_BW is not None, "no scores of words"
            assert features.remembered is not None, "features that tell of no turns"
            camera = self.view * self.cameras * SLOTS // features.places.shape[1]
            places_BW2 = features.remembered[:, camera, :, :2]
            weight_BW = likely(features, scores_BW) * share_BX[:, SLOTS + 1 :]
            said_BC = said_BC + self._bumps(places_BW2, self.log_sigma[:1], weight_BW)
        return said_BC.clamp_min(_LEAST).log()

    def _bumps(self, places_BP2: torch.Tensor, log_sigma: torch.Tensor, weight_BP: torch.Tensor) -> torch.Tensor:
        """The probability [B, C] of the cells by weighted bumps of the width exp(log_sigma), in cells.

        A bump is the product of one along each axis, which takes far fewer numbers than one over all cells.
        """
        sigma_P1 = log_sigma.exp().unsqueeze(-1) * self.cell
        x_BPX, y_BPY = (
            torch.softmax(-0.5 * ((places_BP2[..., axis].unsqueeze(-1) - centres) / sigma_P1).square(), -1)
            for axis, centres in enumerate((self.columns, self.rows))
        )
        return torch.einsum("bpy,bpx->byx", y_BPY * weight_BP.unsqueeze(-1), x_BPX).flatten(1)


def laid_on(grid: tuple[int, int], tokens: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How the cells of a grid lie on the grid of visual tokens.

    Returns:
        The token that holds each cell's centre, int64 [C]; the codes float32 [U, 14] of all places along x inside a
        token, with those along y after them; and, of each cell, which three of the 1 + U answers of its token, laid out
        as [1 + U, N], make up its own, int64 [3, C]: that of the token, and those of its place along each axis.
    """
    row_Y, down_Y, y_U = _inside(grid[0], tokens[0])
    column_X, across_X, x_U = _inside(grid[1], tokens[1])
    token_C = (row_Y[:, None] * tokens[1] + column_X).reshape(-1)
    across_C, down_C = np.tile(across_X, grid[0]), np.repeat(down_Y, grid[1])
    which_3C = np.stack([np.zeros_like(token_C), 1 + across_C, 1 + len(x_U) + down_C])
    codes_U14 = np.concatenate([_waves(x_U, 0), _waves(y_U, 1)])
    made = token_C, codes_U14.astype(np.float32), which_3C * (tokens[0] * tokens[1]) + token_C
    coarse_C, inside_U14, answer_3C = map(torch.as_tensor, made)
    return coarse_C, inside_U14, answer_3C


def _inside(cells: int, tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along one axis: the token that holds each cell's centre, and which of the places inside a token it has, int64
    [cells]; and those places, in [-1, 1]."""
    # In tokens, a centre is at (2 i + 1) tokens / (2 cells): whole numbers tell exactly which are alike.
    token, rest = np.divmod((2 * np.arange(cells) + 1) * tokens, 2 * cells)
    places, which = np.unique(rest, return_inverse=True)
    return token, which, places / cells - 1


def _waves(inside_U: np.ndarray, axis: int) -> np.ndarray:
    """What tells of one axis in a code [U, 14] of places inside a visual token; 0 where it tells of the other one."""
    angles = [inside_U * math.pi * 2.0**octave for octave in _OCTAVES]
    parts = [inside_U, *(wave(angle) for angle in angles for wave in (np.sin, np.cos))]
    return np.stack([part * (each == axis) for part in parts for each in range(2)], 1)


class Plain:
    """Features of which each row is normalised, with neither gain nor bias: what all norms of a head begin with, each
    made once."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._visual: dict[int, torch.Tensor] = {}

    @cached_property
    def tokens(self) -> torch.Tensor:
        """[B, T, D]."""
        assert self._features.tokens is not None, "features without tokens"
        return _plain(self._features.tokens)

    @cached_property
    def words(self) -> torch.Tensor:
        """Of `Features.worded`."""
        return _plain(self._features.worded)

    def visual(self, view: int) -> torch.Tensor:
        """[B, N, D]."""
        if view not in self._visual:
            assert self._features.visual is not None, "features without visual tokens"
            self._visual[view] = _plain(self._features.visual[:, view])
        return self._visual[view]


def _plain(rows: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(rows, rows.shape[-1:])


def answers(norm: nn.LayerNorm, asked_BUD: torch.Tensor, plain_BND: torch.Tensor) -> torch.Tensor:
    """What rows, as `norm` makes them of plain ones, answer to questions, `asked @ rows`: [B, U, N].

    Its gain and its bias go into the questions, of which there are fewer.
    """
    return (asked_BUD * norm.weight) @ plain_BND.transpose(1, 2) + (asked_BUD @ norm.bias).unsqueeze(-1)


def likely(features: Features, scores_BW: torch.Tensor) -> torch.Tensor:
    """The probability of each word by its score, [B, W]."""
    assert features.word_mask is not None, "features without a mask of words"
    return torch.softmax(scores_BW.masked_fill(~features.word_mask[:, : scores_BW.shape[1]], ABSENT), -1)
