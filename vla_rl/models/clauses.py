"""What a text says clause by clause: which words stand together, and which numbers are stated among them.

A small language model's hidden states tell little of numbers, and those of a word nothing of what is said after it: the
price of a tool cannot be read where its name is. A clause tells both plainly.

Shapes: B rows, C clauses, W words, D width of the backbone, X = D + EXTRA numbers of a clause, Q queries, V values.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vla_rl.models.transfer import sent
from vla_rl.specs import words_of

NUMBERS = 3
"""So many of a clause's numbers are told, in the order in which they are said."""
LEAST, MOST = -6, 10
"""Powers of two, the smallest and the largest number that are told apart from others."""
_CODE = MOST - LEAST + 2
EXTRA = 2 + NUMBERS * _CODE
"""Numbers of a clause beside its words: 1 where it is there, 1 where it is not in the text's first line, the code."""
_BREAK = re.compile(r"[;\n]|[.!?](?=\s|$)")
_LABEL = re.compile(r"^[^:]*:(?=\s+\w)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_REMEMBERED = 4096


@dataclass(frozen=True)
class Clauses:
    """Of one text. tokens: the ids of each clause's, but not of its numbers, nor of a label before a colon: a name does
    not say what it names, and stands among the words anyway. of_words: which clause each word is of. extra: float32
    [clauses, EXTRA]."""

    tokens: list[list[int]]
    of_words: list[int]
    extra: torch.Tensor


def clauses_of(text: str) -> list[tuple[int, int]]:
    """Where each clause of a text begins and ends: what stands between semicolons, ends of sentences and of lines."""
    edges = [0, *(match.end() for match in _BREAK.finditer(text)), len(text)]
    return [(a, b) for a, b in pairwise(edges) if words_of(text[a:b])]


def number_code(numbers: Sequence[float]) -> torch.Tensor:
    """The first numbers, float32 [NUMBERS * _CODE]: of each 1 where it is 0, or its logarithm, by how near it is to
    each power of two, so that whatever depends on it is all but linear in its code; all 0 where there is none."""
    code = torch.zeros(NUMBERS, _CODE)
    for row, number in zip(code, numbers, strict=False):
        if number <= 0:
            row[-1] = 1
        else:
            power = torch.tensor(number).log2().clamp(LEAST, MOST)
            row[:-1] = (1 - (power - torch.arange(LEAST, MOST + 1)).abs()).clamp_min(0)
    return code.flatten()


class ClauseTexts:
    """Reads texts clause by clause, and remembers those that it has read.

    tokenizer: of transformers, a fast one. Raises ValueError for another, which cannot tell where its tokens lie.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise ValueError("policy.head.reads: clauses need a backbone with a fast tokenizer")
        self._tokenizer = tokenizer
        self._read: OrderedDict[str, Clauses] = OrderedDict()

    def __call__(self, text: str) -> Clauses:
        """The clauses of a text."""
        if text not in self._read:
            self._read[text] = self._parse(text)
            if len(self._read) > _REMEMBERED:
                self._read.popitem(last=False)
        return self._read[text]

    def _parse(self, text: str) -> Clauses:
        told = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
        placed = list(zip(told.input_ids, told.offset_mapping, strict=True))
        numbers = [match.span() for match in _NUMBER.finditer(text)]
        said = [(token, end - 1) for token, (_, end) in placed if not _within(end - 1, numbers)]
        found = clauses_of(text)
        first_line = text.find("\n") if "\n" in text else len(text)
        extra = torch.zeros(len(found), EXTRA)
        for row, (begin, end) in zip(extra, found, strict=True):
            row[0], row[1] = 1, begin >= first_line
            row[2:] = number_code([float(text[a:b]) for a, b in numbers if begin <= a < end])
        begins = [begin + (len(label[0]) if (label := _LABEL.match(text[begin:end])) else 0) for begin, end in found]
        tokens = [
            [token for token, last in said if begin <= last < end]
            for begin, (_, end) in zip(begins, found, strict=True)
        ]
        starts = [start for start, _ in words_of(text)]
        return Clauses(tokens, [_place(start, found) for start in starts], extra)


def _within(place: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(a <= place < b for a, b in spans)


def _place(start: int, found: Sequence[tuple[int, int]]) -> int:
    """Which of the clauses a word that begins there is of; each word is of one."""
    return next(number for number, (a, b) in enumerate(found) if a <= start < b)


def clause_features(
    read: Sequence[Clauses], embedding: torch.Tensor, clauses: int, words: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the first `clauses` of each text what `Features.clauses` tells, float32 [B, C, X]; and of the first `words`
    which clause they are of, int64 [B, W], C where of none of these.

    embedding: of tokens, [vocabulary, D]. A clause's words are the mean of its tokens', normalised.
    """
    device = embedding.device
    bags = [tokens for each in read for tokens in _padded(each.tokens, clauses, [])]
    offsets = sent(torch.tensor([0, *(len(bag) for bag in bags[:-1])]).cumsum(0), device)
    flat = sent(torch.tensor([token for bag in bags for token in bag], dtype=torch.int64), device)
    mean = functional.embedding_bag(flat, embedding.float(), offsets, mode="mean")
    said = functional.layer_norm(mean, mean.shape[-1:]).unflatten(0, (len(read), clauses))
    none = torch.zeros(EXTRA)
    extra = sent(torch.stack([torch.stack(_padded(list(each.extra), clauses, none)) for each in read]), device)
    which = [[min(number, clauses) for number in _padded(each.of_words, words, clauses)] for each in read]
    return torch.cat([said, extra], -1), sent(torch.tensor(which, dtype=torch.int64).view(len(read), words), device)


def _padded(values: Sequence[Any], length: int, none: Any) -> list[Any]:
    return [*values[:length], *[none] * (length - len(values))]


class ClauseReader(nn.Module):
    """Queries that each look for a kind of clause, by its words, and tell what it says: [B, C, X] -> [B, Q * V]."""

    def __init__(self, clause_size: int, queries: int = 8, values: int = 32) -> None:
        super().__init__()
        self._words = clause_size - EXTRA + 2
        self.query = nn.Linear(self._words, queries)
        self.value = nn.Linear(clause_size, values)
        self.size = queries * values

    def forward(self, clauses_BCX: torch.Tensor) -> torch.Tensor:
        words_BCX = clauses_BCX[..., : self._words]
        missing_BC1 = words_BCX[..., -2:-1] == 0
        weight_BCQ = self.query(words_BCX).masked_fill(missing_BC1, torch.finfo(torch.float32).min).softmax(1)
        return torch.einsum("bcq,bcv->bqv", weight_BCQ, self.value(clauses_BCX)).flatten(1)
