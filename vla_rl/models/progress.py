"""Which word of a text is next, by what was done: what a head reads of the turns that a policy remembers.

Every word is looked at in the same way, with its neighbours: that a value follows its topic, or that what comes after
the last thing that was done is next, is learned once for all places in a text.

Shapes: B rows, C cameras, W words, D width of the backbone, H width of a word here, X what is known of a word.
"""

from __future__ import annotations

import torch
from torch import nn

from vla_rl.models import turns
from vla_rl.models.features import Features

_CONTENT, _WIDTH, _NEIGHBOURS = 16, 64, 5


class Progress(nn.Module):
    """Two convolutions along the words; scores of each word for each slot, and what the head is to know of all words.

    slots: that words have scores for. dropout: used only during the supervised start.
    """

    def __init__(self, width: int, hidden_size: int, cameras: int, slots: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * hidden_size)
        self.content = nn.Linear(2 * hidden_size, _CONTENT)
        size, padding = _NEIGHBOURS, _NEIGHBOURS // 2
        self.first = nn.Conv1d(_CONTENT + cameras * turns.FIELDS, _WIDTH, size, padding=padding)
        self.second = nn.Conv1d(_WIDTH, _WIDTH, size, padding=padding)
        self.act, self.dropout = nn.SiLU(), nn.Dropout(dropout)
        self.score = nn.Linear(_WIDTH, slots) if slots else None
        self.pooled = nn.Linear(2 * _WIDTH, width)

    def forward(self, features: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores float32 [B, W, slots], and what to add to the head's hidden state, [B, width]."""
        kept_BCWF, words, mask = features.remembered, features.words, features.word_mask
        assert kept_BCWF is not None, "features that tell of no turns"
        assert words is not None, "features without words"
        assert mask is not None, "features without a mask of words"
        most = kept_BCWF.shape[2]
        there_BW1 = mask[:, :most].unsqueeze(-1)
        told_BWX = kept_BCWF.transpose(1, 2).flatten(2)
        x_BWX = torch.cat([self.content(self.norm(words[:, :most])), told_BWX], -1) * there_BW1
        x_BWH = self.dropout(self._along(self.first, x_BWX) * there_BW1)
        x_BWH = self._along(self.second, x_BWH) * there_BW1
        mean_BH = x_BWH.sum(1) / there_BW1.sum(1).clamp_min(1)
        scores = x_BWH[..., :0] if self.score is None else self.score(x_BWH)
        return scores, self.pooled(torch.cat([mean_BH, x_BWH.amax(1)], -1))

    def _along(self, layer: nn.Conv1d, x_BWX: torch.Tensor) -> torch.Tensor:
        return self.act(layer(x_BWX.transpose(1, 2))).transpose(1, 2)
