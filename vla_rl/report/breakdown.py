"""Where episodes succeed and where they fail: by instruction, by word, over time; and whether Q says what comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_rl.evaluation.critic_health import CriticHealth
from vla_rl.evaluation.outcome import Outcome, Tally, percent
from vla_rl.report.bootstrap import ratio_interval
from vla_rl.specs import words_of

LEAST = 4
"""Episodes with and without a word, for its difference to be told."""
BINS = 8


@dataclass(frozen=True)
class Word:
    """Success with a word in the instruction and without it: (won, episodes) each; the difference in points and its
    95% interval."""

    text: str
    having: tuple[int, int]
    lacking: tuple[int, int]
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """Decisions of which the critic expected about the same: their mean Q, the mean discounted return that came, its
    interval over episodes, and how many decisions of how many episodes they are."""

    expected: float
    came: float
    low: float
    high: float
    decisions: int
    episodes: int


def by_instruction(outcomes: Sequence[Outcome]) -> list[tuple[str, Tally]]:
    """What became of each instruction, the least successful first, and of equals the one with most episodes."""
    found: dict[str, list[bool]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.task, []).append(outcome.success)
    each = [(text, Tally(sum(won), len(won))) for text, won in found.items()]
    return sorted(each, key=lambda one: (one[1].rate, -one[1].episodes, one[0]))


def by_word(outcomes: Sequence[Outcome]) -> list[Word]:
    """Of each word that some instructions have and others lack, those that go with failure first.

    Words that always come together, such as those of a name, are one.
    """
    tasks = [frozenset(outcome.task[a:b].lower() for a, b in words_of(outcome.task)) for outcome in outcomes]
    won = np.array([outcome.success for outcome in outcomes], bool)
    patterns: dict[bytes, list[str]] = {}
    for word in dict.fromkeys(word for outcome in outcomes for word in _in_order(outcome.task)):
        patterns.setdefault(np.array([word in task for task in tasks], bool).tobytes(), []).append(word)
    found = []
    for pattern, words in patterns.items():
        has = np.frombuffer(pattern, bool)
        having, lacking = (int(won[has].sum()), int(has.sum())), (int(won[~has].sum()), int((~has).sum()))
        if min(having[1], lacking[1]) >= LEAST:
            low, high = CriticHealth.between(having, lacking, 0).interval
            difference = percent(*having) - percent(*lacking)
            found.append(Word(" ".join(words), having, lacking, difference, low, high))
    return sorted(found, key=lambda word: (word.difference, word.text))


def _in_order(text: str) -> list[str]:
    return [text[begin:end].lower() for begin, end in words_of(text)]


def calibration(outcomes: Sequence[Outcome], gamma: float) -> list[Bin]:
    """What the critic expected beside what came, in bins of as many decisions each; none without Q and rewards.

    An episode that was cut short counts as one after which nothing more comes.
    """
    known = [(n, each) for n, each in enumerate(outcomes) if len(each.q) == len(each.rewards)]
    pairs = ((n, zip(each.q, returns(each, gamma), strict=True)) for n, each in known)
    rows = sorted((float(q), came, n) for n, own in pairs for q, came in own if np.isfinite(q))
    bins = []
    for part in np.array_split(np.arange(len(rows)), min(BINS, max(len(rows) // 10, 1))):
        if not len(part):
            continue
        q, came, episode = (np.array([rows[i][column] for i in part]) for column in range(3))
        _, of_episode, counts = np.unique(episode, return_inverse=True, return_counts=True)
        mean, low, high = map(float, ratio_interval(np.bincount(of_episode, came), counts))
        bins.append(Bin(float(q.mean()), mean, low, high, len(part), len(counts)))
    return bins


def returns(outcome: Outcome, gamma: float) -> list[float]:
    """The discounted return that came from each decision on."""
    found, total = [], 0.0
    for reward in reversed(outcome.rewards):
        total = reward + gamma * total
        found.append(total)
    return found[::-1]


def q_over_time(outcomes: Sequence[Outcome], points: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """The mean Q at each share of the episodes' decisions: shares [points] from 0 to 1, and means; none without Q."""
    own = [np.asarray(outcome.q, float) for outcome in outcomes if len(outcome.q) and np.isfinite(outcome.q).all()]
    if not own:
        return np.zeros(0), np.zeros(0)
    grid = np.linspace(0, 1, points)
    return grid, np.mean([np.interp(grid, np.linspace(0, 1, len(q)), q) for q in own], 0)
