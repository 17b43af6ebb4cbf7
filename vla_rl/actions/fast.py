"""A chunk of actions as compressed tokens: cosine transform, rounding, byte-pair encoding (FAST, arXiv 2501.09747).

Shapes: N decisions, K tokens, H steps of a chunk, D numbers of an action, S = H * D symbols of a chunk, C tokens that
there are, L symbols of the longest one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from gymnasium import spaces
from tokenizers import Tokenizer, models, trainers

from vla_rl.actions.chunk import MOST_STEPS
from vla_rl.actions.tokens import as_numbers, bounds_of, check_tokens, each_of, has_parts, unbound
from vla_rl.specs import Slot, shown

END = 0
"""The token after which all symbols are 0: high frequencies that nobody needs are never said."""
MOST_TOKENS = 1 << 14
_MOST_SYMBOLS = 1 << 22
"""Of all tokens together, each filled up to the longest one."""
_FIRST = 0x4E00
"""The letter that stands for the lowest symbol."""
_LEAST = 2
"""Pairs that come up less often are not worth a token."""


@dataclass(frozen=True)
class Fast:
    """`horizon` actions of a Box, decided at once, as few tokens of varying number.

    Each dimension, as [-1, 1] over its bounds, becomes H waves (DCT-II); their sizes times `scale` are rounded to
    symbols, low frequencies first, and symbols that often follow one another share a token. `fit` finds those in
    demonstrations, as `vla-rl sft` and `vla-rl train` do by themselves; before, each symbol is a token.

    Any tokens mean a chunk, as long as they are no more symbols than it has, which `mask` sees to. A chunk has several
    spellings, of which `encode` takes one. What comes back is off by at most sqrt(H) / (2 scale) half ranges.

    Args:
        horizon: the number of steps, at least 2.
        scale: what waves are multiplied by before they are rounded; larger is finer, in more tokens.
        vocabulary: the most tokens that there are, the end and single symbols among them.
        low: the lowest value, in the action's unit: one number for all, or one for each dimension. Default: the Box's.
        high: likewise, the highest value.
        tokens: the most tokens of a decision, of which a longer one keeps the first, its low frequencies. Default: as
            many as the longest chunk has that was fitted on.
        merges: pairs of tokens that are one token, in order; set by `fit`.
        shape: an action's shape; set by `bind`.
        dtype: an action's dtype; set by `bind`.
    """

    horizon: int
    scale: float = 10.0
    vocabulary: int = 256
    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None
    tokens: int | None = None
    merges: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None

    compressed: ClassVar[bool] = True
    """See `actions.compressed`."""

    def __post_init__(self) -> None:
        if not 2 <= self.horizon <= MOST_STEPS:
            raise ValueError(f"horizon: 2 to {MOST_STEPS}; got {self.horizon}")
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale: a positive number; got {self.scale}")
        if not self._largest < self.vocabulary // 2 <= MOST_TOKENS // 2:
            least = 2 * self._largest + 2
            raise ValueError(
                f"vocabulary: {self.vocabulary} tokens, and {least} at least are needed to say all that scale "
                f"{self.scale:g} tells apart in a horizon of {self.horizon}; at most {MOST_TOKENS}"
            )
        if self.tokens is not None and not 1 <= self.tokens <= MOST_TOKENS:
            raise ValueError(f"tokens: 1 to {MOST_TOKENS}; got {self.tokens}")

    def bind(self, space: Any) -> Self:
        """The same, fitted to a Box.

        Raises:
            ValueError: not a Box, or none with finite bounds; bounds outside the Box, or not one for each dimension.
        """
        if not isinstance(space, spaces.Box):
            raise ValueError(f"fast needs a Box action space; got {space}")
        if self.shape is not None and self.shape != space.shape:
            raise ValueError(f"action dimension: expected shape {self.shape}; the space has {space.shape}")
        dims = int(np.prod(space.shape))
        if dims == 0:
            raise ValueError(f"action dimension: a Box of shape {space.shape} has nothing to choose")
        low = bounds_of("low", each_of("low", self.low, dims), space.low.reshape(-1), space)
        high = bounds_of("high", each_of("high", self.high, dims), space.high.reshape(-1), space)
        for index, (lowest, highest) in enumerate(zip(low, high, strict=True)):
            if lowest > highest:
                raise ValueError(f"dimension {index}: low {lowest} must not be above high {highest}")
        return replace(self, low=low, high=high, shape=tuple(space.shape), dtype=str(space.dtype))

    # --- fitting --------------------------------------------------------------------------------------------

    @property
    def fitted(self) -> bool:
        """Whether `fit` was called."""
        return self.merges is not None

    @property
    def fresh(self) -> Self:
        """The same before it was fitted, its number of tokens open."""
        return replace(self, merges=None, tokens=None)

    def fit(self, chunks: Iterable[Any]) -> Self:
        """The same with tokens for what chunks of `horizon` actions often hold; the same ones for the same chunks."""
        texts = ["".join(chr(_FIRST + symbol) for symbol in self._symbols(chunk)) for chunk in chunks]
        made = Tokenizer(models.BPE())
        letters = [chr(_FIRST + i) for i in range(self._letters)]
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary - 1, min_frequency=_LEAST, initial_alphabet=letters, show_progress=False
        )
        made.train_from_iterator(sorted(texts), trainer)
        number = {letter: 1 + i for i, letter in enumerate(letters)}
        pairs = []
        for left, right in json.loads(made.to_str())["model"]["merges"]:
            if left + right not in number:
                pairs.append(f"{number[left]}+{number[right]}")
                number[left + right] = 1 + len(number)
        found = replace(self, merges=" ".join(pairs), tokens=self.tokens)
        longest = max((len(found._spelt(text)) for text in texts), default=self.horizon * self._dims)
        return found if self.tokens is not None else replace(found, tokens=max(longest, 1))

    # --- tokens and actions ---------------------------------------------------------------------------------

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """As many as the longest decision has tokens; one that is shorter is filled up with END."""
        if self.shape is None:
            raise unbound(self)
        count = self.tokens or self.horizon * self._dims
        if count > MOST_TOKENS:
            raise ValueError(f"horizon: {self.horizon} times {self._dims} numbers are more than {MOST_TOKENS} tokens")
        return (Slot(len(self._words), "choice"),) * count

    def mask(self, prefix: np.ndarray) -> np.ndarray:
        """What is left of the chunk has room for it; nothing but END follows END."""
        left_N = self.horizon * self._dims - self._lengths[prefix].sum(1)
        allowed_NC = (self._lengths <= left_N[:, None]) & ~(prefix == END).any(1)[:, None]
        allowed_NC[:, END] = True
        return allowed_NC

    def decode(self, tokens: np.ndarray) -> tuple[np.ndarray, ...]:
        """The actions of the `horizon` steps, in order.

        Raises:
            ValueError: a token out of range, or what `mask` does not allow.
        """
        found = check_tokens(tokens, self.slots)
        said = np.trim_zeros(found, "b")
        if END in said or self._lengths[said].sum() > self.horizon * self._dims:
            raise ValueError(
                f"tokens {found.tolist()} are no chunk: {self.horizon * self._dims} symbols at most, then END alone"
            )
        chunk_HD = (self.vectors(found[None])[0].reshape(self.horizon, -1) + 1) / 2
        low, high = np.asarray(self.low), np.asarray(self.high)
        values = low * (1 - chunk_HD) + high * chunk_HD
        whole = np.rint(values) if np.issubdtype(np.dtype(self.dtype), np.integer) else values
        rounded = whole.astype(self.dtype).reshape(self.horizon, *(self.shape or ()))
        return tuple(np.asarray(step.clip(*self._limits)) for step in rounded)

    def encode(self, action: Sequence[Any]) -> np.ndarray:
        """The tokens of `horizon` actions, each clipped to the bounds.

        Raises:
            ValueError: another number of them, not of the Box's shape, or NaN.
        """
        said = self._spelt("".join(chr(_FIRST + symbol) for symbol in self._symbols(action)))[: len(self.slots)]
        return np.asarray(said + [END] * (len(self.slots) - len(said)), np.int64)

    def vectors(self, tokens: np.ndarray) -> np.ndarray:
        """The chunks that decisions int64 [N, K] mean, float32 [N, H * D] in [-1, 1], step by step: what a critic reads
        of them, since what a token means depends on those before it."""
        count, size = len(tokens), self.horizon * self._dims
        said_NS = np.zeros((count, size + self._table.shape[1]), np.int64)
        begin_N = np.zeros(count, np.int64)
        at_L = np.arange(self._table.shape[1])
        for token_N in tokens.T:
            # What a token does not fill, the next one does, and the last one's lies beyond what is read.
            np.put_along_axis(said_NS, begin_N.clip(max=size)[:, None] + at_L, self._table[token_N], 1)
            begin_N += self._lengths[token_N]
        waves_NHD = said_NS[:, :size].reshape(count, self.horizon, -1) / self.scale
        chunk_NHD = np.einsum("nkd,kh->nhd", waves_NHD, self._basis)
        return chunk_NHD.clip(-1, 1).reshape(count, size).astype(np.float32)

    # --- parts ----------------------------------------------------------------------------------------------

    @property
    def _dims(self) -> int:
        return int(np.prod(self.shape or ()))

    @property
    def _largest(self) -> int:
        """The largest symbol, of a wave of size sqrt(H)."""
        return round(self.scale * self.horizon**0.5)

    @property
    def _letters(self) -> int:
        return 2 * self._largest + 1

    @cached_property
    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The bounds in the action's dtype and shape: what is rounded stays within."""
        low, high = (np.asarray(each).astype(self.dtype).reshape(self.shape or ()) for each in (self.low, self.high))
        return low, high

    @cached_property
    def _basis(self) -> np.ndarray:
        """DCT-II, float64 [H waves, H steps], whose transpose is its inverse."""
        wave, step = np.arange(self.horizon)[:, None], np.arange(self.horizon)
        found = np.sqrt(2 / self.horizon) * np.cos(np.pi * wave * (2 * step + 1) / (2 * self.horizon))
        found[0] /= np.sqrt(2)
        return found

    @cached_property
    def _words(self) -> tuple[tuple[int, ...], ...]:
        """The symbols, from -largest to largest, that each token stands for; none of END."""
        words: list[tuple[int, ...]] = [(), *((i - self._largest,) for i in range(self._letters))]
        for pair in (self.merges or "").split():
            left, _, right = pair.partition("+")
            if not (left.isdecimal() and right.isdecimal() and 0 < int(left) < len(words) > int(right) > 0):
                raise ValueError(f"merges: {pair!r} is no pair of tokens from 1 to {len(words) - 1}")
            words.append(words[int(left)] + words[int(right)])
            if len(words) * len(words[-1]) > _MOST_SYMBOLS:
                raise ValueError(f"merges: token {len(words) - 1} means {len(words[-1])} symbols, too many to keep")
        if len(words) > self.vocabulary or len(set(words)) < len(words):
            raise ValueError(
                f"merges: {len(words)} tokens, more than vocabulary={self.vocabulary}, or some are the same"
            )
        return tuple(words)

    @cached_property
    def _lengths(self) -> np.ndarray:
        """How many symbols each token stands for, int64 [C]."""
        return np.asarray([len(word) for word in self._words])

    @cached_property
    def _table(self) -> np.ndarray:
        """The symbols of each token, filled up with 0, int64 [C, L]."""
        table = np.zeros((len(self._words), self._lengths.max()), np.int64)
        for row, word in zip(table, self._words, strict=True):
            row[: len(word)] = word
        return table

    @cached_property
    def _bpe(self) -> Tokenizer:
        """What finds the tokens of a text of symbols; its ids are a token less 1."""
        texts = ["".join(chr(_FIRST + self._largest + symbol) for symbol in word) for word in self._words]
        pairs = (pair.split("+") for pair in (self.merges or "").split())
        merges = [(texts[int(left)], texts[int(right)]) for left, right in pairs]
        return Tokenizer(models.BPE({text: i for i, text in enumerate(texts[1:])}, merges))

    def _spelt(self, text: str) -> list[int]:
        """The tokens of a text of symbols."""
        return [1 + i for i in self._bpe.encode(text).ids]

    def _symbols(self, actions: Sequence[Any]) -> list[int]:
        """The symbols of `horizon` actions, counted from 0, low frequencies first; without the zeros that end them."""
        if self.shape is None:
            raise unbound(self)
        if not has_parts(actions) or len(actions) != self.horizon:
            raise ValueError(f"a chunk is of {self.horizon} actions; got {shown(actions)}")
        found = [as_numbers(step) for step in actions]
        for step in found:
            if step.shape != self.shape:
                raise ValueError(f"action dimension: expected shape {self.shape}; got {step.shape}")
        chunk_HD = np.stack(found).reshape(self.horizon, -1)
        if np.isnan(chunk_HD).any():
            raise ValueError(f"an action cannot hold NaN: {shown(actions)}")
        low, high = np.asarray(self.low), np.asarray(self.high)
        half = np.where(low < high, (high - low) / 2, 1.0)
        waves_HD = self._basis @ ((chunk_HD.clip(low, high) - (low + high) / 2) / half)
        symbols = np.rint(waves_HD * self.scale).astype(np.int64).reshape(-1)
        return (np.trim_zeros(symbols, "b").clip(-self._largest, self._largest) + self._largest).tolist()
