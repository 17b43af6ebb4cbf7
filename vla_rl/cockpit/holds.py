"""Who has taken over which lane, and until when: a person who is gone hands back by that."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from vla_rl.play.controls import RefusedError

GRACE = 6.0
"""Seconds without a sign of a person's page until its lane is handed back; within them a page may come again."""
IDLE = 120.0
"""Seconds that a person may do nothing in a lane that waits for them."""
AHEAD = 8
"""Decisions of a person that may wait to be carried out; more are refused."""


@dataclass
class Hold:
    """A lane that a person has taken over. seen, acted: when there was a sign of them, and when they did something."""

    who: str
    seen: float
    acted: float
    waiting: deque[np.ndarray] = field(default_factory=deque)


class Holds:
    """The lanes that are taken over; a person has one at most. now: the time in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._held: dict[int, Hold] = {}

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Hand all of them back."""
        self._held.clear()

    def of(self, lane: int) -> Hold | None:
        """Who has it."""
        return self._held.get(lane)

    def lane_of(self, who: str) -> int | None:
        """What a person has."""
        return next((lane for lane, hold in self._held.items() if hold.who == who), None)

    def within(self, lanes: slice) -> Iterator[tuple[int, Hold]]:
        """The lanes of a group that are held, as places in the group."""
        return ((lane - lanes.start, hold) for lane, hold in self._held.items() if lanes.start <= lane < lanes.stop)

    def take(self, lane: int, who: str) -> None:
        """Give a lane to a person; the one that they had goes back. Raises RefusedError: another one has it."""
        hold = self._held.get(lane)
        if hold is not None and hold.who != who:
            raise RefusedError(f"lane {lane} is taken over by somebody else")
        if hold is None:
            self.give(who)
            self._held[lane] = Hold(who, self.now(), self.now())
        self.keep(who)

    def keep(self, who: str) -> bool:
        """There is a sign of a person; whether they have a lane."""
        lane = self.lane_of(who)
        if lane is not None:
            self._held[lane].seen = self.now()
        return lane is not None

    def give(self, who: str) -> None:
        """Hand back what a person has."""
        lane = self.lane_of(who)
        if lane is not None:
            del self._held[lane]

    def act(self, who: str, tokens: np.ndarray, newest: bool) -> None:
        """A person decides; `newest`: instead of what waits yet. Raises RefusedError: they have no lane, or hurry."""
        lane = self.lane_of(who)
        if lane is None:
            raise RefusedError("take over first; the lane was handed back")
        hold = self._held[lane]
        hold.seen = hold.acted = self.now()
        if newest:
            hold.waiting.clear()
        if len(hold.waiting) >= AHEAD:
            raise RefusedError(f"{AHEAD} actions wait already; the environment is slower than you")
        hold.waiting.append(tokens)

    def expire(self) -> None:
        """Hand back what nobody keeps."""
        now = self.now()
        gone = [lane for lane, hold in self._held.items() if now - hold.seen > GRACE or now - hold.acted > IDLE]
        for lane in gone:
            del self._held[lane]
