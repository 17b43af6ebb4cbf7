"""Credit that is counted: by what followed the same states, the same decisions in them, in other episodes.

A state is what was shown (pictures and words, exactly) at a decision, and what was shown and done at the `history`
decisions before it. States occur again where episodes begin in few ways (`starts` of `sims.gui.named`), or where the
world has few of them; a decision in a state that nobody else met gets no credit. Shapes: T decisions of an episode.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rl.replay import EndedEpisode, EpisodeListener
from vla_rl.rewards.credit import Backup
from vla_rl.specs import CREDIT, REWARD, Signal, Truncation

FADED = 0.05
"""A count that has faded to less is forgotten."""
_FACTOR, _OFFSET = np.uint64(6364136223846793005), np.uint64(1442695040888963407)

REMEMBERED = 1 << 16
"""Episodes of which it is known what they showed, so that it need not be looked at again."""

Key = tuple[int, int]
"""Of what is counted: in which group, and what."""
Counts = dict[Key, np.ndarray]
"""By key, what was counted, float64 [C]."""
ALL = 0
"""The group of what is counted for itself; and in another group, the key of all of it."""


@dataclass(frozen=True)
class Visit:
    """What an estimator is told of an episode. states, acts: uint64 [T], of each decision the state, and the state with
    the decision. returns float64 [T]: discounted. reward float32 [T]: as paid. success: whether it was done."""

    states: np.ndarray
    acts: np.ndarray
    returns: np.ndarray
    reward: np.ndarray
    success: bool

    @property
    def began(self) -> int:
        """The state that it began in."""
        return int(self.states[0])


@dataclass(frozen=True)
class Counted:
    """A credit estimator that counts. What is counted becomes what is known after every so many episodes.

    history: so many earlier screens, and what was done there, are part of a state; where a screen does not show what
        has been spoilt, its history does. every: episodes after which what is known is renewed, and with
    it the credit of all that replay remembers; until then it stays as it is, so that equal rows have equal credit.
    keep: what older counts weigh at each renewal, as they are those of older policies.
    """

    history: int = 0
    every: int = 50
    keep: float = 0.5

    def __post_init__(self) -> None:
        if self.history < 0 or self.every < 1 or not 0.0 <= self.keep <= 1.0:
            raise ValueError(f"history: at least 0; every: at least 1; keep: in [0, 1]; got {self}")

    @property
    def backup(self) -> Backup:
        """As the other settings say."""
        return Backup()

    @property
    def acted(self) -> tuple[Signal, ...]:
        """Nothing."""
        return ()

    @property
    @abstractmethod
    def columns(self) -> tuple[Signal, ...]:
        """What it works out."""

    @abstractmethod
    def counts(self, visit: Visit) -> Counts:
        """What an episode adds to what is counted."""

    def learnt(self, counted: Counts) -> Counts:
        """What is known, of what was counted."""
        return counted

    @abstractmethod
    def credit(self, visit: Visit, known: Counts, gamma: float, cut: bool) -> dict[str, np.ndarray]:
        """The columns of an episode, by what is known. cut: whether something would have followed its last decision."""

    def book(self, gamma: float, truncation: Truncation) -> Book:
        """An empty one."""
        return Book(self, gamma, truncation)


@dataclass(frozen=True)
class AnchorStates(Counted):
    """A = G - mean G of all decisions in the same state (GiGPO, arXiv 2505.10978), where at least `least` are known."""

    least: float = 2.0

    @property
    def columns(self) -> tuple[Signal, ...]:
        """By how much a decision was better than usual there, and whether that is known."""
        return (CREDIT,)

    def counts(self, visit: Visit) -> Counts:
        """Of each state, how often it was met and the returns from there on."""
        found: Counts = {}
        for state, value in zip(visit.states.tolist(), visit.returns.tolist(), strict=True):
            found[ALL, state] = found.get((ALL, state), 0.0) + np.array([1.0, value])
        return found

    def credit(self, visit: Visit, known: Counts, gamma: float, cut: bool) -> dict[str, np.ndarray]:
        """See `Counted`."""
        there = _looked_up(known, ALL, visit.states)
        sure = there[:, 0] >= self.least
        mean = there[:, 1] / np.where(sure, there[:, 0], 1.0)
        return {CREDIT.name: np.stack([np.where(sure, visit.returns - mean, 0.0), sure], 1)}


@dataclass(frozen=True)
class Redistributed(Counted):
    """Pays each decision by how much it changed what was to be expected, instead of at the end (RUDDER, 1806.07857).

    The expectation after a decision is the mean sum of rewards of the episodes that took it in the same state; where
    nobody did, it stays. What an episode's beginning promised is left out, so that its rewards sum to how much better
    it went than that; without a discount the best policy stays the best. Returns lie in [-1, 1] where those as paid lie
    in [0, 1]: choose `algorithm.value_range` so.
    """

    @property
    def columns(self) -> tuple[Signal, ...]:
        """What rewards count for."""
        return (Signal(REWARD),)

    def counts(self, visit: Visit) -> Counts:
        """Of each decision in a state, and of the beginning, how often it was met and what the whole episode paid."""
        whole = np.array([1.0, visit.reward.sum()])
        return {(ALL, key): whole for key in (int(visit.states[0]), *visit.acts.tolist())}

    def credit(self, visit: Visit, known: Counts, gamma: float, cut: bool) -> dict[str, np.ndarray]:
        """See `Counted`."""
        if not known:
            return {REWARD: visit.reward}
        expected, told = [0.0], _looked_up(known, ALL, np.append(visit.states[:1], visit.acts[:-1]))
        for count, total in told.tolist():
            expected.append(total / count if count > 0 else expected[-1])
        return {REWARD: np.diff(np.append(expected[1:], visit.reward.sum()))}


@dataclass(frozen=True)
class Milestones(Counted):
    """Adds gamma Phi(s') - Phi(s) to the rewards: Phi is the share of milestones that were passed so far (ADMIRE,
    2602.11524). It is a potential, so that the best policy stays the best (Ng et al. 1999).

    A milestone is a decision in a state that at least `common` of the successes took that began alike, and fewer of the
    failures. Returns then lie in [-scale, 1 + scale] where those as paid lie in [0, 1]: choose `algorithm.value_range`
    so.

    scale: what all milestones together are worth.
    """

    common: float = 0.8
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.common <= 1.0 or self.scale <= 0:
            raise ValueError(f"common: in (0, 1]; scale: above 0; got {self.common} and {self.scale}")

    @property
    def columns(self) -> tuple[Signal, ...]:
        """What rewards count for."""
        return (Signal(REWARD),)

    def counts(self, visit: Visit) -> Counts:
        """Of each decision in a state, among episodes that began alike, how many successes and failures took it."""
        ended = np.array([float(visit.success), float(not visit.success)])
        return {(visit.began, key): ended for key in (ALL, *visit.acts.tolist())}

    def learnt(self, counted: Counts) -> Counts:
        """The milestones; and of each beginning, how many there are."""
        found: Counts = {}
        for (began, act), ended in counted.items():
            successes, failures = ended / np.maximum(counted[began, ALL], FADED)
            if act != ALL and successes >= self.common and successes > failures:
                found[began, act] = np.ones(1)
                found[began, ALL] = found.get((began, ALL), 0.0) + np.ones(1)
        return found

    def credit(self, visit: Visit, known: Counts, gamma: float, cut: bool) -> dict[str, np.ndarray]:
        """See `Counted`."""
        _, first = np.unique(visit.acts, return_index=True)
        passed = np.zeros(len(visit.acts))
        passed[first] = _looked_up(known, visit.began, visit.acts[first], 1)[:, 0]
        whole = max(float(known.get((visit.began, ALL), np.zeros(1))[0]), 1.0)
        phi = np.append(0.0, self.scale * np.cumsum(passed) / whole)
        phi[-1] *= cut  # behind the end there is nothing
        return {REWARD: visit.reward + gamma * phi[1:] - phi[:-1]}


class Book:
    """What an estimator has counted in a run, and what of that is known by now."""

    def __init__(self, estimator: Counted, gamma: float, truncation: Truncation) -> None:
        self.estimator, self.gamma, self._truncation = estimator, gamma, truncation
        self.version = self._since = 0
        self._counted: Counts = {}
        self._published: Counts = {}
        self.known: Counts = {}

    def listener(self) -> CreditListener:
        """See `CreditBook`."""
        return CreditListener(self)

    def visit(self, episode: EndedEpisode, screens: np.ndarray) -> Visit:
        """What the estimator is told of an episode that showed `screens`, uint64 [T]."""
        returns, rest = np.zeros(len(episode)), 0.0
        for step in reversed(range(len(episode))):
            returns[step] = rest = float(episode.reward[step]) + self.gamma * rest
        states, done = screens, _decided(screens, episode.tokens)
        for back in range(1, min(self.estimator.history, len(screens) - 1) + 1):
            states = _mixed(states, np.append(np.zeros(back, np.uint64), done[:-back]))
        return Visit(states, _decided(states, episode.tokens), returns, episode.reward, episode.success)

    def note(self, visit: Visit) -> None:
        """Count an episode; now and then, what was counted becomes what is known."""
        for key, values in self.estimator.counts(visit).items():
            self._counted[key] = self._counted.get(key, 0.0) + values
        self._since += 1
        if self._since >= self.estimator.every:
            self._since, self.version = 0, self.version + 1
            self._published = dict(self._counted)
            self.known = self.estimator.learnt(self._published)
            keep = self.estimator.keep
            faded = ((key, keep * values) for key, values in self._counted.items())
            self._counted = {key: values for key, values in faded if values.max() >= FADED}

    def credit(self, visit: Visit, episode: EndedEpisode) -> dict[str, np.ndarray]:
        """The columns of an episode; of one whose beginning is forgotten, as if nothing were known."""
        cut = not episode.terminated and self._truncation != "fail"
        return self.estimator.credit(visit, self.known if episode.whole else {}, self.gamma, cut)

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        tables = {"counted": _packed(self._counted), "published": _packed(self._published)}
        return {"version": self.version, "since": self._since, **tables}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.version, self._since = state["version"], state["since"]
        self._counted, self._published = _unpacked(state["counted"]), _unpacked(state["published"])
        self.known = self.estimator.learnt(self._published)


class CreditListener(EpisodeListener):
    """Hears of one replay's episodes for a book that may hear of several, and works out their credit."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._heard, self._version = -1, book.version
        self._screens: dict[int, np.ndarray] = {}

    @property
    def columns(self) -> tuple[Signal, ...]:
        """The estimator's."""
        return self._book.estimator.columns

    def on_episode(self, episode: EndedEpisode) -> dict[str, np.ndarray]:
        """Have it counted, where it was not heard of before, and its credit."""
        last = int(episode.ids[-1])
        # What was shown at the rest of an episode whose beginning is forgotten may be gone, too.
        shown = self._shown(last, episode) if episode.whole else np.zeros(len(episode), np.uint64)
        visit = self._book.visit(episode, shown)
        if last > self._heard:
            self._heard = last
            if episode.whole:
                self._book.note(visit)
        return self._book.credit(visit, episode)

    def _shown(self, last: int, episode: EndedEpisode) -> np.ndarray:
        known = self._screens.get(last)
        if known is None or len(known) != len(episode):
            known = self._screens[last] = episode.screens
            if len(self._screens) > REMEMBERED:
                del self._screens[next(iter(self._screens))]
        return known

    def reconsiders(self) -> bool:
        """Whenever more is known than it has told by."""
        renewed, self._version = self._version != self._book.version, self._book.version
        return renewed

    def statistics(self) -> dict[str, float]:
        """`credit/known`: how many states, decisions or milestones are known."""
        return {"credit/known": float(len(self._book.known))}

    def state_dict(self) -> dict[str, Any]:
        """What was heard, and the book."""
        return {"heard": self._heard, "book": self._book.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._heard = state["heard"]
        self._book.load_state_dict(state["book"])
        self._version = self._book.version


def _looked_up(known: Counts, group: int, keys: np.ndarray, width: int = 2) -> np.ndarray:
    """What is known of each of `keys` uint64 [T], float64 [T, width]; 0 where nothing is."""
    none = np.zeros(width)
    return np.array([known.get((group, key), none) for key in keys.tolist()]).reshape(-1, width)


def _mixed(numbers: np.ndarray, more: np.ndarray) -> np.ndarray:
    """One number for each pair, uint64; pairs that differ have others, but for chance. Never 0, which is `ALL`."""
    return (numbers * _FACTOR + _OFFSET) ^ ((more + _OFFSET) * _FACTOR) | np.uint64(1)


def _decided(states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """A number for each state uint64 [T] and its decision int64 [T, K]."""
    for column in tokens.T:
        states = _mixed(states, column.astype(np.uint64))
    return states


def _packed(counts: Counts) -> dict[str, np.ndarray]:
    keys = np.array(list(counts), np.uint64).reshape(-1, 2).view(np.int64)
    return {"keys": keys, "values": np.array(list(counts.values())) if counts else np.zeros((0, 1))}


def _unpacked(packed: dict[str, np.ndarray]) -> Counts:
    keys = np.ascontiguousarray(packed["keys"]).view(np.uint64).tolist()
    return {(group, key): values for (group, key), values in zip(keys, np.asarray(packed["values"]), strict=True)}
