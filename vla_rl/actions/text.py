"""Texts as tokens: a span of the words that an observation shows, or characters one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from vla_rl.actions.tokens import check_tokens, unbound
from vla_rl.specs import Slot, words_of


def spanned(span: Sequence[int], text: str, limit: int) -> str:
    """What a span (the first word and the last) of the first `limit` words of a text is.

    One that goes beyond the words ends with the last of them; one behind them, or in the wrong order, is empty.
    """
    words = words_of(text)[:limit]
    first, last = (int(number) for number in span)
    if not first <= last or first >= len(words):
        return ""
    return text[words[first][0] : words[min(last, len(words) - 1)][1]]


def span_of(wanted: str, text: str, limit: int) -> tuple[int, int]:
    """The first span of the first `limit` words of `text` that is `wanted`. Raises ValueError where there is none."""
    words = words_of(text)[:limit]
    for first, (start, _) in enumerate(words):
        for last, (_, end) in enumerate(words[first:], first):
            if text[start:end] == wanted:
                return first, last
    raise ValueError(f"{wanted!r} does not stand among the first {limit} words of {text!r}")


def spelled(numbers: Sequence[int], characters: Sequence[str]) -> str:
    """The text of characters' numbers: 1 is the first of `characters`, 0 ends it."""
    found = [int(number) for number in numbers]
    return "".join(characters[number - 1] for number in found[: found.index(0) if 0 in found else None])


def spelling(text: str, characters: Sequence[str], length: int) -> np.ndarray:
    """The numbers of a text's characters, int64 [length]. Raises ValueError for others, or for too many of them."""
    if len(text) > length or any(letter not in characters for letter in text):
        raise ValueError(f"{text!r}: at most {length} of {''.join(characters)!r} can be written")
    return np.array([characters.index(letter) + 1 for letter in text] + [0] * (length - len(text)), np.int64)


@dataclass(frozen=True)
class Span:
    """Words of the task's text, from the first to the last one, both included: two tokens.

    Over MultiDiscrete([W, W]), an argument of `Commands`, or a space that samples no last word before the first.
    Words are counted as `specs.words_of` counts them.

    Args:
        words: W; set by `bind`.
    """

    words: int | None = None

    def bind(self, space: Any) -> Self:
        """The same, fitted to a MultiDiscrete space.

        Raises:
            ValueError: not two equal numbers of choices, from 0 on.
        """
        counts = _counts(space, "span")
        if counts.shape != (2,) or counts[0] != counts[1]:
            raise ValueError(f"span needs MultiDiscrete([W, W]), the first word and the last; got {space}")
        return replace(self, words=int(counts[0]))

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Two `word` slots."""
        if self.words is None:
            raise unbound(self)
        return (Slot(self.words, "word"), Slot(self.words, "word"))

    def mask(self, prefix: np.ndarray) -> np.ndarray | None:
        """No word before the first may be the last."""
        if prefix.shape[1] == 0:
            return None
        return np.arange(self.slots[1].choices) >= prefix

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """The indices of the first and of the last word, int64 [2]. Raises ValueError where the last comes first."""
        first, last = check_tokens(tokens, self.slots)
        if last < first:
            raise ValueError(f"a span ends where it begins or later; got words {first} to {last}")
        return np.array([first, last])

    def encode(self, action: Any) -> np.ndarray:
        """The two tokens; of words in the wrong order the first alone. Raises ValueError for anything but two words."""
        first, last = check_tokens(action, self.slots)
        return np.array([first, max(first, last)])


@dataclass(frozen=True)
class Characters:
    """A text written character by character, over MultiDiscrete([C, C, ...]): 0 ends it, and only 0 follows.

    The space is an argument of `Commands`, or samples nothing after a 0. Numbers that do not hang together so are
    those of `choice`.

    Args:
        counts: C, as often as the text may be long; set by `bind`.
    """

    counts: tuple[int, ...] | None = None

    def bind(self, space: Any) -> Self:
        """The same, fitted to a MultiDiscrete space of one dimension. Raises ValueError for another."""
        counts = _counts(space, "characters")
        if counts.ndim != 1 or len(counts) == 0:
            raise ValueError(f"characters need MultiDiscrete([C, C, ...]); got {space}")
        return replace(self, counts=tuple(int(count) for count in counts))

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """A `choice` slot a character."""
        if self.counts is None:
            raise unbound(self)
        return tuple(Slot(count, "choice") for count in self.counts)

    def mask(self, prefix: np.ndarray) -> np.ndarray | None:
        """Nothing follows the end."""
        batch, k = prefix.shape
        if k == 0:
            return None
        mask = np.ones((batch, self.slots[k].choices), bool)
        mask[prefix[:, -1] == 0, 1:] = False
        return mask

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """The characters' numbers, int64 [n], 0 from the end on. Raises ValueError where something follows a 0."""
        found = check_tokens(tokens, self.slots)
        if (found[1:][found[:-1] == 0] != 0).any():
            raise ValueError(f"nothing follows the end (0) of a text; got {found.tolist()}")
        return found

    def encode(self, action: Any) -> np.ndarray:
        """The same numbers up to the first 0. Raises ValueError for other numbers than the space has."""
        found = check_tokens(action, self.slots)
        return np.where(np.cumsum(found == 0) > 0, 0, found)


def _counts(space: Any, name: str) -> np.ndarray:
    if not isinstance(space, spaces.MultiDiscrete) or np.any(space.start):
        raise ValueError(f"{name}: a MultiDiscrete action space from 0 on is needed; got {space}")
    return np.asarray(space.nvec)
