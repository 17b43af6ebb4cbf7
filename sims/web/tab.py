"""One page of a browser: loaded, stepped, drawn, and the pages that it opens."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sims.web.chromium import PATIENCE, WAITING, Browser, Call, PageError, ScriptError, SlowError
from sims.web.clock import INSTANT, STANDSTILL, Clock
from sims.web.page import path_of
from sims.web.session import Session

REPORT = "__vla_report"
"""What page.js calls to tell of a frame."""
FILES: dict[str, Any] = {"patterns": [{"urlPattern": "file:*"}]}
"""Requests that wait until they are allowed."""
ANYWHERE = Path("/")
_SOON, _REPORTED = 0.005, 0.5
"""Seconds until a page that has not dealt with an event, or not reported a frame, is given another frame."""
_STORED = "local_storage,indexeddb,cache_storage"
"""What pages keep; as for cookies, see `open`."""


class Opened(NamedTuple):
    """A page that the page of another tab has opened, which waits until it is told to begin.

    target, session: what the browser calls it. shares: whether the two know each other.
    """

    opener: Tab
    target: str
    session: str
    shares: bool


class Tab:
    """One page. Its clock stands still between steps, since the browser's time is virtual.

    Args:
        browser: where it is opened.
        size: width and height of the page in pixels.
        patience: seconds within which the page must answer.
        opened: the page, where another tab's has opened it, see `popup`; None for a tab of one's own, which has storage
            of its own.

    Attributes:
        reach: the folder whose files pages may load; None for none.
        opener: the tab whose page has opened this one; None for a tab of one's own.
        loads: how many pages have been loaded in it.
        target: the page's name in the browser.
        session: how the page is spoken with.
        clock: the page's.
        scripts: gives `script` and `worker` of `open` for a page that this one opens in an episode that began at a time
            of `Clock.elapsed`.

    Raises:
        PageError: from every method, where the page crashed, hung, threw or closed itself.
    """

    def __init__(
        self, browser: Browser, size: tuple[int, int], patience: float = PATIENCE, opened: Opened | None = None
    ) -> None:
        self.browser, self.size, self.opener = browser, size, opened.opener if opened else None
        self.loads = self._moves = 0
        self._script: list[str] = []
        self._kept = self._worker = self._address = ""
        self._unreachable = False
        self._numbered, self._waiting, self._leaving, self._said = 0, 0, False, ""
        self._going, self._origins = set[str](), set[str]()
        self._popups: list[Tab] = []
        self.scripts: Callable[[float], tuple[str, str]] = lambda start: ("", "")
        self.reach: Path | None = opened.opener.reach if opened else ANYWHERE
        if opened is not None:
            self._context: str = opened.opener._context
            self.target = opened.target
            self.session = Session(browser, opened.session, patience)
            self.clock: Clock = opened.opener.clock.opened(self.session, opened.shares)
            browser.listen(self.session.name, self)
            return
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        place: dict[str, Any] = {
            "url": "about:blank",
            "browserContextId": self._context,
            "enableBeginFrameControl": True,
        }
        self.target = browser.call("Target.createTarget", width=size[0], height=size[1], **place)["targetId"]
        self.session = Session(browser, browser.opened(self.target), patience)
        self.clock = Clock(self.session)
        browser.listen(self.session.name, self)
        begun, *_ = self.session.calls(*self._beginning("", clock=True))
        self.clock.rebase(begun["virtualTimeTicksBase"])

    @property
    def closed(self) -> bool:
        """Whether its page has closed itself."""
        return self.session.closed

    @property
    def fresh(self) -> bool:
        """Whether another episode may begin in it, as if none had been before: its history is that of one page.

        A page cannot go to a fragment of itself, nor to a page that is its own address.
        """
        stays = self.opener is None and not self.closed and not self._popups and self._moves <= 1
        return stays and _replaceable(self._address)

    def open(self, url: str, script: str, worker: str = "") -> None:
        """Load a page, as if none had been before.

        `script` runs in it and in its frames before anything of their own; so does `worker`, a function of a worker's
        number, in each of its workers.
        """
        loads, self._moves = self.loads, 0
        self._worker, self._numbered = worker, 0
        self.clock.begin()
        self._waiting, origins = 0, self._origins
        self._origins = set()
        calls = [
            *(("Storage.clearDataForOrigin", {"origin": each, "storageTypes": _STORED}) for each in origins),
            ("Network.clearBrowserCookies", {}),
            *(("Page.removeScriptToEvaluateOnNewDocument", {"identifier": each}) for each in self._script),
            ("Page.addScriptToEvaluateOnNewDocument", {"source": script}),
        ]
        self._script, self._origins = [self.session.calls(*calls)[-1]["identifier"]], set()
        if self._address:
            leave = {"expression": f"self[Symbol.for('vla_rl')].leave({json.dumps(url)})"}
            self.session.calls(("Runtime.evaluate", leave))
        else:
            (went,) = self.session.calls(("Page.navigate", {"url": url}))
            if went.get("errorText"):
                raise PageError(f"{url}: {went['errorText']}")
        self.session.until(lambda: self._moves or None)
        self._numbered, self.clock.workers = 0, []
        deadline = time.monotonic() + self.session.patience
        while self.loads == loads:
            if time.monotonic() > deadline:
                raise SlowError(f"{url} is not loaded within {self.session.patience:g} s")
            self.clock.advance(INSTANT)
        if self._unreachable:
            raise PageError(f"{url}: it cannot be reached")
        self._address = url

    def adopt(self, target: str, session: str, shares: bool) -> None:
        """Let a page that this one has opened begin, as long as it waits; `shares`: they know each other."""
        tab = Tab(self.browser, self.size, self.session.patience, Opened(self, target, session, shares))
        tab._kept, tab._worker, tab.scripts = *self.scripts(tab.clock.start), self.scripts
        self._popups.append(tab)
        # Pages that know each other have one clock.
        tab.session.tell(*tab._beginning(tab._kept, clock=not shares))

    def popup(self) -> Tab | None:
        """The tab that the page has opened first, once it is loaded; None where there is none."""
        if not self._popups:
            return None
        tab = self._popups.pop(0)
        tab.clock.take_over(self.clock)
        tab._settle()
        tab._draw()
        if not tab._said:  # an empty page has no script, and one that takes its place has that page's
            tab.run(tab._kept)
        return tab

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression, of JSON's types."""
        parameters = {"expression": code, "returnByValue": True, "userGesture": True}
        (answer,) = self.session.calls(("Runtime.evaluate", parameters))
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise ScriptError(details.get("exception", {}).get("description", details["text"]).partition("\n")[0])
        return answer["result"].get("value")

    def step(self, events: Sequence[Call], milliseconds: float) -> tuple[dict[str, Any], str]:
        """Let events of mouse and keyboard happen, let the clock move by so many milliseconds, and draw a frame.

        Where the page is left, the frame shows the next one. Pictures that are in view are waited for.

        Returns:
            What the page reported in the frame, and its picture as the base64 code of a PNG file; "" where it is the
            last one.
        """
        before = self.loads
        self.clock.due += milliseconds
        if events:
            self._happen(events)
        self.clock.catch_up()
        self._settle()
        said, picture = self._look()
        if self.loads > before:  # the first picture may still show the page before
            self._waiting = 0
            said, picture = self._look(picture)
        while said["incomplete"] > self._waiting:  # they have come into view by this frame, or are never fetched
            self._waiting = said["incomplete"]
            self.clock.advance(INSTANT)
            said, picture = self._look(picture)
        self._waiting = said["incomplete"]
        return said, picture

    def _beginning(self, script: str, clock: bool) -> list[Call]:
        """What a page that waits is told before it begins; `script` runs in it before anything of its own."""
        screen = {"width": self.size[0], "height": self.size[1], "deviceScaleFactor": 1, "mobile": False}
        return [
            *([STANDSTILL] if clock else []),
            ("Page.enable", {}),
            ("Runtime.enable", {}),
            ("Runtime.addBinding", {"name": REPORT}),
            ("Inspector.enable", {}),
            ("Performance.enable", {}),
            ("Emulation.setFocusEmulationEnabled", {"enabled": True}),
            ("Emulation.setDeviceMetricsOverride", screen),
            ("Page.setDownloadBehavior", {"behavior": "deny"}),
            *self._watching(),
            ("Target.setAutoAttach", {**WAITING, "filter": [{"type": "worker"}]}),
            ("Page.addScriptToEvaluateOnNewDocument", {"source": script}),
            ("Runtime.runIfWaitingForDebugger", {}),
        ]

    def watch(self, reach: Path | None) -> None:
        """Have pages load the files of this folder only, or none; "/" is any file, and none is waited for."""
        self.reach = reach
        self.session.tell(*self._watching())

    def _watching(self) -> list[Call]:
        return [] if self.reach == ANYWHERE else [("Fetch.enable", FILES)]

    def _settle(self) -> None:
        """Wait until a page that is being left has given way to the next one, or stays."""
        deadline = time.monotonic() + self.session.patience
        while self._leaving and time.monotonic() < deadline:
            self.clock.advance(INSTANT)
        self._leaving = False

    def _happen(self, events: Sequence[Call]) -> None:
        """Wait until the page has dealt with the events; movements and the wheel it deals with in frames only."""
        numbers = self.browser.send(events, self.session.name)
        if events[-1][1].get("type") in ("mouseMoved", "mouseWheel"):
            deadline, dealt_with = time.monotonic() + self.session.patience, False
            while not dealt_with and time.monotonic() < deadline:
                self._draw()
                dealt_with = self.browser.arrived(numbers, within=_SOON)
        self.session.answers(numbers)

    def _look(self, picture: str = "") -> tuple[dict[str, Any], str]:
        """Draw a frame. Returns what the page reported in it and its picture; `picture` where it is the last one."""
        deadline = time.monotonic() + self.session.patience
        while time.monotonic() < deadline:
            answer = self._draw(screenshot={"format": "png", "optimizeForSpeed": True})
            picture = answer.get("screenshotData", picture)
            if self._said:
                said = json.loads(self._said)
                self.clock.correct(said.pop("elapsed"), said.pop("now"))
                return said, picture
            self.clock.advance(INSTANT)  # another page is on its way, and has no frame for us yet
        raise SlowError(f"no frame within {self.session.patience:g} s")

    def _draw(self, **parameters: Any) -> dict[str, Any]:
        """Draw a frame, and wait for the page's report of it, which only a page that is being left omits."""
        drawing = ("HeadlessExperimental.beginFrame", {"frameTimeTicks": self.clock.frame(), **parameters})
        self._said = ""
        with self.browser.drawing:
            (answer,) = self.session.calls(drawing)
        with contextlib.suppress(SlowError):
            self.browser.until(lambda: bool(self._said) or None, _REPORTED)
        return answer

    def notice(self, event: str, what: Mapping[str, Any], session: str) -> None:
        """Take in an event of the page or of one of its workers."""
        if event == "Runtime.bindingCalled" and what["name"] == REPORT:
            self._said = what["payload"]
        elif event == "Fetch.requestPaused":
            path, refusal = path_of(what["request"]["url"]), {"errorReason": "AccessDenied"}
            beside = path is not None and self.reach is not None and path.is_relative_to(self.reach)
            method, more = ("Fetch.continueRequest", {}) if beside else ("Fetch.failRequest", refusal)
            self.browser.tell(method, session, requestId=what["requestId"], **more)
        elif event == "Emulation.virtualTimeBudgetExpired":
            if session == self.session.name:
                self.clock.expire()
        elif event == "Page.loadEventFired":
            self.loads += 1
            self._leaving = False
        elif event.startswith(("Page.frame", "Page.navigated")):
            self._follow(event, what)
        elif event == "Page.javascriptDialogOpening":  # nobody is there to read it; the page waits for an answer
            said = {"accept": True, "promptText": what.get("defaultPrompt", "")}
            self.session.tell(("Page.handleJavaScriptDialog", said))
        elif event == "Target.attachedToTarget":
            self._employ(what["sessionId"])
        elif event == "Target.detachedFromTarget" and what["sessionId"] in self.clock.workers:
            self.clock.workers.remove(what["sessionId"])
        elif event in ("Inspector.targetCrashed", "Inspector.detached") and session == self.session.name:
            self.session.crashed = True

    def detached(self) -> None:
        """Take in that the page has closed itself."""
        self.session.closed = True

    def _follow(self, event: str, what: Mapping[str, Any]) -> None:
        """Keep in mind whether the page is being left, and where it has been."""
        frame = what["frame"]["id"] if "frame" in what else what.get("frameId")
        if event == "Page.frameNavigated":
            self._origins.add(what["frame"]["securityOrigin"])
            if frame == self.target:
                self._unreachable = "unreachableUrl" in what["frame"]
            self._going.discard(frame)
            self.clock.waits = self.clock.waits or frame == self.target
        elif event == "Page.frameStartedNavigating" and "Document" in what["navigationType"]:
            self._going.add(what["frameId"])
            self._leaving = self._leaving or frame == self.target
        elif event == "Page.frameStoppedLoading":
            if frame in self._going:  # it stays where it is, which the browser's clock does not see
                self.clock.waits = False
            self._going.discard(frame)
            self._leaving = self._leaving and frame != self.target
        if frame == self.target:
            self._moves += event in ("Page.frameNavigated", "Page.navigatedWithinDocument")

    def _employ(self, session: str) -> None:
        """Take a worker that waits, of the page or of another worker, and let it go on."""
        self._numbered += 1
        self.clock.workers.append(session)
        self.browser.listen(session, self)
        begin = {"expression": f"({self._worker})({self._numbered})" if self._worker else ""}
        for method, parameters in (
            ("Target.setAutoAttach", WAITING),
            *self._watching(),
            ("Runtime.evaluate", begin),
            ("Runtime.runIfWaitingForDebugger", {}),
        ):
            self.browser.tell(method, session, **parameters)

    def leave(self) -> None:
        """Close the page alone, so that one that it has opened takes its place."""
        self.browser.forget(self.session.name)
        self.browser.tell("Target.closeTarget", targetId=self.target)

    def close(self) -> None:
        """Close the page, and those that have opened it or that it has opened; a browser that cannot is ended."""
        self.browser.forget(self.session.name)
        if not self.browser.alive:
            return
        try:
            end = ("Target.disposeBrowserContext", {"browserContextId": self._context})
            self.browser.answers(self.browser.send([end]), self.session.patience)
        except PageError:
            self.browser.close()


def _replaceable(url: str) -> bool:
    """Whether a page may go to itself at this address, as if it were another one."""
    return "#" not in url and not url.startswith(("data:", "about:"))
