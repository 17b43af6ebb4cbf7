"""The virtual clock of one page: it stands still, unless it is told how far to move; see also `clock.js`."""

from __future__ import annotations

import contextlib
from typing import Any

from sims.web.chromium import Call, SlowError
from sims.web.session import Session

EPOCH = 1704110400.0
"""When every browser's clock begins, in seconds since 1970, the one of clock.js: 2024-01-01 12:00."""
STANDSTILL: Call = ("Emulation.setVirtualTimePolicy", {"policy": "pause", "initialVirtualTime": EPOCH})
"""What begins the clock of a page, which does not move yet."""
INSTANT = 0.001
"""Milliseconds that pass, while a page is waited for, in which no time shall pass."""
_PAST = 0.5
"""Milliseconds by which a step ends later than it should, so that what is due at its end has happened."""
_SHORT = 0.25
"""Milliseconds of a turn that may be missing: the browser says halves."""
_TURN = 16.0
"""Milliseconds after which a page and its workers take turns, so that they answer each other within a step."""
_BUSY = 0.5
"""Seconds that a worker may take to look at the clock; one that is slower goes its own way."""
_NETWORK = 5.0
"""Seconds that the page's clock waits for what is being fetched."""
_STARVED = 10_000
"""Tasks that may follow each other without any time passing, before time is made to pass."""


class Clock:
    """Lets a page's time pass, and that of its workers. All times are in milliseconds.

    Args:
        session: the page's.

    Attributes:
        start: when the episode began, a time of `elapsed`.
        due: where the steps so far should have brought the page, counted from `start`.
        waits: whether the clock stands still while something is fetched.
        workers: the sessions of the page's workers, which share its time.

    Raises:
        PageError: from every method that lets time pass, or asks the page for it.
    """

    def __init__(self, session: Session) -> None:
        self.start = self.due = 0.0
        self.waits = True
        self.workers: list[str] = []
        self._session = session
        self._elapsed = self._now = 0.0
        # Frames have times of the browser's own: where its clock began, how far frames are ahead, the last one's.
        self._base = self._shift = self._ticks = 0.0
        # How often time was granted, and how often that was over; less often where a page went before its time was.
        self._granted = self._expired = 0

    def opened(self, session: Session, shares: bool) -> Clock:
        """The clock of a page that this one has opened; `shares`: they know each other."""
        clock = Clock(session)
        clock._ticks, clock.start = self._ticks, -self.due
        if shares:  # such pages have one process, and one clock; others begin one of their own
            clock._base, clock._shift, clock.start = self._base, self._shift, self.start
        return clock

    def elapsed(self) -> float:
        """Where the browser's clock stands for the page, since EPOCH."""
        self._elapsed = self._read()
        return self._elapsed

    def _read(self) -> float:
        (answer,) = self._session.calls(("Performance.getMetrics", {}))
        seconds = next(each["value"] for each in answer["metrics"] if each["name"] == "Timestamp")
        return round(2 * (1000 * float(seconds) - self._base)) / 2

    def begin(self) -> None:
        """Begin an episode now."""
        self._granted = self._expired
        self.start, self._now, self.due = self._elapsed, 0.0, 0.0

    def rejoin(self) -> None:
        """Go on where the clock stands, after another tab has been shown."""
        self._now = self.elapsed() - self.start
        self.due = float(int(self._now))

    def take_over(self, opener: Clock) -> None:
        """Go on where the clock of the page stands that has opened this one."""
        self._elapsed = opener._elapsed if self.start == opener.start else 0.0
        self._now = self.due = opener._now

    def correct(self, elapsed: float, now: float) -> None:
        """Take in what the page's own clock says: since EPOCH, and since the episode began."""
        self._elapsed, self._now = elapsed, now + (elapsed - self.start) % 1
        self.due = min(self.due, now)  # a page in a process of its own begins the clock anew

    def frame(self) -> float:
        """The time of the next frame, by the browser's own count."""
        self._ticks = max(self._ticks + INSTANT, self._elapsed + self._shift)
        return self._ticks

    def rebase(self, base: float) -> None:
        """Keep frames to the page's clock, which has begun or goes on at `base` in a process of its own."""
        if base != self._base:  # no frame may lie before another
            self._base, self._shift = base, max(base, self._ticks) - self._elapsed

    def expire(self) -> None:
        """Take in that the time that was granted is over."""
        self._expired += 1

    def catch_up(self) -> None:
        """Move to where the page should be."""
        self.advance(self.due + _PAST - self._now)

    def advance(self, milliseconds: float) -> None:
        """Let so much time pass: each timer in its turn, then what follows from it."""
        while milliseconds > 0:
            turn = min(milliseconds, _TURN) if self.workers else milliseconds
            self._pass(turn)
            self._wake()
            self._elapsed, self._now, milliseconds = self._elapsed + turn, self._now + turn, milliseconds - turn

    def _pass(self, milliseconds: float) -> None:
        """Let the page's time pass. It stands still while something is fetched.

        Where that takes long, or never ends as a download does, it goes on until another page is shown.
        """
        began, waited = self._elapsed, self.waits
        if not waited or not self._grant("pauseIfNetworkFetchesPending", milliseconds):
            self.waits = False
            self._grant("advance", milliseconds - (self._read() - began if waited else 0.0))
        # What was granted and given up ends all the same, when it would have: perhaps before this turn's end.
        while self._granted > self._expired and (left := milliseconds - (self._read() - began)) > _SHORT:
            self._grant("advance", left)

    def _grant(self, policy: str, milliseconds: float) -> bool:
        """Let time pass until it has been granted for long enough; False where the page's fetching is given up before.

        Raises:
            SlowError: it takes too long for another reason.
        """
        before, waited = self._expired, self.waits
        self._move(policy, milliseconds)

        def over() -> bool | None:
            return True if self._expired > before else False if waited and not self.waits else None

        if not waited:
            return self._session.until(over)
        with contextlib.suppress(SlowError):
            return self._session.until(over, min(_NETWORK, self._session.patience))
        return False

    def _move(self, policy: str, milliseconds: float) -> None:
        """Begin to let the clock move, also that of a page that comes meanwhile in a process of its own."""
        turn: dict[str, Any] = {"policy": policy, "initialVirtualTime": EPOCH}
        turn |= {"budget": max(milliseconds, INSTANT), "maxVirtualTimeTaskStarvationCount": _STARVED}
        (answer,) = self._session.calls(("Emulation.setVirtualTimePolicy", turn))
        base = answer["virtualTimeTicksBase"]
        self._granted = self._granted + 1 if base == self._base else self._expired + 1
        self.rebase(base)

    def _wake(self) -> None:
        """Let workers see that time has passed, which they share with the page; they do not look by themselves."""
        browser = self._session.browser
        look = [("Runtime.evaluate", {"expression": "0"})] * 2  # the first one wakes it, the second follows what is due
        for worker in list(self.workers):
            numbers = browser.send(look, worker)
            if not browser.arrived(numbers, within=_BUSY):
                self.workers.remove(worker)
            browser.ignore(numbers)
