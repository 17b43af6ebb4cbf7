"""A page that is visited as a person would visit it: over the network, in real time, with keyboard and mouse.

Environments have a `Tab`, whose clock stands still between steps and which goes nowhere; this is for those who look at
a page of ours, in tests and for pictures.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sims.screen.interaction import Gesture
from sims.web.chromium import PATIENCE, Browser, Call, PageError, ScriptError, SlowError
from sims.web.hand import Event, events
from sims.web.session import Session

T = TypeVar("T")
OFTEN = 0.03
"""Seconds between two looks at what is waited for."""


class Visit:
    """One visitor of an address.

    browser: an online one. script: runs in the page before anything of its own. dark: whether the visitor's system is.

    Raises:
        PageError: from every method, where the page crashed, hung or threw.
    """

    def __init__(
        self, browser: Browser, url: str, size: tuple[int, int] = (1280, 900), script: str = "", dark: bool = False
    ) -> None:
        self.browser, self.errors = browser, list[str]()
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        place = {"url": "about:blank", "browserContextId": self._context, "enableBeginFrameControl": True}
        self.target = browser.call("Target.createTarget", width=size[0], height=size[1], **place)["targetId"]
        self._session = Session(browser, browser.opened(self.target), PATIENCE)
        browser.listen(self._session.name, self)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self._session.calls(
            ("Page.enable", {}),
            ("Runtime.enable", {}),
            ("Emulation.setFocusEmulationEnabled", {"enabled": True}),
            ("Emulation.setEmulatedMedia", {"features": [scheme]}),
            ("Emulation.setDeviceMetricsOverride", screen),
            ("Page.addScriptToEvaluateOnNewDocument", {"source": script}),
            ("Runtime.runIfWaitingForDebugger", {}),
        )
        self.go(url)

    def go(self, url: str) -> None:
        """Load an address."""
        self._session.calls(("Page.navigate", {"url": url}))
        self.until("document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """The value of an expression in the page. Raises ScriptError where it throws."""
        said = {"expression": code, "returnByValue": True, "awaitPromise": True}
        (answer,) = self._session.calls(("Runtime.evaluate", said))
        if "exceptionDetails" in answer:
            raise ScriptError(str(answer["exceptionDetails"].get("exception", {}).get("description", answer)))
        return answer["result"].get("value")

    def until(self, code: str, within: float = PATIENCE) -> Any:
        """Wait until an expression is true in the page, and return its value. Raises SlowError."""
        return self.wait(lambda: self.run(code), code, within)

    def wait(self, ready: Callable[[], T], what: str = "", within: float = PATIENCE) -> T:
        """Wait until `ready()` is true, and return that, drawing the page meanwhile. Raises SlowError."""
        deadline = time.monotonic() + within
        while not (found := ready()):
            if time.monotonic() > deadline:
                raise SlowError(f"not within {within:g} s: {what}")
            self.draw()
            time.sleep(OFTEN)
        return found

    def do(self, gesture: Gesture) -> None:
        """A gesture of mouse or keyboard; places are pixels of the page."""
        self._happen(events(gesture, 100))

    def press(self, key: str, code: int = 0, held: int = 0) -> None:
        """Press a key down, and leave it; `code` is its number, `held` the modifiers beside it."""
        self._happen([self.key("rawKeyDown", key, code, held), self.key("keyUp", key, code, held)])

    def hold(self, key: str, code: int = 0) -> None:
        """Press a key down."""
        self._happen([self.key("rawKeyDown", key, code)])

    def leave(self, key: str, code: int = 0) -> None:
        """Let a key go."""
        self._happen([self.key("keyUp", key, code)])

    @staticmethod
    def key(what: str, key: str, code: int = 0, held: int = 0) -> Event:
        """The event of a key."""
        return "Input.dispatchKeyEvent", {"type": what, "key": key, "windowsVirtualKeyCode": code, "modifiers": held}

    def where(self, selector: str, at: tuple[float, float] = (0.5, 0.5)) -> tuple[float, float]:
        """The pixel of the page at a share of an element's width and height."""
        box = self.run(
            f"(b => [b.left, b.top, b.width, b.height])(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        return box[0] + at[0] * box[2], box[1] + at[1] * box[3]

    def click(self, selector: str, at: tuple[float, float] = (0.5, 0.5)) -> None:
        """Click at a share of an element's width and height."""
        self.do(Gesture("click", at=self.where(selector, at)))

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        for _ in range(20):
            said = self.draw(screenshot={"format": "png"})
            if "screenshotData" in said:
                return base64.b64decode(said["screenshotData"])
            time.sleep(OFTEN)
        raise SlowError("the page does not draw")

    def draw(self, **parameters: Any) -> Mapping[str, Any]:
        """Draw a frame."""
        with self.browser.drawing:
            return self._session.calls(("HeadlessExperimental.beginFrame", parameters))[0]

    def close(self) -> None:
        """Leave, as if the computer were shut."""
        self.browser.forget(self._session.name)
        if self.browser.alive:
            self.browser.call("Target.disposeBrowserContext", browserContextId=self._context)

    def _happen(self, calls: Sequence[Call]) -> None:
        """Wait until the page has dealt with the events, which it may do in frames only."""
        numbers = self.browser.send(calls, self._session.name)
        deadline = time.monotonic() + PATIENCE
        while not self.browser.arrived(numbers, within=OFTEN):
            if time.monotonic() > deadline:
                raise SlowError("the page does not deal with what happens")
            self.draw()
        self._session.answers(numbers)

    # As a `Listener` of the browser.

    def notice(self, event: str, what: Mapping[str, Any], session: str) -> None:
        """Keep what the page has thrown."""
        if event == "Runtime.exceptionThrown":
            details = what["exceptionDetails"]
            self.errors.append(str(details.get("exception", {}).get("description", details.get("text"))))
        elif event == "Inspector.targetCrashed":
            self._session.crashed = True

    def adopt(self, target: str, session: str, shares: bool) -> None:
        """It opens no pages."""
        raise PageError("the page has opened another one")

    def detached(self) -> None:
        """Take in that the page has closed itself."""
        self._session.closed = True
