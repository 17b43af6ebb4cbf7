"""Chromium without a window, over the DevTools protocol: one process, several tabs, nothing left behind.

Commands go through two pipes, so that there is no port to collide on. A shell stands guard: it starts the browser in a
process group of its own, and kills the whole group once its lifeline to us is cut, which happens even when we are
killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vla_rl.registry import SetupError

NAMES = ("chromium-headless-shell", "chrome-headless-shell")
"""What the program may be called; only these have frames on demand (`HeadlessExperimental`)."""
PATIENCE = 30.0
"""Seconds within which a page must have answered."""
INSTALL = "bash scripts/install_suite.sh web"

EPOCH = 1704110400.0
"""When every browser's clock begins, in seconds since 1970, the one of clock.js: 2024-01-01 12:00."""
_INSTANT = 0.001
"""Milliseconds that pass, while a page is waited for, in which no time shall pass."""
_SOON, _REPORTED = 0.005, 0.5
"""Seconds until a page that has not dealt with an event, or not reported a frame, is given another frame."""
_PAST = 0.5
"""Milliseconds by which a step ends later than it should, so that what is due at its end has happened."""
_TURN = 16.0
"""Milliseconds after which a page and its workers take turns, so that they answer each other within a step."""
_BUSY = 0.5
"""Seconds that a worker may take to look at the clock; one that is slower goes its own way."""
_NETWORK = 5.0
"""Seconds that the page's clock waits for what is being fetched."""
_STARVED = 10_000
"""Tasks that may follow each other without any time passing, before time is made to pass."""

_STORED = "local_storage,indexeddb,cache_storage"
"""What pages keep; as for cookies, see `open`."""
_WAITING: dict[str, Any] = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
"""How pages and workers are heard of as they open: they wait until they are told to begin."""

_GUARD = """
profile=$1; shift
exec 3<&2 4>&1 2>"$profile/log" >/dev/null
setsid "$@" </dev/null &
echo "$!" >&4
exec 3<&- 4>&-
read -r _
kill -9 "-$!" "$!"
wait
rm -rf "$profile"
"""
"""Its input is the lifeline; its output is what the browser says, and its error stream, read from, what it is told."""
_FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    # A frame is drawn when it is asked for, and then all of it.
    "--enable-begin-frame-control",
    "--run-all-compositor-stages-before-draw",
    "--disable-threaded-animation",
    "--disable-threaded-scrolling",
    "--disable-checker-imaging",
    "--disable-features=PaintHolding",
    # Frames of other sites lie in the page's process, so that its clock is theirs.
    "--disable-site-isolation-trials",
    "--disable-smooth-scrolling",
    "--disable-gpu",
    # The same pixels on every machine.
    "--font-render-hinting=none",
    "--disable-lcd-text",
    "--force-color-profile=srgb",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
    "--lang=en-US",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--allow-file-access-from-files",
    "--log-level=3",
)
_OFFLINE = ("--proxy-server=127.0.0.1:9", "--proxy-bypass-list=<-loopback>", "--host-resolver-rules=MAP * ~NOTFOUND")
"""Every request, also one to this machine, goes to a proxy that is not there."""

T = TypeVar("T")
Call = tuple[str, Mapping[str, Any]]
"""A command of the DevTools protocol and its parameters."""
_cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
BROWSERS = min(4, len(_cores(0)))
"""Most browsers of a process: each draws one frame at a time."""
_running: weakref.WeakValueDictionary[tuple[int, bool, int], Browser] = weakref.WeakValueDictionary()
"""By process, whether online, and number: tabs share a browser, which a fork must not."""
_starting = threading.Lock()


class PageError(RuntimeError):
    """A page or the browser crashed, hung, or threw where it must not."""


class SlowError(PageError):
    """The answer did not come in time."""


class ScriptError(PageError):
    """An expression threw in the page."""


class ClosedError(PageError):
    """The page has closed itself."""


