"""Episodes that are lost, since an environment raised an error or its worker ended: what is borne, and what follows."""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vla_rl.registry import ConfigError, SetupError

BACKOFF, LONGEST = 0.5, 30.0
"""Seconds before the second start in a row, which double with each further one, and the most of them."""
RESET, STEP, LOST = "reset", "step", "lost"
"""What a lane may be asked for; `LOST`: nothing, for it is told that its episode is."""


class LostError(RuntimeError):
    """Episodes were lost too often in a row; its cause is what happened the last time."""


class Supervisor:
    """Knows where in which episode each lane is, which of them have lost theirs, and when that is too much.

    A lane that has lost an episode is told so in a step, which truncates it. In its next step it begins anew.

    count: of lanes. restarts: episodes that a lane may lose in a row, without one that goes to its end. seeds: one each
    for lanes that begin anew.

    Attributes:
        over: bool [count], whether the lane's episode is over, as far as it has been told.
    """

    def __init__(self, count: int, restarts: int, seeds: Iterable[int] | None = None) -> None:
        self.over = np.zeros(count, bool)
        self._restarts = restarts
        self._spare = itertools.count() if seeds is None else iter(seeds)
        self._seeds: list[int | None] = [None] * count
        self._later = np.zeros(count, np.int64)  # episodes since the one of the seed
        self._lost: dict[int, str] = {}
        self._anew: set[int] = set()
        self._in_a_row = Counter[int]()
        self._pause = 0.0

    def parts(self, method: str, lanes: list[int]) -> Iterator[tuple[str, list[int]]]:
        """What each of `lanes` is to be asked for, where the caller wants `method` of all."""
        if method == RESET or not (self._lost or self._anew):
            yield method, lanes
            return
        lost = [lane for lane in lanes if lane in self._lost]
        anew = [lane for lane in lanes if lane in self._anew]
        for part, some in ((LOST, lost), (RESET, anew), (STEP, [lane for lane in lanes if lane not in {*lost, *anew}])):
            if some:
                yield part, some

    def spare_seeds(self, lanes: Sequence[int]) -> np.ndarray:
        """Seeds for lanes that begin anew, int64 [B]."""
        return np.array([next(self._spare) for _ in lanes], np.int64)

    def begin(self, lanes: Sequence[int], seeds: np.ndarray) -> None:
        """Take in that lanes are reset with seeds, whatever was before."""
        for lane, seed in zip(lanes, seeds, strict=True):
            self._seeds[lane], self._later[lane] = int(seed), 0
            self._lost.pop(lane, None)
            self._anew.discard(lane)

    def went_on(self, lanes: list[int], over: np.ndarray) -> None:
        """Take in what lanes have shown; `over`: bool [B], whether that ends their episodes."""
        self.over[lanes] = over
        if over.any():
            self._later[lanes] += over
            for lane, ended in zip(lanes, over, strict=True):
                if ended:
                    self._in_a_row.pop(lane, None)

    def bear(self, error: Exception, lanes: Sequence[int]) -> str:
        """Take in that `error` has cost lanes their episodes; returns the reason in words.

        Raises:
            LostError: it was too often.
            `error`: none is borne, or it is a fault of the settings, which another try does not mend.
        """
        self._in_a_row.update(lanes)
        times = max(self._in_a_row[lane] for lane in lanes)
        lost = "; ".join(self._episode(lane) for lane in lanes if self._seeds[lane] is not None) or "nothing"
        if isinstance(error, ConfigError | SetupError) or not self._restarts:
            raise error
        reason = f"{type(error).__name__}: {error}"
        if times > self._restarts:
            told = f"{reason}; {times} times in a row, of which train.restarts={self._restarts} are borne: {lost}"
            raise LostError(told) from error
        where = [note for note in getattr(error, "__notes__", ()) if "\n" not in note]
        print(
            f"warning: {'; '.join([reason, *where])}\nwarning: lost, and not counted: {lost}; begun anew "
            f"({times} in a row, of which train.restarts={self._restarts} are borne)",
            file=sys.stderr,
        )
        self._pause = max(self._pause, min(BACKOFF * 2 ** (times - 2), LONGEST) if times > 1 else 0.0)
        return reason

    def interrupt(self, lane: int, reason: str) -> None:
        """Take in that the environment of a lane that was asked for nothing is gone."""
        if self._seeds[lane] is None or lane in self._lost or lane in self._anew:
            return
        if self.over[lane]:
            self._anew.add(lane)
        else:
            self._lost[lane] = reason

    def reason(self, lane: int) -> str:
        """Why a lane has lost its episode, which it is then told."""
        return self._lost.pop(lane)

    def tell(self, lane: int, begins: bool, reason: str) -> None:
        """Take in that a lane is told of its loss; where it `begins`, a step is still to truncate it."""
        self.over[lane] = not begins
        self._lost.pop(lane, None)
        self._anew.discard(lane)
        if begins:
            self._lost[lane] = reason
        else:
            self._anew.add(lane)

    def is_lost(self, lane: int) -> bool:
        """Whether a lane has lost its episode, and has not begun anew yet."""
        return lane in self._lost or lane in self._anew

    def go_on(self, lane: int, seed: int, later: int, over: bool) -> None:
        """Take in that a lane goes on in the `later`-th episode after that of a seed, which may be `over`."""
        self.begin([lane], np.array([seed]))
        self._later[lane], self.over[lane] = later + over, over

    def wait(self) -> None:
        """Give what is broken time to mend: none after a first loss, and longer with each in a row."""
        pause, self._pause = self._pause, 0.0
        if pause:
            time.sleep(pause)

    def _episode(self, lane: int) -> str:
        later = self._later[lane]
        which = f"episode {later} after that of" if later else "the episode of"
        return f"environment {lane}, {which} seed {self._seeds[lane]}"
