"""What is worked out of an episode once it has ended: by whom, and in which columns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vla_rl.replay.columns import DERIVED, SIGNAL
from vla_rl.replay.ring import Ring
from vla_rl.specs import IMAGES, REWARD, TASK, VERIFIED, Signal

Look = Callable[[np.ndarray], Mapping[str, Any]]
"""What was seen at rows, by their ids int64 [B]; see `Batch.observation`."""


@dataclass(frozen=True)
class EndedEpisode:
    """An episode whose last decision has been recorded, as far as its rows are still remembered.

    ids int64 [T]: the rows of its decisions, in order. whole: whether the first decision is among them. demo: whether
    any of its decisions was shown by an expert or a person. terminated: whether it ended by itself; else it was cut
    short. tokens int64 [T, K]. reward float32 [T]. signals: [T, ...] by name. look: shows what was seen at rows.
    """

    ids: np.ndarray
    whole: bool
    demo: bool
    terminated: bool
    tokens: np.ndarray
    reward: np.ndarray
    signals: dict[str, np.ndarray]
    look: Look | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def success(self) -> bool:
        """Whether the task was done at its end, by what the environment itself checks."""
        return bool(self.signals[VERIFIED][-1])

    @cached_property
    def screens(self) -> np.ndarray:
        """A number of what was seen at each decision, pictures and words, uint64 [T]: the same wherever those are."""
        assert self.look is not None, "an episode that nothing shows"
        seen = self.look(self.ids)
        pictures = [np.ascontiguousarray(seen[key]) for key in sorted(seen) if key.startswith(IMAGES)]
        shown = ([each[row].tobytes() for each in pictures] for row in range(len(self)))
        return np.array([_number(*parts, text.encode()) for parts, text in zip(shown, seen[TASK], strict=True)])


NO_SLOTS = np.empty(0, np.int64)


@dataclass(frozen=True)
class Told:
    """What came of telling of an episode. ids: its rows. kept: False where it is to be forgotten. revalued: the slots
    whose returns are others than before."""

    ids: np.ndarray
    kept: bool
    revalued: np.ndarray = field(default_factory=lambda: NO_SLOTS)


class EpisodeListener:
    """Hears of every episode as its last decision is recorded, and of all remembered ones when a replay is loaded.

    What it works out is not saved: it follows from what is. A subclass of your own, listed in `replay.on_episode`, is
    made with the settings that stand there; it may keep counts of what it has heard,
    which its `state_dict` tells.

    A column of the name "reward" tells what rewards count for, instead of what was paid: returns and targets sum that.
    What was paid stays beside it.
    """

    @property
    def columns(self) -> Sequence[Signal]:
        """What it tells of each decision; 0 until the episode has ended."""
        return ()

    def on_episode(self, episode: EndedEpisode) -> Mapping[str, Any] | None:
        """The values [T, ...] of each of its columns, by name; None to have the episode forgotten."""
        return {}

    def reconsiders(self) -> bool:
        """Whether it would tell otherwise of earlier episodes by now; it is asked after each one. If so, it hears of
        all that are remembered once more, and is not asked meanwhile."""
        return False

    def statistics(self) -> dict[str, float]:
        """What the log shows, by name, such as `train/success_rate`."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What it has kept of what it heard: numbers, texts, arrays, and lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, whatever it has heard since it was made."""

    @property
    def said(self) -> str:
        """What a person should know of what it has heard, in a sentence or two; "" for nothing."""
        return ""


class Listeners:
    """All who hear of a replay's episodes, one after the other. signals: what rows hold."""

    def __init__(self, listeners: Sequence[EpisodeListener], signals: Sequence[Signal]) -> None:
        self._all, self._signals = list(listeners), signals

    @property
    def columns(self) -> list[Signal]:
        """What they tell of each decision."""
        return [column for listener in self._all for column in listener.columns]

    def add(self, listener: EpisodeListener) -> None:
        """One more. Raises ValueError: it has columns, for which rows have no place any more."""
        if listener.columns:
            raise ValueError(f"{type(listener).__name__}: has columns; give it as one of the replay's `listeners`")
        self._all.append(listener)

    def statistics(self) -> dict[str, float]:
        """What they have for the log."""
        return {name: value for listener in self._all for name, value in listener.statistics().items()}

    @property
    def said(self) -> list[str]:
        """What they have to say to a person."""
        return [listener.said for listener in self._all if listener.said]

    def state_dict(self) -> list[dict[str, Any]]:
        """What each has kept, and which it is."""
        return [{"of": type(each).__qualname__, "kept": each.state_dict()} for each in self._all]

    def load_state_dict(self, state: Sequence[dict[str, Any]]) -> None:
        """Go on from what `state_dict` gave; in the place of another listener, one goes on as it is."""
        for listener, each in zip(self._all, state, strict=False):
            if each["of"] == type(listener).__qualname__:
                listener.load_state_dict(each["kept"])

    def tell(self, ring: Ring, last: np.ndarray, look: Look) -> Iterator[Told]:
        """Let them hear of the episodes whose last decisions are rows `last`. What is to be forgotten has to be before
        the next one is asked for."""
        for row in last.tolist() if self._all else ():
            yield self._tell(ring, row, look, self._all)
            yield from self.reconsider(ring, row, look)

    def reconsider(self, ring: Ring, last: int, look: Look) -> Iterator[Told]:
        """Let those who would tell otherwise by now hear once more of all episodes up to row `last`."""
        for listener in self._all:
            if listener.reconsiders():
                ended = ring.ended()
                yield from (self._tell(ring, before, look, [listener]) for before in ended[ended <= last].tolist())

    def _tell(self, ring: Ring, last: int, look: Look, listeners: Sequence[EpisodeListener]) -> Told:
        episode = ended_episode(ring, last, self._signals, look)
        at, recounted = episode.ids % ring.capacity, False
        for listener in listeners:
            found = listener.on_episode(episode)
            if found is None:
                return Told(episode.ids, kept=False)
            for column in listener.columns:
                values = np.asarray(found.get(column.name))
                if values.shape != (len(episode), *column.shape):
                    raise ValueError(
                        f"{type(listener).__name__}.on_episode: expected {column.name} "
                        f"{[len(episode), *column.shape]}, got {list(values.shape)}"
                    )
                ring.columns[DERIVED + column.name][at] = values
                recounted |= column.name == REWARD
        return Told(episode.ids, True, ring.write_returns(episode.ids[-1:]) if recounted else NO_SLOTS)


def ended_episode(ring: Ring, last: int, signals: Sequence[Signal], look: Look) -> EndedEpisode:
    """The episode whose last decision is row `last`."""
    ids = ring.until(last)
    at = ids % ring.capacity
    columns = ring.columns
    return EndedEpisode(
        ids=ids,
        whole=bool(columns["prev"][at[0]] < 0),
        demo=bool(columns["demo"][at].any()),
        terminated=bool(columns["terminated"][at[-1]]),
        tokens=columns["tokens"][at].astype(np.int64),
        reward=columns["reward"][at],
        signals={each.name: columns[SIGNAL + each.name][at] for each in signals},
        look=look,
    )


def _number(*parts: bytes) -> np.uint64:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return np.uint64(int.from_bytes(digest.digest(), "little"))