def program() -> str:
    """The path of the browser. Raises SetupError where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise SetupError(f"no {' or '.join(NAMES)} is installed; `{INSTALL}` installs it")
    return found


def shared(online: bool = False) -> Browser:
    """That of this process's browsers with the fewest tabs; a new one while all have some and there may be more.

    It ends when nobody holds it any more.
    """
    with _starting:
        keys = [(os.getpid(), online, number) for number in range(BROWSERS)]
        there = {key: found for key in keys if (found := _running.get(key)) is not None and found.alive}
        idlest = min(there.values(), key=lambda browser: browser.tabs, default=None)
        if idlest is None or (idlest.tabs and len(there) < BROWSERS):
            idlest = _running[next(key for key in keys if key not in there)] = Browser(online)
        return idlest


class Browser:
    """A running Chromium with a profile of its own. Threads may share it, each with tabs of its own.

    Args:
        online: whether pages may use the network.

    Attributes:
        group: its process group.
        profile: the folder that it writes to, which goes with it.
        alive: whether it is there, as far as we know.
        drawing: held while a frame of any of its tabs is drawn; frames that overlap end its GPU process.

    Raises:
        SetupError: it is not installed, or does not start.
    """

    def __init__(self, online: bool = False) -> None:
        path, self.profile = program(), tempfile.mkdtemp(prefix="chromium-")
        command = [path, *_FLAGS, *(() if online else _OFFLINE), f"--user-data-dir={self.profile}"]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to run as root otherwise
        told, self._in = os.pipe()
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", self.profile, *command, "about:blank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            env={**os.environ, "TZ": "UTC"},
            start_new_session=True,
            bufsize=0,
        )
        os.close(told)
        assert self._guard.stdout is not None
        self._out = self._guard.stdout.fileno()
        self._end = weakref.finalize(self, _end, self._guard, self._in, os.getpid())
        self.group = int(self._line())
        self._rest = b""
        self._last = 0
        self._answers: dict[int, Any] = {}
        self._ignored: set[int] = set()
        self._tabs: weakref.WeakValueDictionary[str, Tab] = weakref.WeakValueDictionary()
        self._writing, self._inbox, self._reading = threading.Lock(), threading.Condition(), False
        self.drawing = threading.Lock()
        self.alive = True
        self._opened: dict[str, str] = {}
        try:
            # Every page that opens waits until it is told what to do.
            self.call("Target.setAutoAttach", **_WAITING, filter=[{"type": "page"}])
        except PageError as error:
            said = self._log() or str(error)
            self.close()
            raise SetupError(f"{path} does not start: {said}") from error

    @property
    def tabs(self) -> int:
        """How many are open."""
        return len({id(tab) for tab in list(self._tabs.values())})

    def _log(self) -> str:
        """The end of what the browser has complained of; "" where it has not."""
        with contextlib.suppress(OSError):
            return Path(self.profile, "log").read_text("utf-8", "replace").strip()[-400:]
        return ""

    def _line(self) -> bytes:
        """The first line that arrives, which the guard writes: the group's number."""
        line = b""
        while letter := os.read(self._out, 1).strip():
            line += letter
        return line

    def close(self) -> None:
        """End every process of the browser, and wait until they are gone."""
        self.alive = False
        self._end()

    def send(self, calls: Sequence[Call], session: str = "") -> list[int]:
        """Send commands, one after the other, without waiting. Returns their numbers."""
        with self._writing:
            numbers = [self._last + 1 + i for i in range(len(calls))]
            self._last += len(calls)
            to = {"sessionId": session} if session else {}
            rows = [
                json.dumps({"id": number, "method": method, "params": parameters, **to})
                for number, (method, parameters) in zip(numbers, calls, strict=True)
            ]
            data = memoryview("".join(f"{row}\0" for row in rows).encode())
            try:
                while data:
                    data = data[os.write(self._in, data) :]
            except OSError as error:
                self.alive = False
                raise PageError("the browser is gone") from error
        return numbers

    def tell(self, method: str, session: str = "", **parameters: Any) -> None:
        """Send one command, whatever it answers."""
        self._ignored.update(self.send([(method, parameters)], session))

    def ignore(self, numbers: Sequence[int]) -> None:
        """Forget the answers to these commands, or those that are still to come."""
        with self._inbox:
            self._ignored.update(number for number in numbers if self._answers.pop(number, None) is None)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for what it answers. Raises PageError where it fails or takes too long."""
        return self.answers(self.send([(method, parameters)], session))[0]

    def answers(
        self, numbers: Sequence[int], within: float = PATIENCE, check: Callable[[], None] = lambda: None
    ) -> list[dict[str, Any]]:
        """The answers to these commands; `check` may raise while we wait.

        Raises:
            PageError: one fails, or takes longer than `within` seconds.
        """

        def ready() -> list[Any] | None:
            check()
            there = all(number in self._answers for number in numbers)
            return [self._answers.pop(number) for number in numbers] if there else None

        found = self.until(ready, within)
        for each in found:
            if "error" in each:
                raise PageError(each["error"]["message"])
        return [each["result"] for each in found]

    def arrived(self, numbers: Sequence[int], within: float) -> bool:
        """Whether the answers to these commands are there within so many seconds."""
        with contextlib.suppress(SlowError):
            return self.until(lambda: all(number in self._answers for number in numbers) or None, within)
        return False

    def until(self, ready: Callable[[], T | None], within: float = PATIENCE) -> T:
        """Take in messages until `ready()` is not None, and return that. Of several threads one reads for all.

        Raises:
            SlowError: it takes longer than `within` seconds.
            PageError: the browser ends.
        """
        deadline = time.monotonic() + within
        while True:
            with self._inbox:
                found = ready()
                if found is not None:
                    return found
                left = deadline - time.monotonic()
                if left <= 0:
                    raise SlowError(f"no answer within {within:g} s")
                if self._reading:
                    self._inbox.wait(left)
                    continue
                self._reading = True
            messages: list[Any] = []
            try:
                messages = self._read(left)
            finally:
                with self._inbox:
                    self._reading = False
                    for message in messages:
                        self._take(message)
                    self._inbox.notify_all()

    def _read(self, within: float) -> list[Any]:
        """The messages that have arrived, after at most so many seconds."""
        if not self.alive:
            raise PageError("the browser is gone")
        if not select.select([self._out], [], [], within)[0]:
            return []
        data = os.read(self._out, 1 << 20)
        if not data:
            self.alive = False
            raise PageError(f"the browser is gone: {self._log()}")
        *rows, self._rest = (self._rest + data).split(b"\0")
        return [json.loads(row) for row in rows]

    def _take(self, message: Mapping[str, Any]) -> None:
        """File an answer, or tell a tab of an event."""
        if "id" in message:
            if message["id"] not in self._ignored:
                self._answers[message["id"]] = message
            self._ignored.discard(message["id"])
        elif tab := self._tabs.get(session := message.get("sessionId", "")):
            tab.notice(message["method"], message["params"], session)
        elif message["method"] == "Target.attachedToTarget":
            target, session = message["params"]["targetInfo"], message["params"]["sessionId"]
            opener = next((tab for tab in list(self._tabs.values()) if tab.target == target.get("openerId")), None)
            if opener is None:
                self._opened[target["targetId"]] = session
            else:
                opener.adopt(target["targetId"], session, shares=target["canAccessOpener"])
        elif message["method"] == "Target.detachedFromTarget" and (
            tab := self._tabs.get(message["params"]["sessionId"])
        ):
            tab.closed = True

    def opened(self, target: str) -> str:
        """The session of a page that has been opened, which waits."""
        return self.until(lambda: self._opened.pop(target, None))


class Tab:
    """One page. Its clock stands still between steps, since the browser's time is virtual; see also `clock.js`.

    Args:
        browser: where it is opened.
        size: width and height of the page in pixels.
        opener: the tab that has opened it, see `popup`; None for a tab of one's own, which has storage of its own.

    Attributes:
        loads: how many pages have been loaded in it.
        crashed: whether its page has.
        closed: whether its page has closed itself.
        target: the page's name in the browser.
        scripts: gives `script` and `worker` of `open` for a page that this one opens in an episode that began at a time
            of `elapsed`.

    Raises:
        PageError: from every method, where the page crashed, hung, threw or closed itself.
    """

    def __init__(
        self, browser: Browser, size: tuple[int, int], patience: float = PATIENCE, opener: Tab | None = None
    ) -> None:
        self.browser, self.size, self.patience, self.opener = browser, size, patience, opener
        self.crashed = self.closed = False
        self.loads = self._moves = 0
        self._script: list[str] = []
        self._kept = self._worker = self._address = ""
        self._unreachable = False
        self._base = self._ticks = self._shift = 0.0
        self._start = self._elapsed = self._now = self._due = 0.0
        self._expired = 0
        self._workers: list[str] = []
        self._numbered, self._waiting, self._leaving, self._said = 0, 0, False, ""
        self._waits, self._going, self._origins = True, set[str](), set[str]()
        self._popups: list[Tab] = []
        self.scripts: Callable[[float], tuple[str, str]] = lambda start: ("", "")
        if opener is not None:
            self._context: str = opener._context
            return
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        place: dict[str, Any] = {
            "url": "about:blank",
            "browserContextId": self._context,
            "enableBeginFrameControl": True,
        }
        self.target = browser.call("Target.createTarget", width=size[0], height=size[1], **place)["targetId"]
        self._session = browser.opened(self.target)
        browser._tabs[self._session] = self
        clock, *_ = self._calls(*self._beginning("", clock=True))
        self._rebase(clock["virtualTimeTicksBase"])

    @property
    def fresh(self) -> bool:
        """Whether another episode may begin in it, as if none had been before: its history is that of one page.

        A page cannot go to a fragment of itself, nor to a page that is its own address.
        """
        stays = self.opener is None and not self.closed and not self._popups and self._moves <= 1
        return stays and _replaceable(self._address)

    def elapsed(self) -> float:
        """Where the browser's clock stands for its page, in milliseconds since EPOCH."""
        (answer,) = self._calls(("Performance.getMetrics", {}))
        seconds = next(each["value"] for each in answer["metrics"] if each["name"] == "Timestamp")
        self._elapsed = round(2 * (1000 * float(seconds) - self._base)) / 2
        return self._elapsed

    def open(self, url: str, script: str, worker: str = "") -> None:
        """Load a page, as if none had been before.

        `script` runs in it and in its frames before anything of their own; so does `worker`, a function of a worker's
        number, in each of its workers.
        """
        loads, self._moves = self.loads, 0
        self._worker, self._numbered = worker, 0
        self._start, self._now, self._due = self._elapsed, 0.0, 0.0
        self._waiting, origins = 0, self._origins
        self._origins = set()
        calls = [
            *(("Storage.clearDataForOrigin", {"origin": each, "storageTypes": _STORED}) for each in origins),
            ("Network.clearBrowserCookies", {}),
            *(("Page.removeScriptToEvaluateOnNewDocument", {"identifier": each}) for each in self._script),
            ("Page.addScriptToEvaluateOnNewDocument", {"source": script}),
        ]
        self._script, self._origins = [self._calls(*calls)[-1]["identifier"]], set()
        if self._address:
            self._calls(("Runtime.evaluate", {"expression": f"self[Symbol.for('vla_rl')].leave({json.dumps(url)})"}))
        else:
            (went,) = self._calls(("Page.navigate", {"url": url}))
            if went.get("errorText"):
                raise PageError(f"{url}: {went['errorText']}")
        self._until(lambda: self._moves or None)
        self._numbered, self._workers = 0, []
        deadline = time.monotonic() + self.patience
        while self.loads == loads:
            if time.monotonic() > deadline:
                raise SlowError(f"{url} is not loaded within {self.patience:g} s")
            self._advance(_INSTANT)
        if self._unreachable:
            raise PageError(f"{url}: it cannot be reached")
        self._address = url

    def adopt(self, target: str, session: str, shares: bool) -> None:
        """Let a page that this one has opened begin, as long as it waits; `shares`: they know each other."""
        tab = Tab(self.browser, self.size, self.patience, self)
        # Pages that know each other have one process, and one clock; others begin one of their own.
        tab._base, tab._shift, tab._ticks = (
            (self._base, self._shift, self._ticks) if shares else (0.0, 0.0, self._ticks)
        )
        tab._start = self._start if shares else -self._due
        script, tab._worker, tab.scripts = *self.scripts(tab._start), self.scripts
        tab.target, tab._session, tab._kept = target, session, script
        self.browser._tabs[session] = tab
        self._popups.append(tab)
        for method, parameters in tab._beginning(script, clock=not shares):
            self.browser.tell(method, session, **parameters)

    def popup(self) -> Tab | None:
        """The tab that the page has opened first, once it is loaded; None where there is none."""
        if not self._popups:
            return None
        tab = self._popups.pop(0)
        tab._elapsed = self._elapsed if tab._start == self._start else 0.0
        tab._now = tab._due = self._now
        tab._settle()
        tab._draw()
        if not tab._said:  # an empty page has no script, and one that takes its place has that page's
            tab.run(tab._kept)
        return tab

    def rejoin(self) -> None:
        """Go on where the clock stands, after another tab has been shown."""
        self._now = self.elapsed() - self._start
        self._due = float(int(self._now))

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression, of JSON's types."""
        parameters = {"expression": code, "returnByValue": True, "userGesture": True}
        (answer,) = self._calls(("Runtime.evaluate", parameters))
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
        self._due += milliseconds
        if events:
            self._happen(events)
        self._advance(self._due + _PAST - self._now)
        self._settle()
        said, picture = self._look()
        if self.loads > before:  # the first picture may still show the page before
            self._waiting = 0
            said, picture = self._look(picture)
        while said["incomplete"] > self._waiting:  # they have come into view by this frame, or are never fetched
            self._waiting = said["incomplete"]
            self._advance(_INSTANT)
            said, picture = self._look(picture)
        self._waiting = said["incomplete"]
        return said, picture

    def _beginning(self, script: str, clock: bool) -> list[Call]:
        """What a page that waits is told before it begins; `script` runs in it before anything of its own."""
        screen = {"width": self.size[0], "height": self.size[1], "deviceScaleFactor": 1, "mobile": False}
        time = ("Emulation.setVirtualTimePolicy", {"policy": "pause", "initialVirtualTime": EPOCH})
        return [
            *([time] if clock else []),
            ("Page.enable", {}),
            ("Runtime.enable", {}),
            ("Runtime.addBinding", {"name": REPORT}),
            ("Inspector.enable", {}),
            ("Performance.enable", {}),
            ("Emulation.setFocusEmulationEnabled", {"enabled": True}),
            ("Emulation.setDeviceMetricsOverride", screen),
            ("Page.setDownloadBehavior", {"behavior": "deny"}),
            ("Target.setAutoAttach", {**_WAITING, "filter": [{"type": "worker"}]}),
            ("Page.addScriptToEvaluateOnNewDocument", {"source": script}),
            ("Runtime.runIfWaitingForDebugger", {}),
        ]

    def _rebase(self, base: float) -> None:
        """Keep frames to the page's clock, which has begun or goes on at `base` in a process of its own."""
        if base != self._base:  # no frame may lie before another
            self._base, self._shift = base, max(base, self._ticks) - self._elapsed

    def _settle(self) -> None:
        """Wait until a page that is being left has given way to the next one, or stays."""
        deadline = time.monotonic() + self.patience
        while self._leaving and time.monotonic() < deadline:
            self._advance(_INSTANT)
        self._leaving = False

    def _advance(self, milliseconds: float) -> None:
        """Let the clock move by so many milliseconds: each timer in its turn, then what follows from it."""
        while milliseconds > 0:
            turn = min(milliseconds, _TURN) if self._workers else milliseconds
            self._pass(turn)
            self._wake()
            self._elapsed, self._now, milliseconds = self._elapsed + turn, self._now + turn, milliseconds - turn

    def _pass(self, milliseconds: float) -> None:
        """Let the page's clock move. It stands still while something is fetched.

        Where that takes long, or never ends as a download does, the clock goes on until another page is shown.
        """
        before, began = self._expired, self._elapsed

        def over() -> bool | None:
            self._check()
            return self._expired > before or None

        if not self._waits:
            self._move("advance", milliseconds)
            self.browser.until(over, self.patience)
            return
        self._move("pauseIfNetworkFetchesPending", milliseconds)
        with contextlib.suppress(SlowError):
            within = min(_NETWORK, self.patience)
            if self.browser.until(lambda: over() or (None if self._waits else False), within):
                return
        self._waits, base = False, self._base
        self._move("advance", milliseconds - (self.elapsed() - began))
        self.browser.until(over, self.patience)
        # What was granted first holds still, unless another page has come in a process of its own: it would cut the
        # next step short.
        self._move("pause")
        if self._base == base and self._expired == before + 1:
            before = self._expired
            self._move("advance")
            self.browser.until(over, self.patience)

    def _move(self, policy: str, milliseconds: float | None = None) -> None:
        """Begin to let the clock move, also that of a page that comes meanwhile in a process of its own.

        None: until what has been granted before is used up.
        """
        turn: dict[str, Any] = {"policy": policy, "initialVirtualTime": EPOCH}
        if milliseconds is not None:
            turn |= {"budget": max(milliseconds, _INSTANT), "maxVirtualTimeTaskStarvationCount": _STARVED}
        (answer,) = self._calls(("Emulation.setVirtualTimePolicy", turn))
        self._rebase(answer["virtualTimeTicksBase"])

    def _wake(self) -> None:
        """Let workers see that time has passed, which they share with the page; they do not look by themselves."""
        look = [("Runtime.evaluate", {"expression": "0"})] * 2  # the first one wakes it, the second follows what is due
        for session in list(self._workers):
            numbers = self.browser.send(look, session)
            if not self.browser.arrived(numbers, within=_BUSY):
                self._workers.remove(session)
            self.browser.ignore(numbers)

    def _happen(self, events: Sequence[Call]) -> None:
        """Wait until the page has dealt with the events; movements and the wheel it deals with in frames only."""
        numbers = self.browser.send(events, self._session)
        if events[-1][1].get("type") in ("mouseMoved", "mouseWheel"):
            deadline, dealt_with = time.monotonic() + self.patience, False
            while not dealt_with and time.monotonic() < deadline:
                self._draw()
                dealt_with = self.browser.arrived(numbers, within=_SOON)
        self.browser.answers(numbers, self.patience, self._check)

    def _look(self, picture: str = "") -> tuple[dict[str, Any], str]:
        """Draw a frame. Returns what the page reported in it and its picture; `picture` where it is the last one."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            answer = self._draw(screenshot={"format": "png", "optimizeForSpeed": True})
            picture = answer.get("screenshotData", picture)
            if self._said:
                said = json.loads(self._said)
                elapsed, now = said.pop("elapsed"), said.pop("now")
                self._elapsed, self._now = elapsed, now + (elapsed - self._start) % 1
                self._due = min(self._due, now)  # a page in a process of its own begins the clock anew
                return said, picture
            self._advance(_INSTANT)  # another page is on its way, and has no frame for us yet
        raise SlowError(f"no frame within {self.patience:g} s")

    def _draw(self, **parameters: Any) -> dict[str, Any]:
        """Draw a frame, and wait for the page's report of it, which only a page that is being left omits."""
        self._ticks = max(self._ticks + _INSTANT, self._elapsed + self._shift)
        self._said = ""
        with self.browser.drawing:
            (answer,) = self._calls(("HeadlessExperimental.beginFrame", {"frameTimeTicks": self._ticks, **parameters}))
        with contextlib.suppress(SlowError):
            self.browser.until(lambda: bool(self._said) or None, _REPORTED)
        return answer

    def notice(self, event: str, what: Mapping[str, Any], session: str) -> None:
        """Take in an event of the page or of one of its workers."""
        if event == "Runtime.bindingCalled" and what["name"] == REPORT:
            self._said = what["payload"]
        elif event == "Emulation.virtualTimeBudgetExpired":
            self._expired += session == self._session
        elif event == "Page.loadEventFired":
            self.loads += 1
            self._leaving = False
        elif event.startswith(("Page.frame", "Page.navigated")):
            self._follow(event, what)
        elif event == "Page.javascriptDialogOpening":  # nobody is there to read it; the page waits for an answer
            said = {"accept": True, "promptText": what.get("defaultPrompt", "")}
            self.browser.tell("Page.handleJavaScriptDialog", self._session, **said)
        elif event == "Target.attachedToTarget":
            self._employ(what["sessionId"])
        elif event == "Target.detachedFromTarget" and what["sessionId"] in self._workers:
            self._workers.remove(what["sessionId"])
        elif event in ("Inspector.targetCrashed", "Inspector.detached") and session == self._session:
            self.crashed = True

    def _follow(self, event: str, what: Mapping[str, Any]) -> None:
        """Keep in mind whether the page is being left, and where it has been."""
        frame = what["frame"]["id"] if "frame" in what else what.get("frameId")
        if event == "Page.frameNavigated":
            self._origins.add(what["frame"]["securityOrigin"])
            self._unreachable = "unreachableUrl" in what["frame"]
            self._going.discard(frame)
            self._waits = self._waits or frame == self.target
        elif event == "Page.frameStartedNavigating" and "Document" in what["navigationType"]:
            self._going.add(what["frameId"])
            self._leaving = self._leaving or frame == self.target
        elif event == "Page.frameStoppedLoading":
            if frame in self._going:  # it stays where it is, which the browser's clock does not see
                self._waits = False
            self._going.discard(frame)
            self._leaving = self._leaving and frame != self.target
        if frame == self.target:
            self._moves += event in ("Page.frameNavigated", "Page.navigatedWithinDocument")

    def _employ(self, session: str) -> None:
        """Take a worker that waits, of the page or of another worker, and let it go on."""
        self._numbered += 1
        self._workers.append(session)
        self.browser._tabs[session] = self
        begin = {"expression": f"({self._worker})({self._numbered})" if self._worker else ""}
        for method, parameters in (
            ("Target.setAutoAttach", _WAITING),
            ("Runtime.evaluate", begin),
            ("Runtime.runIfWaitingForDebugger", {}),
        ):
            self.browser.tell(method, session, **parameters)

    def leave(self) -> None:
        """Close the page alone, so that one that it has opened takes its place."""
        self.browser._tabs.pop(self._session, None)
        self.browser.tell("Target.closeTarget", targetId=self.target)

    def close(self) -> None:
        """Close the page, and those that have opened it or that it has opened; a browser that cannot is ended."""
        self.browser._tabs.pop(self._session, None)
        if not self.browser.alive:
            return
        try:
            end = ("Target.disposeBrowserContext", {"browserContextId": self._context})
            self.browser.answers(self.browser.send([end]), self.patience)
        except PageError:
            self.browser.close()

    def _calls(self, *calls: Call) -> list[dict[str, Any]]:
        return self.browser.answers(self.browser.send(calls, self._session), self.patience, self._check)

    def _until(self, ready: Callable[[], T | None]) -> T:
        def looked() -> T | None:
            self._check()
            return ready()

        return self.browser.until(looked, self.patience)

    def _check(self) -> None:
        if self.crashed:
            raise PageError("the page crashed")
        if self.closed:
            raise ClosedError("the page has closed itself")


REPORT = "__vla_report"
"""What page.js calls to tell of a frame."""


def _replaceable(url: str) -> bool:
    """Whether a page may go to itself at this address, as if it were another one."""
    return "#" not in url and not url.startswith(("data:", "about:"))


def _end(guard: subprocess.Popen, told: int, owner: int) -> None:
    """Cut the lifeline and wait for the guard; a forked process leaves it alone."""
    os.close(told)
    for pipe in (guard.stdin, guard.stdout):
        assert pipe is not None
        pipe.close()
    if os.getpid() == owner:
        guard.wait()
