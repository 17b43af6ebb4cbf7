"""The commands to one page, and its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sims.web.chromium import Browser, Call, ClosedError, PageError

T = TypeVar("T")


class Session:
    """Speaks with one page of a browser, as long as the page is there.

    Args:
        browser: where the page is open.
        name: the session's, as the browser calls it.
        patience: seconds within which the page must answer.

    Attributes:
        crashed: whether the page has.
        closed: whether the page has closed itself.

    Raises:
        PageError: from every method that waits, where the page crashed, hung, threw or closed itself.
    """

    def __init__(self, browser: Browser, name: str, patience: float) -> None:
        self.browser, self.name, self.patience = browser, name, patience
        self.crashed = self.closed = False

    def calls(self, *calls: Call) -> list[dict[str, Any]]:
        """What the page answers to these commands, one after the other."""
        return self.answers(self.browser.send(calls, self.name))

    def answers(self, numbers: list[int]) -> list[dict[str, Any]]:
        """The answers to these commands, which have been sent."""
        return self.browser.answers(numbers, self.patience, self._check)

    def until(self, ready: Callable[[], T | None], within: float | None = None) -> T:
        """Wait until `ready()` is not None, for as long as `patience` unless told otherwise, and return that."""

        def looked() -> T | None:
            self._check()
            return ready()

        return self.browser.until(looked, self.patience if within is None else within)

    def tell(self, *calls: Call) -> None:
        """Send commands, whatever the page answers."""
        for method, parameters in calls:
            self.browser.tell(method, self.name, **parameters)

    def _check(self) -> None:
        if self.crashed:
            raise PageError("the page crashed")
        if self.closed:
            raise ClosedError("the page has closed itself")
