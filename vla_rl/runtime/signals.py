"""What a run is told from outside while it works."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn, Self

INTERRUPTED = 143
"""Exit code after SIGTERM (128 + 15), or Ctrl-C: a checkpoint was written."""
GRACE, AGAIN = 4.0, 1.0
"""Seconds that a run has to end by itself once it was told to, and between two tries to interrupt it after that."""


class Interrupted(Exception):  # noqa: N818 (it is no error)
    """A run that was told to stop did not come to its end by itself, such as where it waits for what hangs."""


class Stop:
    """Remembers SIGTERM and SIGINT, so that the loop ends after its present step, or is interrupted in it.

    However often SIGTERM comes, it is one wish. A second Ctrl-C, `GRACE` seconds after the first, ends at once.

    As a context it hears them, and what heard them before is put back at its end. Python lets the main thread alone
    hear signals; in another one nothing is heard.

    Attributes:
        asked: whether the run is to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._since = 0.0
        self._held = self._over = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heard = {signal.SIGTERM: self._ask, signal.SIGINT: self._ask, signal.SIGALRM: self._interrupt}
            self._before = {number: signal.signal(number, handler) for number, handler in heard.items()}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in self._before.items():
            # None stands for a handler of another language's, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is interrupted within, such as a save."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    def over(self) -> None:
        """The work is done and saved: nothing is interrupted any more while its parts are closed, however slowly."""
        self._over = True

    def end(self, said: str) -> NoReturn:
        """End the program as one that was interrupted, and say how it may go on."""
        self.over()
        print(f"interrupted {said}", file=sys.stderr)
        raise SystemExit(INTERRUPTED)

    def _ask(self, number: int, frame: Any) -> None:
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, GRACE, AGAIN)
        elif number == signal.SIGINT and time.monotonic() - self._since > GRACE:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: Any) -> None:
        if not (self._held or self._over):
            raise Interrupted(f"told to stop, and still at work {GRACE:g} s later")
