"""What is worked out of an episode once it has ended: by whom, and in which columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rl.replay.columns import DERIVED, SIGNAL
from vla_rl.replay.ring import Ring
from vla_rl.specs import Signal


@dataclass(frozen=True)
class EndedEpisode:
    """An episode whose last decision has been recorded, as far as its rows are still remembered.

    ids int64 [T]: the rows of its decisions, in order. whole: whether the first decision is among them. demo: whether
    it was demonstrated. terminated: whether it ended by itself; else it was cut short. tokens int64 [T, K]. reward
    float32 [T]. signals: [T, ...] by name.
    """

    ids: np.ndarray
    whole: bool
    demo: bool
    terminated: bool
    tokens: np.ndarray
    reward: np.ndarray
    signals: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)


class EpisodeListener:
    """Hears of every episode as its last decision is recorded, and of all remembered ones when a replay is loaded.

    What it works out is not saved: it follows from what is. A subclass of your own, listed in `replay.on_episode`, is
    made with the settings that stand there. It may keep counts of what it has heard; its `state_dict` is saved.
    """

    @property
    def columns(self) -> Sequence[Signal]:
        """What it tells of each decision; 0 until the episode has ended."""
        return ()

    def on_episode(self, episode: EndedEpisode) -> Mapping[str, Any] | None:
        """The values [T, ...] of each of its columns, by name; None to have the episode forgotten."""
        return {}

    def statistics(self) -> dict[str, float]:
        """What the log shows, by name, such as `train/success_rate`."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What it has kept of what it heard: numbers, texts, arrays, and lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, whatever it has heard since it was made."""


def told(listeners: Sequence[EpisodeListener], ring: Ring, episode: EndedEpisode) -> bool:
    """Let listeners hear of an episode, one after the other; False where one has it forgotten.

    Raises:
        ValueError: one does not give its columns, or not of one row a decision.
    """
    at = episode.ids % ring.capacity
    for listener in listeners:
        found = listener.on_episode(episode)
        if found is None:
            return False
        for column in listener.columns:
            values = np.asarray(found.get(column.name))
            if values.shape != (len(episode), *column.shape):
                raise ValueError(
                    f"{type(listener).__name__}.on_episode: expected {column.name} "
                    f"{[len(episode), *column.shape]}, got {list(values.shape)}"
                )
            ring.columns[DERIVED + column.name][at] = values
    return True


def kept_by(listeners: Sequence[EpisodeListener]) -> list[dict[str, Any]]:
    """What each has kept, and which it is."""
    return [{"of": type(each).__qualname__, "kept": each.state_dict()} for each in listeners]


def give_back(listeners: Sequence[EpisodeListener], saved: Sequence[dict[str, Any]]) -> None:
    """Have listeners go on from what `kept_by` gave; where there was another one, it goes on as it is."""
    for listener, each in zip(listeners, saved, strict=False):
        if each["of"] == type(listener).__qualname__:
            listener.load_state_dict(each["kept"])


def ended_episode(ring: Ring, last: int, signals: Sequence[Signal]) -> EndedEpisode:
    """The episode whose last decision is row `last`."""
    ids = ring.until(last)
    at = ids % ring.capacity
    columns = ring.columns
    return EndedEpisode(
        ids=ids,
        whole=bool(columns["prev"][at[0]] < 0),
        demo=bool(columns["demo"][at[0]]),
        terminated=bool(columns["terminated"][at[-1]]),
        tokens=columns["tokens"][at].astype(np.int64),
        reward=columns["reward"][at],
        signals={each.name: columns[SIGNAL + each.name][at] for each in signals},
    )
