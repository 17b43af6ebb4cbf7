"""The action-token head: K learned queries read the features and give the logits of all slots in one pass.

Shapes: B rows, V views, S slots of the pointers, R readout, K slots of the action space, W width of the head,
C choices of a slot, T tokens, N visual tokens of a view, D width of the backbone, E width of a place's key.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from vla_rl.config.policy import HeadSettings
from vla_rl.models.clauses import EXTRA, ClauseReader
from vla_rl.models.features import Features
from vla_rl.models.pointers import MENTIONS, SLOTS, cell_centres, cells_at
from vla_rl.models.progress import WORD_WIDTH, Progress
from vla_rl.specs import Slot

ABSENT = -20.0
"""The logit of a word that the text does not have: no grammar forbids it, so its probability must stay finite."""
_KEY = 32
_LEAST = 1e-30
"""The probability of a cell that no word's thing is near, whose logarithm must stay finite."""
_DOUBT = 0.05
"""How much of a pointer's say goes to all visual tokens as it weighs them, the rest to the one place that it settles
on: what it took for second best is tried now and then, and a click that was rewarded there teaches the pointer."""


class ActionHead(nn.Module):
    """Readout -> MLP; + a learned query for each slot; may attend to words and tokens; -> logits of each slot.

    Attributes:
        advantage: [2, W], added to the MLP's first layer where a decision is to be a bad one, or a good one; None where
            nothing is.
    """

    plain: torch.Tensor

    def __init__(
        self,
        settings: HeadSettings,
        slots: Sequence[Slot],
        readout_size: int,
        hidden_size: int,
        place_views: Sequence[int],
        backbone_grid: tuple[int, int],
        told: int = 0,
    ) -> None:
        """`place_views`: for each slot of kind `place`, in order, the view that it points into. `told`: of how many
        cameras features tell what was done in turns; 0 where they do not."""
        super().__init__()
        self.settings, self.slots = settings, tuple(slots)
        width = settings.width
        clause_size = hidden_size + EXTRA if "clauses" in settings.reads else 0
        self.reader = ClauseReader(clause_size) if clause_size else None
        readout_size += 0 if self.reader is None else self.reader.size
        self.trunk = layers(settings, readout_size)
        self.queries = nn.Parameter(torch.empty(len(slots), width))
        word_size = 2 * hidden_size + clause_size
        self.attend = Attend(width, hidden_size) if "tokens" in settings.reads else None
        self.attend_words = Attend(width, word_size) if "words" in settings.reads else None
        self._plain = [k for k, slot in enumerate(slots) if slot.kind not in ("place", "word")]
        self.register_buffer("plain", torch.tensor(self._plain, dtype=torch.int64), persistent=False)
        self._place = [k for k, slot in enumerate(slots) if slot.kind == "place"]
        self._word = [k for k, slot in enumerate(slots) if slot.kind == "word"]
        most = max((slots[k].choices for k in self._plain), default=0)
        self.weight = nn.Parameter(torch.empty(len(self._plain), width, most))
        self.bias = nn.Parameter(torch.empty(len(self._plain), most))
        self.places = nn.ModuleList(
            PlaceHead(width, hidden_size, slots[k], view, backbone_grid, told)
            for k, view in zip(self._place, place_views, strict=True)
        )
        self.words = nn.ModuleList(WordHead(width, word_size, slots[k].choices) for k in self._word)
        scored = [*self._place, *self._word]
        self._column = {k: i for i, k in enumerate(scored)}
        self.progress = Progress(width, hidden_size, told, len(scored), settings.dropout) if told else None
        initialise(self)
        self.advantage: nn.Parameter | None = None
        if settings.advantage:
            self.condition()

    def condition(self) -> None:
        """Be told of each decision whether it is to be a good one; so far that makes no difference."""
        self.advantage = nn.Parameter(torch.zeros(2, self.settings.width, device=self.queries.device))

    def forward(
        self, readout_BR: torch.Tensor, features: Features, good_B: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """K tensors of float32 logits [B, C_k]; in float32 under autocast too, so that it reads places precisely.

        good_B: int64, 1 for a good decision, 0 for a bad one, -1 for any; good ones, unless told.
        """
        with torch.autocast(readout_BR.device.type, enabled=False):
            return self._logits(readout_BR, features, good_B)

    def _logits(self, readout_BR: torch.Tensor, features: Features, good_B: torch.Tensor | None) -> list[torch.Tensor]:
        if self.reader is not None:
            assert features.clauses is not None, "features without clauses"
            readout_BR = torch.cat([readout_BR, self.reader(features.clauses)], 1)
        x_BW = bent(self.trunk, readout_BR, self.advantage, good_B)
        scores: dict[int, torch.Tensor] = {}
        meaning_BWH: torch.Tensor | None = None
        if self.progress is not None:
            scores_BWX, more_BW, meaning_BWH = self.progress(features)
            x_BW = x_BW + more_BW
            scores = {k: scores_BWX[..., i] for k, i in self._column.items()}
        x_BKW = x_BW.unsqueeze(1) + self.queries
        if self.attend is not None:
            assert features.tokens is not None, "features without tokens"
            assert features.mask is not None, "features without a mask"
            x_BKW = x_BKW + self.attend(x_BKW, features.tokens, features.mask)
        if self.attend_words is not None:
            assert features.word_mask is not None, "features without a mask of words"
            x_BKW = x_BKW + self.attend_words(x_BKW, features.worded, features.word_mask)
        found: dict[int, torch.Tensor] = {}
        if self._plain:
            # A list of indices would be copied to the device, and waited for.
            plain_BKW = x_BKW if len(self._plain) == len(self.slots) else x_BKW.index_select(1, self.plain)
            plain_BKC = torch.einsum("bkw,kwc->bkc", plain_BKW, self.weight) + self.bias
            for i, k in enumerate(self._plain):
                found[k] = plain_BKC[:, i, : self.slots[k].choices]
        for head, k in zip(self.places, self._place, strict=True):
            found[k] = head(x_BKW[:, k], features, scores.get(k), meaning_BWH)
        for head, k in zip(self.words, self._word, strict=True):
            found[k] = head(x_BKW[:, k], features, scores.get(k))
        return [found[k] for k in range(len(self.slots))]


def layers(settings: HeadSettings, readout_size: int) -> nn.Sequential:
    """The MLP from the readout [B, R] to [B, W]."""
    found: list[nn.Module] = []
    for i in range(settings.depth):
        inputs = readout_size if i == 0 else settings.width
        found += [nn.Linear(inputs, settings.width), nn.SiLU(), nn.Dropout(settings.dropout)]
    return nn.Sequential(*found)


def bent(
    trunk: nn.Sequential, readout_BR: torch.Tensor, advantage_2W: torch.Tensor | None, good_B: torch.Tensor | None
) -> torch.Tensor:
    """What `layers` make of a readout, [B, W], told of good and bad decisions where there is an advantage."""
    first, *others = trunk
    x_BW = first(readout_BR)
    if advantage_2W is not None:  # before anything is bent, so that what is good depends on what is seen
        x_BW = x_BW + _told_good(advantage_2W, good_B)
    for layer in others:
        x_BW = layer(x_BW)
    return x_BW


def _told_good(advantage_2W: torch.Tensor, good_B: torch.Tensor | None) -> torch.Tensor:
    """What to add for good and bad decisions, [B, W], or [W] for good ones alone."""
    if good_B is None:
        return advantage_2W[1]
    return advantage_2W[good_B.clamp_min(0)] * (good_B >= 0).unsqueeze(-1)


class Attend(nn.Module):
    """Cross-attention of the action queries to tokens or words, through a gate that starts shut."""

    def __init__(self, width: int, hidden_size: int, heads: int = 4) -> None:
        super().__init__()
        self.norm_query, self.norm_tokens = nn.LayerNorm(width), nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(width, heads, kdim=hidden_size, vdim=hidden_size, batch_first=True)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x_BKW: torch.Tensor, tokens_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """What to add to the queries, [B, K, W]; mask_BT is True where there is a token."""
        tokens_BTD = self.norm_tokens(tokens_BTD)
        found, _ = self.attention(
            self.norm_query(x_BKW), tokens_BTD, tokens_BTD, key_padding_mask=~mask_BT, need_weights=False
        )
        return torch.tanh(self.gate) * found


class PlaceHead(nn.Module):
    """Logits over a grid laid on a camera's image, which may be finer than the grid of visual tokens.

    They add up: the log of a mixture of what the pointers say (so that it points at the first thing mentioned before
    any training), and attention to the visual tokens with keys for the cells inside each. Where features tell of turns
    (of so many cameras: `told`), what each word names is in the mixture too, as likely as its score says; and the
    attention asks for what the likely words mean, so that it learns to find things that the pointers miss.
    """

    centres: torch.Tensor
    coarse: torch.Tensor
    crowd: torch.Tensor
    inside: torch.Tensor

    def __init__(
        self, width: int, hidden_size: int, slot: Slot, view: int, backbone_grid: tuple[int, int], told: int = 0
    ) -> None:
        super().__init__()
        assert slot.grid is not None, slot
        self.grid, self.view, self.cameras = slot.grid, view, told
        self.named = nn.Linear(width, 1) if told else None
        self.wanted = nn.Linear(WORD_WIDTH, 2 * _KEY) if told else None
        rows, columns = slot.grid
        centres_C2 = cell_centres(slot.grid)
        size_2 = torch.tensor([backbone_grid[1], backbone_grid[0]])
        scaled_C2 = (centres_C2 + 1) / 2 * size_2
        cell_C2 = scaled_C2.floor().clamp(max=size_2 - 1)
        self.register_buffer("centres", centres_C2, persistent=False)
        coarse_C = cells_at(centres_C2, backbone_grid)
        self.register_buffer("coarse", coarse_C, persistent=False)
        crowds = torch.zeros(backbone_grid[0] * backbone_grid[1], dtype=torch.int64)
        crowd_C = crowds.index_add(0, coarse_C, torch.ones_like(coarse_C))[coarse_C]
        self.register_buffer("crowd", crowd_C.log(), persistent=False)
        self.register_buffer("inside", _waves((scaled_C2 - cell_C2) * 2 - 1), persistent=False)
        self.mixture = nn.Linear(width, SLOTS + 1)
        self.gain = nn.Parameter(torch.empty(()))
        self.log_sigma = nn.Parameter(torch.empty(SLOTS))
        self.cell = 2 / max(rows, columns)
        self.norm = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(width, 2 * _KEY)
        self.key = nn.Linear(hidden_size, 2 * _KEY)
        self.code = nn.Linear(self.inside.shape[1], _KEY)

    def forward(
        self,
        x_BW: torch.Tensor,
        features: Features,
        scores_BW: torch.Tensor | None = None,
        meaning_BWH: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """float32 [B, rows * columns]. scores_BW, meaning_BWH: of the words, where features tell of turns."""
        assert features.visual is not None, "features without visual tokens"
        prior_BC = self.pointed(x_BW, features, scores_BW)
        visual_BND = self.norm(features.visual[:, self.view])
        asked_BX = self.query(x_BW)
        if self.wanted is not None:
            assert scores_BW is not None, "no scores of words"
            assert meaning_BWH is not None, "no meaning of words"
            asked_BX = asked_BX + self.wanted(torch.einsum("bw,bwh->bh", _likely(features, scores_BW), meaning_BWH))
        query_BE, inner_query_BE = asked_BX.split(_KEY, -1)
        key_BNE, inner_BNE = self.key(visual_BND).split(_KEY, -1)
        outer_BN = torch.einsum("be,bne->bn", query_BE, key_BNE)
        code_CE = self.code(self.inside)
        inner_BCE = (inner_BNE * inner_query_BE.unsqueeze(1))[:, self.coarse]
        attention_BC = outer_BN[:, self.coarse] + torch.einsum("bce,ce->bc", inner_BCE, code_CE)
        return self.gain * prior_BC + attention_BC / math.sqrt(_KEY)

    def pointed(self, x_BW: torch.Tensor, features: Features, scores_BW: torch.Tensor | None = None) -> torch.Tensor:
        """Log-probability [B, C] of a mixture: of each pointer a bump at its place and, by _DOUBT, what it makes of
        all visual tokens, each one's share spread over its cells; and a uniform part.
        """
        assert features.cells is not None, "features without the pointers' cells"
        rows_BS = slice(self.view * SLOTS, (self.view + 1) * SLOTS)
        places_BS2, confidence_BS = features.places[:, rows_BS], features.confidence[:, rows_BS]
        sigma_S1 = self.log_sigma.exp().unsqueeze(-1) * self.cell
        distance_BSC = (places_BS2.unsqueeze(2) - self.centres).square().sum(-1)
        bumps_BSC = torch.log_softmax(-0.5 * distance_BSC / sigma_S1.square(), -1)
        tokens_BSC = features.cells[:, rows_BS][:, :, self.coarse] - self.crowd
        said_BSC = torch.logaddexp(bumps_BSC + math.log1p(-_DOUBT), tokens_BSC + math.log(_DOUBT))
        uniform_B1C = torch.full_like(bumps_BSC[:, :1], -math.log(len(self.centres)))
        known_BS = functional.pad(confidence_BS.clamp_min(1e-4).log(), (0, 1))
        logits_BX, parts = self.mixture(x_BW) + known_BS, [said_BSC, uniform_B1C]
        if self.named is not None:
            assert scores_BW is not None, "no scores of words"
            logits_BX = torch.cat([logits_BX, self.named(x_BW)], -1)
            parts.append(self._named(features, scores_BW).unsqueeze(1))
        weight_BX = torch.log_softmax(logits_BX, -1)
        return torch.logsumexp(torch.cat(parts, 1) + weight_BX.unsqueeze(-1), 1)

    def _named(self, features: Features, scores_BW: torch.Tensor) -> torch.Tensor:
        """Log-probability [B, C] of a mixture: of each word a bump at the place of what it names."""
        assert features.remembered is not None, "features that tell of no turns"
        camera = self.view * self.cameras * SLOTS // features.places.shape[1]
        places_BW2 = features.remembered[:, camera, :, :2]
        # A bump is the product of one along each axis, which takes far fewer numbers than one over all cells.
        columns = self.grid[1]
        x_BWX = self._bumps(places_BW2[..., 0], self.centres[:columns, 0])
        y_BWY = self._bumps(places_BW2[..., 1], self.centres[::columns, 1])
        weight_BW1 = _likely(features, scores_BW).unsqueeze(-1)
        said_BYX = torch.einsum("bwy,bwx->byx", y_BWY * weight_BW1, x_BWX)
        return said_BYX.flatten(1).clamp_min(_LEAST).log()

    def _bumps(self, places_BW: torch.Tensor, centres_X: torch.Tensor) -> torch.Tensor:
        """The probability of each of the centres along an axis, [B, W, X]."""
        sigma = self.log_sigma[0].exp() * self.cell
        return torch.softmax(-0.5 * ((places_BW.unsqueeze(-1) - centres_X) / sigma).square(), -1)


def _likely(features: Features, scores_BW: torch.Tensor) -> torch.Tensor:
    """The probability of each word by its score, [B, W]."""
    assert features.word_mask is not None, "features without a mask of words"
    return torch.softmax(scores_BW.masked_fill(~features.word_mask[:, : scores_BW.shape[1]], ABSENT), -1)


class WordHead(nn.Module):
    """Logits over the words of the text, by attention to what is known of each; ABSENT where there is no such word.

    word_size: the length of a row of `Features.worded`.
    """

    def __init__(self, width: int, word_size: int, choices: int) -> None:
        super().__init__()
        self.choices = choices
        self.norm = nn.LayerNorm(word_size)
        self.query = nn.Linear(width, _KEY)
        self.key = nn.Linear(word_size, _KEY)
        self.prior = nn.Linear(word_size, 1, bias=False)

    def forward(self, x_BW: torch.Tensor, features: Features, scores_BW: torch.Tensor | None = None) -> torch.Tensor:
        """float32 [B, choices]. scores_BW: what is added to the first words' logits, where features tell of turns."""
        assert features.word_mask is not None, "features without a mask of words"
        words_BCD = self.norm(features.worded[:, : self.choices])
        logits_BC = torch.einsum("be,bce->bc", self.query(x_BW), self.key(words_BCD)) / math.sqrt(_KEY)
        logits_BC = logits_BC + self.prior(words_BCD)[..., 0]
        if scores_BW is not None:
            scores_BW = scores_BW[:, : self.choices]
            logits_BC = logits_BC + functional.pad(scores_BW, (0, logits_BC.shape[1] - scores_BW.shape[1]))
        return logits_BC.masked_fill(~features.word_mask[:, : self.choices], ABSENT)


def _waves(inside_C2: torch.Tensor) -> torch.Tensor:
    """A code [C, 14] of the place inside a visual token, from [-1, 1]^2."""
    angles = [inside_C2 * math.pi * 2.0**octave for octave in (-1, 0, 1)]
    return torch.cat([inside_C2, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], 1)


def initialise(head: ActionHead) -> None:
    """All starting weights of a head.

    | part | start |
    |---|---|
    | MLP, attention, norms, keys of places | PyTorch's defaults |
    | queries | normal 0.02 |
    | good and bad decisions | 0: no difference |
    | logits of bins and choices | normal 0.01 / sqrt(width), bias 0: all but uniform |
    | gate of the attention to tokens | 0: shut |
    | query of a place | normal 0.01 / sqrt(width), bias 0: the pointers decide |
    | mixture of a place | weight 0; bias 3 for the first mention, 0 for the others, -3 for `<self>` and uniform |
    | width of a bump | 0.75 cells; gain 1 |
    | what words name, beside a place's pointers | weight 0, bias -3; the words' scores as PyTorch's layers are |
    | query of a place for what words mean | normal 0.1 / sqrt(H), bias 0 |
    | query of a word, and what all queries share (prior) | normal 0.01 / sqrt(width): all words alike |
    """
    nn.init.normal_(head.queries, std=0.02)
    small = 0.01 / math.sqrt(head.settings.width)
    nn.init.normal_(head.weight, std=small)
    nn.init.zeros_(head.bias)
    for place in head.places:
        assert isinstance(place, PlaceHead)
        nn.init.normal_(place.query.weight, std=small)
        nn.init.zeros_(place.query.bias)
        nn.init.zeros_(place.mixture.weight)
        with torch.no_grad():
            place.mixture.bias.copy_(torch.tensor([3.0] + [0.0] * (MENTIONS - 1) + [-3.0, -3.0]))
        nn.init.constant_(place.log_sigma, math.log(0.75))
        nn.init.ones_(place.gain)
        if place.named is not None:
            assert place.wanted is not None
            nn.init.zeros_(place.named.weight)
            nn.init.constant_(place.named.bias, -3.0)
            nn.init.normal_(place.wanted.weight, std=0.1 / math.sqrt(WORD_WIDTH))
            nn.init.zeros_(place.wanted.bias)
    for word in head.words:
        assert isinstance(word, WordHead)
        nn.init.normal_(word.query.weight, std=small)
        nn.init.zeros_(word.query.bias)
        nn.init.normal_(word.prior.weight, std=small)
