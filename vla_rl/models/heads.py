"""The action-token head: K learned queries read the features and give the logits of all slots in one pass.

Shapes: B rows, V views, S slots of the pointers, R readout, K slots of the action space, W width of the head,
C choices of a slot, T tokens, D width of the backbone, A heads of an attention.
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
from vla_rl.models.place_head import ABSENT, KEY, PlaceHead, Plain, answers
from vla_rl.models.pointers import MENTIONS
from vla_rl.models.progress import WORD_WIDTH, Progress
from vla_rl.specs import Slot


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
        x_BKW, plain = x_BW.unsqueeze(1) + self.queries, Plain(features)
        if self.attend is not None:
            assert features.mask is not None, "features without a mask"
            x_BKW = x_BKW + self.attend(x_BKW, plain.tokens, features.mask)
        if self.attend_words is not None:
            assert features.word_mask is not None, "features without a mask of words"
            x_BKW = x_BKW + self.attend_words(x_BKW, plain.words, features.word_mask)
        found: dict[int, torch.Tensor] = {}
        if self._plain:
            # A list of indices would be copied to the device, and waited for.
            plain_BKW = x_BKW if len(self._plain) == len(self.slots) else x_BKW.index_select(1, self.plain)
            plain_BKC = torch.einsum("bkw,kwc->bkc", plain_BKW, self.weight) + self.bias
            for i, k in enumerate(self._plain):
                found[k] = plain_BKC[:, i, : self.slots[k].choices]
        for head, k in zip(self.places, self._place, strict=True):
            found[k] = head(x_BKW[:, k], features, plain, scores.get(k), meaning_BWH)
        for head, k in zip(self.words, self._word, strict=True):
            found[k] = head(x_BKW[:, k], features, plain, scores.get(k))
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
    """Cross-attention of the action queries to tokens or words, through a gate that starts shut.

    It computes what `nn.MultiheadAttention` does, in another order: there are fewer queries than numbers in a key, so
    that queries are turned to the tokens' own space, and what they pick there is turned back, instead of all tokens.
    """

    def __init__(self, width: int, hidden_size: int, heads: int = 4) -> None:
        super().__init__()
        self.norm_query, self.norm_tokens = nn.LayerNorm(width), nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(width, heads, kdim=hidden_size, vdim=hidden_size, batch_first=True)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x_BKW: torch.Tensor, plain_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """What to add to the queries, [B, K, W], of plain tokens; mask_BT is True where there is one."""
        heads, (query, key, value) = self.attention.num_heads, self._weights()
        query_bias, _, value_bias = self.attention.in_proj_bias.chunk(3)  # one for all keys alike changes no softmax
        asked_BKW = functional.linear(self.norm_query(x_BKW), query, query_bias)
        asked_BKAW = asked_BKW.unflatten(-1, (heads, -1)) / math.sqrt(asked_BKW.shape[-1] // heads)
        asked_BKAD = torch.einsum("bkaw,awd->bkad", asked_BKAW, key.unflatten(0, (heads, -1)))
        score_BUT = answers(self.norm_tokens, asked_BKAD.flatten(1, 2), plain_BTD)
        weight_BUT = score_BUT.masked_fill(~mask_BT.unsqueeze(1), torch.finfo(score_BUT.dtype).min).softmax(-1)
        picked_BUD = weight_BUT @ plain_BTD * self.norm_tokens.weight + self.norm_tokens.bias  # the weights sum to 1
        value_AWD = value.unflatten(0, (heads, -1))
        found_BKAW = torch.einsum("bkad,awd->bkaw", picked_BUD.unflatten(1, asked_BKAD.shape[1:3]), value_AWD)
        return torch.tanh(self.gate) * self.attention.out_proj(found_BKAW.flatten(2) + value_bias)

    def _weights(self) -> Sequence[torch.Tensor]:
        """Those that make queries, keys and values."""
        made = self.attention
        packed = made.in_proj_weight
        return (made.q_proj_weight, made.k_proj_weight, made.v_proj_weight) if packed is None else packed.chunk(3)


class WordHead(nn.Module):
    """Logits over the words of the text, by attention to what is known of each; ABSENT where there is no such word.

    word_size: the length of a row of `Features.worded`.
    """

    def __init__(self, width: int, word_size: int, choices: int) -> None:
        super().__init__()
        self.choices = choices
        self.norm = nn.LayerNorm(word_size)
        self.query = nn.Linear(width, KEY)
        self.key = nn.Linear(word_size, KEY)
        self.prior = nn.Linear(word_size, 1, bias=False)

    def forward(
        self, x_BW: torch.Tensor, features: Features, plain: Plain, scores_BW: torch.Tensor | None = None
    ) -> torch.Tensor:
        """float32 [B, choices]. scores_BW: what is added to the first words' logits, where features tell of turns."""
        assert features.word_mask is not None, "features without a mask of words"
        asked_BE = self.query(x_BW) / math.sqrt(KEY)
        asked_BD = asked_BE @ self.key.weight + self.prior.weight
        logits_BC = answers(self.norm, asked_BD.unsqueeze(1), plain.words[:, : self.choices]).squeeze(1)
        logits_BC = logits_BC + (asked_BE @ self.key.bias).unsqueeze(1)
        if scores_BW is not None:
            scores_BW = scores_BW[:, : self.choices]
            logits_BC = logits_BC + functional.pad(scores_BW, (0, logits_BC.shape[1] - scores_BW.shape[1]))
        return logits_BC.masked_fill(~features.word_mask[:, : self.choices], ABSENT)


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
