"""Which word of a text is next, by what was done: what heads and critics read of the turns that a policy remembers.

Every word is looked at in the same way, with its neighbours, and with what is known of the same word elsewhere in the
text: that a value follows its topic, that what comes after the last thing done is next, or that an option is wanted
which the text names, is learned once for all places in a text.

Shapes: B rows, C cameras, W words, D width of the backbone, H width of a word here, X what is known of a word.
"""

from __future__ import annotations

import torch
from torch import nn

from vla_rl.models import turns
from vla_rl.models.features import Features

WORD_WIDTH = 64
"""H."""
_CONTENT, _NEIGHBOURS = 16, 5
_NONE = 0.1
"""How much of a point belongs to no word."""


class WordReader(nn.Module):
    """Two convolutions along the words: what is made of each word, and of all of them.

    Between the two, words hear of the same ones elsewhere; after them, of all. dropout: used only during the supervised
    start.
    """

    def __init__(self, hidden_size: int, cameras: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * hidden_size)
        self.content = nn.Linear(2 * hidden_size, _CONTENT)
        size, padding = _NEIGHBOURS, _NEIGHBOURS // 2
        self.first = nn.Conv1d(_CONTENT + cameras * (turns.FIELDS - 1), WORD_WIDTH, size, padding=padding)
        self.elsewhere = nn.Linear(WORD_WIDTH, WORD_WIDTH)
        self.second = nn.Conv1d(WORD_WIDTH, WORD_WIDTH, size, padding=padding)
        self.all = nn.Linear(2 * WORD_WIDTH, WORD_WIDTH)
        self.act, self.dropout = nn.SiLU(), nn.Dropout(dropout)

    def forward(self, features: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each word, float32 [B, W, H], and of all of them, [B, 2 * H]."""
        kept_BCWF, words, mask = features.remembered, features.words, features.word_mask
        assert kept_BCWF is not None, "features that tell of no turns"
        assert words is not None, "features without words"
        assert mask is not None, "features without a mask of words"
        most = kept_BCWF.shape[2]
        there_BW1 = mask[:, :most].unsqueeze(-1)
        known_BCWX = torch.cat([kept_BCWF[..., : turns.SEEN], kept_BCWF[..., turns.SEEN + 1 :]], -1)
        told_BWX = known_BCWX.transpose(1, 2).flatten(2)
        x_BWX = torch.cat([self.content(self.norm(words[:, :most])), told_BWX], -1) * there_BW1
        x_BWH = self.dropout(self._along(self.first, x_BWX) * there_BW1)
        x_BWH = x_BWH + self.elsewhere(_of_the_same(kept_BCWF[:, 0], x_BWH))
        x_BWH = self._along(self.second, x_BWH) * there_BW1
        mean_BH = x_BWH.sum(1) / there_BW1.sum(1).clamp_min(1)
        pooled_BX = torch.cat([mean_BH, x_BWH.amax(1)], -1)
        return self.act(x_BWH + self.all(pooled_BX).unsqueeze(1)), pooled_BX

    def _along(self, layer: nn.Conv1d, x_BWX: torch.Tensor) -> torch.Tensor:
        return self.act(layer(x_BWX.transpose(1, 2))).transpose(1, 2)


class Progress(nn.Module):
    """Scores of each word for each slot, what the head is to know of all words, and what each word means.

    slots: that words have scores for. dropout: see `WordReader`.
    """

    def __init__(self, width: int, hidden_size: int, cameras: int, slots: int, dropout: float) -> None:
        super().__init__()
        self.reader = WordReader(hidden_size, cameras, dropout)
        self.score = nn.Linear(WORD_WIDTH, slots) if slots else None
        self.pooled = nn.Linear(2 * WORD_WIDTH, width)
        self.meaning = nn.Linear(2 * hidden_size, WORD_WIDTH)

    def forward(self, features: Features) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scores float32 [B, W, slots]; what to add to the head's hidden state, [B, width]; and [B, W, H]."""
        x_BWH, pooled_BX = self.reader(features)
        scores = x_BWH[..., :0] if self.score is None else self.score(x_BWH)
        assert features.words is not None, "features without words"
        meaning_BWH = self.meaning(self.reader.norm(features.words[:, : x_BWH.shape[1]]))
        return scores, self.pooled(pooled_BX), meaning_BWH


def at_points(features: Features, x_BWH: torch.Tensor, camera: int, points_BN2: torch.Tensor) -> torch.Tensor:
    """What is made of the words whose things are at points on a camera's picture, float32 [B, N, H].

    Words share a point by how near their things are, and how surely they are seen; 0 where there is none.
    """
    assert features.remembered is not None, "features that tell of no turns"
    kept_BWF = features.remembered[:, camera]
    gap_BNW2 = points_BN2.unsqueeze(2) - kept_BWF[:, None, :, 0:2]
    reach_B1W2 = kept_BWF[:, None, :, 2:4] + turns.MARGIN
    near_BNW = torch.exp(-0.5 * (gap_BNW2 / reach_B1W2).square().sum(-1)) * kept_BWF[:, None, :, 4]
    return (near_BNW / (near_BNW.sum(-1, keepdim=True) + _NONE)) @ x_BWH


def _of_the_same(told_BWF: torch.Tensor, x_BWH: torch.Tensor) -> torch.Tensor:
    """The sum of what is known of the same word elsewhere in the text, [B, W, H]; 0 where it stands once."""
    same_BWW = turns.same_words(told_BWF, told_BWF)
    once_WW = torch.eye(same_BWW.shape[-1], dtype=torch.bool, device=same_BWW.device)
    return (same_BWW & ~once_WW).to(x_BWH.dtype) @ x_BWH
