"""What a run is told from outside while it works."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any, Self


class Stop:
    """Remembers SIGTERM and SIGINT, so that the loop ends after its present step; a second one ends at once.

    As a context it hears them, and what heard them before is put back at its end. Python lets the main thread alone
    hear signals; in another one nothing is heard.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            # None stands for a handler of another language's, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
