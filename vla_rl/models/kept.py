"""What a policy keeps of what its trunk sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_rl.config.policy import PolicySettings
from vla_rl.models import remembered
from vla_rl.models.pointers import SLOTS
from vla_rl.specs import Slot

if TYPE_CHECKING:
    from vla_rl.models.trunk import Trunk

Columns = dict[str, tuple[tuple[int, ...], str]]
"""Name -> the shape of a row, and the dtype."""


@dataclass(frozen=True)
class Kept:
    """What is kept beside places, extents and confidences; the rest of `Features` is None.

    text_tokens: the token sequence, padded to what an instruction of so many tokens needs. words: so many words' hidden
    states. visual: the image tokens, and which of them each pointer weighs. peaks: what pointers think possible, which
    is remembered.
    """

    text_tokens: int | None = None
    words: int | None = None
    visual: bool = False
    peaks: bool = False

    @classmethod
    def of(cls, settings: PolicySettings, slots: Sequence[Slot]) -> Kept:
        """What a head of these settings reads to decide in `slots`."""
        reads = settings.head.reads
        words = [slot.choices for slot in slots if slot.kind == "word"]
        if "words" in reads:
            words.append(settings.head.words)
        return cls(
            text_tokens=settings.head.text_tokens if "tokens" in reads else None,
            words=max(words, default=None),
            visual=any(slot.kind == "place" for slot in slots),
            peaks=settings.remembers,
        )

    def columns(self, trunk: Trunk, cameras: int, stack: int) -> Columns:
        """The arrays of `Features.pack`, where the trunk sees `stack` frames of each camera."""
        width, views = trunk.backbone.hidden_size, cameras * stack
        pointers = views * SLOTS
        found: Columns = {
            "places": ((pointers, 2), "float32"),
            "extents": ((pointers, 2), "float32"),
            "confidence": ((pointers,), "float32"),
        }
        if self.peaks:
            found["remembered"] = (remembered.shape(cameras), "float32")
        if self.text_tokens is not None:
            length = trunk.sequence_length(views, self.text_tokens)
            found |= {"tokens": ((length, width), "float16"), "mask": ((length,), "bool")}
        if self.words is not None:
            found |= {"words": ((self.words, 2 * width), "float16"), "word_mask": ((self.words,), "bool")}
        if self.visual:
            cells = trunk.backbone.grid[0] * trunk.backbone.grid[1]
            found |= {"visual": ((views, cells, width), "float16"), "cells": ((pointers, cells), "float16")}
        return found
