"""What an environment asks for and no demonstration shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import gymnasium

from vla_rl.specs import TASK, TRAINING_SEEDS, words_of

LOOKED_AT = 100
"""Episodes that are begun to hear what the environment asks for."""
COMMON = 0.25
"""Words in a larger share of the instructions make a kind of instruction; the others are what it is about."""
SHOWN = 8
"""At most so many words and kinds are named."""


def asked(env: gymnasium.Env, first_seed: int, episodes: int = LOOKED_AT) -> list[str]:
    """The instructions of training episodes from `first_seed` on."""
    seeds = range(first_seed, min(first_seed + episodes, TRAINING_SEEDS.stop))
    return [str(env.reset(seed=seed)[0][TASK]) for seed in seeds]


def lacking(shown: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """In sentences, which words and which kinds of the instructions `wanted` are in none of those `shown`."""
    words = Counter(word for text in wanted for word in set(_words(text)))
    known = {word for text in shown for word in _words(text)}
    common = {word for word, count in words.items() if count > COMMON * len(wanted)}
    kinds = Counter(_kind(text, common) for text in wanted)
    known_kinds = {_kind(text, common) for text in shown}
    found = [("words", [word for word, _ in words.most_common() if word not in known])]
    found += [("kinds of instruction", [kind for kind, _ in kinds.most_common() if kind not in known_kinds])]
    return [
        f"{what} that the environment asks for and no demonstration has: {_listed(each)}"
        for what, each in found
        if each
    ]


def _words(text: str) -> list[str]:
    """Those of the first line, the task's own: below it, other sensors say what is seen, which is always new."""
    line = text.partition("\n")[0]
    return [line[start:end].lower() for start, end in words_of(line)]


def _kind(text: str, common: set[str]) -> str:
    """The text with "..." for what it is asked about."""
    parts: list[str] = []
    for word in _words(text):
        part = word if word in common else "..."
        if parts[-1:] != ["..."] or part != "...":
            parts.append(part)
    return " ".join(parts)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
