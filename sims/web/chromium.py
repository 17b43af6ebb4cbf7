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

_INSTANT = 0.01
"""Milliseconds that a frame takes in which no time shall pass."""
_SOON, _REPORTED = 0.005, 0.5
"""Seconds until a page that has not dealt with an event, or not reported a frame, is given another frame."""

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
BROWSERS = min(4, len(os.sched_getaffinity(0)))
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
        try:
            self.call("Browser.getVersion")
        except PageError as error:
            said = self._log() or str(error)
            self.close()
            raise SetupError(f"{path} does not start: {said}") from error

    @property
    def tabs(self) -> int:
        """How many are open."""
        return len(self._tabs)

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
        elif tab := self._tabs.get(message.get("sessionId", "")):
            tab.notice(message["method"], message["params"])


class Tab:
    """One page. Its clock stands still between frames; see `page.js`.

    Args:
        browser: where it is opened.
        size: width and height of the page in pixels.

    Attributes:
        loads: how many pages have been loaded in it.
        crashed: whether its page has.

    Raises:
        PageError: from every method, where the page crashed, hung or threw.
    """

    def __init__(self, browser: Browser, size: tuple[int, int], patience: float = PATIENCE) -> None:
        self.browser, self.patience = browser, patience
        made = browser.call(
            "Target.createTarget", url="about:blank", width=size[0], height=size[1], enableBeginFrameControl=True
        )
        self._target = made["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        self.crashed, self.loads, self._said = False, 0, ""
        self._ticks, self._script = 0.0, ""
        browser._tabs[self._session] = self
        self._calls(
            ("Page.enable", {}),
            ("Runtime.enable", {}),
            ("Runtime.addBinding", {"name": REPORT}),
            ("Inspector.enable", {}),
            ("Emulation.setFocusEmulationEnabled", {"enabled": True}),
            ("Page.setDownloadBehavior", {"behavior": "deny"}),
        )

    def open(self, url: str, script: str) -> None:
        """Load a page; `script` runs in it before anything of its own."""
        before = self.loads
        add = ("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        drop = [("Page.removeScriptToEvaluateOnNewDocument", {"identifier": self._script})] if self._script else []
        *_, added, went = self._calls(*drop, add, ("Page.navigate", {"url": url}))
        self._script = added["identifier"]
        if went.get("errorText"):
            raise PageError(f"{url}: {went['errorText']}")
        self.loaded(before)

    def loaded(self, before: int) -> None:
        """Wait until more pages have been loaded than `before`."""
        self._until(lambda: self.loads > before or None)
        # The page's time began with it, and no frame may lie before.
        self._ticks = max(self._ticks, time.monotonic() * 1000) + 1.0

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression, of JSON's types."""
        parameters = {"expression": code, "returnByValue": True, "userGesture": True}
        (answer,) = self._calls(("Runtime.evaluate", parameters))
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise ScriptError(details.get("exception", {}).get("description", details["text"]).partition("\n")[0])
        return answer["result"].get("value")

    def step(self, events: Sequence[Call], milliseconds: int) -> tuple[str, str]:
        """Let events of mouse and keyboard happen, and draw a frame, so many milliseconds after the last one.

        Returns:
            What the page reported in it, and its picture as the base64 code of a PNG file; "" where it is the last one.
        """
        if events:
            self._happen(events)
        picture, deadline = "", time.monotonic() + self.patience
        while time.monotonic() < deadline:
            answer = self._draw(milliseconds, screenshot={"format": "png", "optimizeForSpeed": True})
            picture = answer.get("screenshotData", picture)
            if self._said:
                return self._said, picture
            milliseconds = 0  # another page is on its way, and has no frame for us yet
        raise SlowError(f"no frame within {self.patience:g} s")

    def _happen(self, events: Sequence[Call]) -> None:
        """Wait until the page has dealt with the events; movements and the wheel it deals with in frames only.

        These frames take no time: page.js counts whole milliseconds.
        """
        numbers = self.browser.send(events, self._session)
        if events[-1][1].get("type") in ("mouseMoved", "mouseWheel"):
            deadline, dealt_with = time.monotonic() + self.patience, False
            while not dealt_with and time.monotonic() < deadline:
                self._draw(0)
                dealt_with = self.browser.arrived(numbers, within=_SOON)
        self.browser.answers(numbers, self.patience, self._check)

    def _draw(self, milliseconds: int, **parameters: Any) -> dict[str, Any]:
        """Draw a frame, and wait for the page's report of it, which only a page that is being left omits."""
        self._ticks, self._said = self._ticks + max(milliseconds, _INSTANT), ""
        with self.browser.drawing:
            (answer,) = self._calls(("HeadlessExperimental.beginFrame", {"frameTimeTicks": self._ticks, **parameters}))
        with contextlib.suppress(SlowError):
            self.browser.until(lambda: bool(self._said) or None, _REPORTED)
        return answer

    def notice(self, event: str, what: Mapping[str, Any]) -> None:
        """Take in an event of the page."""
        if event == "Runtime.bindingCalled" and what["name"] == REPORT:
            self._said = what["payload"]
        elif event == "Page.loadEventFired":
            self.loads += 1
        elif event == "Page.javascriptDialogOpening":  # nobody is there to read it; the page waits for an answer
            self.browser.tell("Page.handleJavaScriptDialog", self._session, accept=True)
        elif event in ("Inspector.targetCrashed", "Inspector.detached"):
            self.crashed = True

    def close(self) -> None:
        """Close the page; a browser that cannot is ended."""
        self.browser._tabs.pop(self._session, None)
        if not self.browser.alive:
            return
        try:
            self.browser.answers(self.browser.send([("Target.closeTarget", {"targetId": self._target})]), self.patience)
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


REPORT = "__vla_report"
"""What page.js calls to tell of a frame."""


def _end(guard: subprocess.Popen, told: int, owner: int) -> None:
    """Cut the lifeline and wait for the guard; a forked process leaves it alone."""
    os.close(told)
    for pipe in (guard.stdin, guard.stdout):
        assert pipe is not None
        pipe.close()
    if os.getpid() == owner:
        guard.wait()
