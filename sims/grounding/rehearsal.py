"""Generated pictures and instructions for a trunk that reward teaches: it is held to read them as it did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sims.grounding.picture import Split
from sims.grounding.samples import draw
from sims.grounding.texts import instruct
from sims.gui.words import TRAINED_WORDS
from vla_rl.specs import Rehearsed

SIDES = (64, 96, 128)


@dataclass(frozen=True)
class Drawn:
    """Tables and screens as the tiny backbone was taught them. tables, screens: how many; side: of them, in pixels."""

    tables: int = 300
    screens: int = 300
    side: int = 96

    def __post_init__(self) -> None:
        if self.tables < 0 or self.screens < 0 or self.tables + self.screens < 1:
            raise ValueError(f"tables, screens: none below 0, and one in all; got {self.tables} and {self.screens}")
        if self.side not in SIDES:
            raise ValueError(f"side: one of {', '.join(map(str, SIDES))}; got {self.side}")

    def draw(self, seed: int) -> Rehearsed:
        """Pictures uint8 [P, side, side, 3] and an instruction for each; a picture of which nothing can be said is left
        out."""
        split, rng = Split(sides=(self.side,), table_sides=(self.side,)), np.random.default_rng([seed, 4])
        counts = {"table": self.tables, "screen": self.screens}
        pictures = [picture for kind, count in counts.items() for picture in draw(kind, split, seed, count)]
        told = [(picture.image, instruct(picture, rng, TRAINED_WORDS)) for picture in pictures]
        kept = [(image, text.text) for image, text in told if text is not None]
        return np.stack([image for image, _ in kept]), [text for _, text in kept]
