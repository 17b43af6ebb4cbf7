"""What heads and critics read of an observation, computed once and kept in replay.

Shapes: B rows, V views (cameras times stacked frames), S slots of the pointers, P state, T tokens,
N visual tokens of a view, W words, D width of the backbone; C, M, P, K of what is remembered, see `remembered.py` and
`turns.py`; P, X of what is gone on with, see `prefix.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from vla_rl.models import remembered as tracks
from vla_rl.models import turns
from vla_rl.models.pointers import MENTIONS, SLOTS
from vla_rl.models.transfer import fetched, sent
from vla_rl.specs import REMEMBERED, STATE

_MASKS = ("mask", "word_mask", "prefix_mask")
_INDICES = ("clause_of", "prefix_end")
_STORED = {
    "places": torch.float32, "extents": torch.float32, "confidence": torch.float32,
    "remembered": torch.float32, "tokens": torch.float16, "visual": torch.float16, "cells": torch.float16,
    "words": torch.float16, "clauses": torch.float16, "prefix": torch.float16,
    **dict.fromkeys(_INDICES, torch.int16),
}  # fmt: skip


@dataclass
class Features:
    """The rows' features; those that may be None only where the head reads them.

    `state` is raw: the readout normalises it. `pack` leaves it out, since replay stores it anyway.
    """

    places: torch.Tensor
    """float32 [B, V * S, 2] in [-1, 1]: x to the right, y down in its view. Of a policy that remembers, corrected by
    what was seen before."""
    extents: torch.Tensor
    """float32 [B, V * S, 2] in [0, 1]: half the width and height in its view, in half images."""
    confidence: torch.Tensor
    """float32 [B, V * S], a probability. Of a policy that remembers, lower where a pointer leaves what it saw."""
    state: torch.Tensor
    """float32 [B, P]."""
    tokens: torch.Tensor | None = None
    """float32 [B, T, D], last hidden states."""
    mask: torch.Tensor | None = None
    """bool [B, T]; False on padding."""
    visual: torch.Tensor | None = None
    """float32 [B, V, N, D], image tokens before the language model."""
    cells: torch.Tensor | None = None
    """float32 [B, V * S, N], the log-probability of each visual token to be the one that a pointer points at."""
    words: torch.Tensor | None = None
    """float32 [B, W, 2 * D], last hidden states where each word of the text ends and of the token after it, which
    alone has seen whether more follows; in the newest view's sequence. 0 where there is no word."""
    word_mask: torch.Tensor | None = None
    """bool [B, W]; False where the text has no such word."""
    clauses: torch.Tensor | None = None
    """float32 [B, C, X], what is said in each clause of the text, see `clauses.py`; 0 where there is none."""
    clause_of: torch.Tensor | None = None
    """int64 [B, W], which of the clauses each word is of; C where of none."""
    prefix: torch.Tensor | None = None
    """float32 [B, P, X], keys and values of P tokens of the sequence, in all layers, see `prefix.py`."""
    prefix_mask: torch.Tensor | None = None
    """bool [B, P]; False on padding."""
    prefix_end: torch.Tensor | None = None
    """int64 [B], the position of what goes on with the sequence."""
    remembered: torch.Tensor | None = None
    """float32 [B, C, M, K, 4], where things may be by all that was seen in the episode so far; or, of a policy that
    remembers turns, [B, C, W, turns.FIELDS], what was done there; no gradient."""
    peaks: torch.Tensor | None = None
    """float32 [B, C, M, P, 3], what pointers think possible in the newest views; no gradient, and not packed."""
    sure: torch.Tensor | None = None
    """float32 [B, C, M], the pointers' own confidence there; beside `peaks`, and like them."""
    named: torch.Tensor | None = None
    """float32 [B, C, W, turns.NAMED], what each word names in the newest views; no gradient, and not packed."""

    def __len__(self) -> int:
        return len(self.places)

    def rows(self, index: Any) -> Features:
        """The rows that an index tensor, a bool mask or a slice selects."""
        return self._map(lambda value: value[index])

    def to(self, device: torch.device | str) -> Features:
        """The same on another device."""
        return self._map(lambda value: value.to(device))

    def there(self) -> dict[str, torch.Tensor]:
        """Those that are not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def detach(self) -> Features:
        """The same without a gradient."""
        return self._map(torch.Tensor.detach)

    def jittered(self, std: float) -> Features:
        """The same with Gaussian noise on the places: a regulariser for few demonstrations."""
        return replace(self, places=self.places + std * torch.randn_like(self.places))

    def near(self, points_BX2: torch.Tensor, slots: slice, margin: float) -> torch.Tensor:
        """How near points (x, y in [-1, 1]) are to what the `slots` of a view point at: [B, X, S] in [0, 1].

        A Gaussian as wide as the thing and `margin` (half images) around it, times the slot's confidence.
        """
        gap_BXS2 = points_BX2.unsqueeze(2) - self.places[:, None, slots]
        reach_B1S2 = self.extents[:, None, slots] + margin
        return torch.exp(-0.5 * (gap_BXS2 / reach_B1S2).square().sum(-1)) * self.confidence[:, None, slots]

    @property
    def worded(self) -> torch.Tensor:
        """Of each word its states and, where clauses are read, what its clause says, [B, W, 2 * D (+ X)]."""
        assert self.words is not None, "features without words"
        if self.clauses is None or self.clause_of is None:
            return self.words
        padded_BCX = functional.pad(self.clauses, (0, 0, 0, 1))
        said_BWX = padded_BCX.gather(1, self.clause_of.unsqueeze(-1).expand(-1, -1, padded_BCX.shape[-1]))
        return torch.cat([self.words, said_BWX], -1)

    @classmethod
    def concatenate(cls, parts: Sequence[Features]) -> Features:
        """The rows of all, in order."""
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        joined: dict[str, Any] = {name: None if c[0] is None else torch.cat(c) for name, c in columns.items()}
        return cls(**joined)

    def beside(self, observation: Mapping[str, Any]) -> Features:
        """The same of pictures and words, beside the state of these observations and what was remembered before."""
        beside = replace(self, state=observation.get(STATE, self.state))
        if REMEMBERED not in observation:
            return beside
        before = observation[REMEMBERED]
        if self.named is not None:
            return replace(beside, remembered=turns.updated(before, self.named, self._hand()))
        return beside.corrected(tracks.updated(before, *self.seen_now()))

    @property
    def remembering(self) -> bool:
        """Whether there is something in them to be remembered."""
        return self.peaks is not None or self.named is not None

    def through(self, before: torch.Tensor) -> Features:
        """The same of observations that follow one another, so that each remembers those before it.

        before: what was remembered before the first, [1, ...].
        """
        if self.named is not None:
            return replace(self, remembered=turns.through(before, self.named, self._hand()))
        return self.corrected(tracks.through(before, *self.seen_now()))

    def _hand(self) -> torch.Tensor:
        """Where `<self>` points in the newest view of each camera, and how surely: float32 [B, C, 3]."""
        assert self.named is not None, "features without what words name"
        found = torch.cat([self.places, self.confidence.unsqueeze(-1)], -1).detach()
        return found.unflatten(1, (self.named.shape[1], -1, SLOTS))[:, :, -1, -1]

    def corrected(self, remembered: torch.Tensor) -> Features:
        """The same, its places and confidences corrected by what is remembered once they have been seen."""
        peaks, sure = self.seen_now()
        places = self.places.unflatten(1, (sure.shape[1], -1, SLOTS)).clone()
        confidence = self.confidence.unflatten(1, (sure.shape[1], -1, SLOTS)).clone()
        new = (slice(None), slice(None), -1, slice(MENTIONS))
        if self.remembered is not None:  # they were corrected by something else
            places[new], confidence[new] = peaks[..., 0, :2], sure
        places[new], confidence[new] = tracks.followed(remembered, places[new], confidence[new])
        return replace(self, places=places.flatten(1, 3), confidence=confidence.flatten(1), remembered=remembered)

    def seen_now(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What is remembered from: the peaks, and the pointers' own confidences [B, C, M], of the newest views."""
        assert self.peaks is not None, "features without peaks"
        assert self.sure is not None, "peaks without confidences"
        return self.peaks, self.sure

    @property
    def noted(self) -> np.ndarray | None:
        """What the next observation of the same episodes is given as `specs.REMEMBERED`; None where nothing is."""
        return fetched({REMEMBERED: self.remembered})[REMEMBERED]

    def pointed(self, cameras: int) -> torch.Tensor:
        """Where the pointers point in the newest view of each camera: float32 [B, C, S, 3], x, y and how surely."""
        found = torch.cat([self.places, self.confidence.unsqueeze(-1)], -1).detach().float()
        return found.unflatten(1, (cameras, -1, SLOTS))[:, :, -1]

    def stored(self) -> dict[str, torch.Tensor]:
        """Everything but the state, as replay keeps it: wide features in half precision; on the device."""
        dtypes = _STORED | dict.fromkeys(_MASKS, torch.bool)
        values = {name: getattr(self, name) for name in dtypes}
        return {name: value.detach().to(dtypes[name]) for name, value in values.items() if value is not None}

    def pack(self) -> dict[str, np.ndarray]:
        """What is `stored`, as arrays for replay."""
        return fetched(self.stored())

    @classmethod
    def unpack(cls, packed: Mapping[str, np.ndarray | torch.Tensor], observation: Mapping[str, Any]) -> Features:
        """The features that `pack` made, beside the state of their observation, on the state's device."""
        state = observation.get(STATE)
        if state is None:
            state = torch.zeros(len(packed["places"]), 0)
        state = torch.as_tensor(state).float()
        values = {name: sent(value, state.device) for name, value in packed.items()}
        whole = dict.fromkeys(_INDICES, torch.Tensor.long) | dict.fromkeys(_MASKS, torch.Tensor.bool)
        return cls(state=state, **{name: whole.get(name, torch.Tensor.float)(v) for name, v in values.items()})

    def _map(self, change: Any) -> Features:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: None if value is None else change(value) for name, value in values.items()}
        return Features(**changed)
