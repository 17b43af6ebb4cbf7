"""What a policy keeps of what its trunk sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vla_rl.config.policy import PolicySettings
from vla_rl.models import remembered, turns
from vla_rl.specs import Slot

Columns = dict[str, tuple[tuple[int, ...], str]]
"""Name -> the shape of a row, and the dtype."""


@dataclass(frozen=True)
class Kept:
    """What is kept beside places, extents and confidences; the rest of `Features` is None.

    text_tokens: the token sequence, padded to what an instruction of so many tokens needs. words: so many words' hidden
    states. clauses: what so many clauses say. visual: the image tokens, and which of them each pointer weighs. peaks:
    what pointers think possible, which is remembered. named: of so many words, where what they name is, of which it is
    remembered what was done there. prefix: the keys and values of the sequence, for what goes on with it: of the whole
    of it where there are text_tokens, else of the pointers' slots.
    """

    text_tokens: int | None = None
    words: int | None = None
    clauses: int | None = None
    visual: bool = False
    peaks: bool = False
    named: int | None = None
    prefix: bool = False

    @classmethod
    def of(cls, settings: PolicySettings, slots: Sequence[Slot]) -> Kept:
        """What a head of these settings reads to decide in `slots`."""
        reads = settings.head.reads
        words = [slot.choices for slot in slots if slot.kind == "word"]
        told = settings.remembers == "turns"
        if "words" in reads or told:
            words.append(settings.head.words)
        return cls(
            text_tokens=settings.head.text_tokens if "tokens" in reads else None,
            words=max(words, default=None),
            clauses=settings.head.clauses if "clauses" in reads else None,
            visual=any(slot.kind == "place" for slot in slots),
            peaks=settings.remembers is True,
            named=settings.head.words if told else None,
            prefix=settings.head.type == "autoregressive",
        )

    def remembered(self, cameras: int) -> tuple[int, ...] | None:
        """The shape of what is remembered for a row; None where nothing is."""
        if self.named is not None:
            return turns.shape(cameras, self.named)
        return remembered.shape(cameras) if self.peaks else None
