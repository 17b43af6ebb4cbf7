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
from typing import Any, Protocol, TypeVar

from vla_rl.registry import SetupError

NAMES = ("chromium-headless-shell", "chrome-headless-shell")
"""What the program may be called; only these have frames on demand (`HeadlessExperimental`)."""
PATIENCE = 30.0
"""Seconds within which a page must have answered."""
INSTALL = "bash scripts/install_suite.sh web"

WAITING: dict[str, Any] = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
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
    "--log-level=3",
)
_OFFLINE = ("--proxy-server=127.0.0.1:9", "--proxy-bypass-list=<-loopback>", "--host-resolver-rules=MAP * ~NOTFOUND")
"""Every request, also one to this machine, goes to a proxy that is not there."""
_READ_FILES = ("--allow-file-access-from-files",)
"""What a page's own requests may read, `Tab` watches; those of its workers nobody does."""

T = TypeVar("T")
Call = tuple[str, Mapping[str, Any]]
"""A command of the DevTools protocol and its parameters."""
_cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
BROWSERS = min(4, len(_cores(0)))
"""Most browsers of a process: each draws one frame at a time."""
_running: weakref.WeakValueDictionary[tuple[int, bool, bool, int], Browser] = weakref.WeakValueDictionary()
"""By process, whether online, whether scripts read files, and number: tabs share a browser, which a fork must not."""
_starting = threading.Lock()


class PageError(RuntimeError):
    """A page or the browser crashed, hung, or threw where it must not."""


class StartError(PageError):
    """The browser does not start, or ended meanwhile."""


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


def shared(online: bool = False, files: bool = False) -> Browser:
    """That of this process's browsers with the fewest tabs; a new one while all have some and there may be more.

    It ends when nobody holds it any more.
    """
    with _starting:
        keys = [(os.getpid(), online, files, number) for number in range(BROWSERS)]
        there = {key: found for key in keys if (found := _running.get(key)) is not None and found.alive}
        idlest = min(there.values(), key=lambda browser: browser.tabs, default=None)
        if idlest is None or (idlest.tabs and len(there) < BROWSERS):
            idlest = _running[next(key for key in keys if key not in there)] = Browser(online, files)
        return idlest


class Listener(Protocol):
    """Who hears of what happens in a page and in its workers. Whichever thread reads for all tells of it, holding the
    browser's messages up meanwhile: nothing may be waited for.

    target: the page's name in the browser.
    """

    target: str

    def notice(self, event: str, what: Mapping[str, Any], session: str) -> None:
        """Take in an event of a session, the page's or a worker's, and its parameters."""

    def adopt(self, target: str, session: str, shares: bool) -> None:
        """Take in a page that this one has opened, which waits until it is told to begin; `shares`: they know each
        other."""

    def detached(self) -> None:
        """Take in that the page has closed itself."""


class Browser:
    """A running Chromium with a profile of its own. Threads may share it, each with tabs of its own.

    Args:
        online: whether pages may use the network.
        files: whether scripts of pages that are files may read files.

    Attributes:
        group: its process group.
        profile: the folder that it writes to, which goes with it.
        alive: whether it is there, as far as we know.
        drawing: held while a frame of any of its tabs is drawn; frames that overlap end its GPU process.

    Raises:
        SetupError: it is not installed.
        StartError: it does not start, or was ended meanwhile.
    """

    def __init__(self, online: bool = False, files: bool = False) -> None:
        path, self.profile = program(), tempfile.mkdtemp(prefix="chromium-")
        chosen = (*(() if online else _OFFLINE), *(_READ_FILES if files else ()))
        command = [path, *_FLAGS, *chosen, f"--user-data-dir={self.profile}"]
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
        self.group = 0
        self._rest = b""
        self._last = 0
        self._answers: dict[int, Any] = {}
        self._ignored: set[int] = set()
        self._listeners: weakref.WeakValueDictionary[str, Listener] = weakref.WeakValueDictionary()
        self._writing, self._inbox, self._reading = threading.Lock(), threading.Condition(), False
        self.drawing = threading.Lock()
        self.alive = True
        self._opened: dict[str, str] = {}
        try:
            self.group = self._begun()
            # Every page that opens waits until it is told what to do.
            self.call("Target.setAutoAttach", **WAITING, filter=[{"type": "page"}])
        except PageError as error:
            said = self._log() or str(error)
            self.close()
            raise StartError(f"{path} does not start: {said}") from error

    @property
    def tabs(self) -> int:
        """How many are open."""
        return len({id(listener) for listener in list(self._listeners.values())})

    def _log(self) -> str:
        """The end of what the browser has complained of; "" where it has not."""
        with contextlib.suppress(OSError):
            return Path(self.profile, "log").read_text("utf-8", "replace").strip()[-400:]
        return ""

    def _begun(self) -> int:
        """The group's number, which the guard writes as the first line that arrives."""
        line = b""
        while letter := os.read(self._out, 1).strip():
            line += letter
        if not line:
            raise PageError("its guard is gone")
        return int(line)

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
        """File an answer, or tell a listener of an event."""
        if "id" in message:
            if message["id"] not in self._ignored:
                self._answers[message["id"]] = message
            self._ignored.discard(message["id"])
        elif listener := self._listeners.get(session := message.get("sessionId", "")):
            listener.notice(message["method"], message["params"], session)
        elif message["method"] == "Target.attachedToTarget":
            self._attach(message["params"]["targetInfo"], message["params"]["sessionId"])
        elif message["method"] == "Target.detachedFromTarget" and (
            listener := self._listeners.get(message["params"]["sessionId"])
        ):
            listener.detached()

    def _attach(self, target: Mapping[str, Any], session: str) -> None:
        """Keep a page that has been opened, which waits, for whoever asks for it, or give it to the one it is of."""
        opener = next((each for each in list(self._listeners.values()) if each.target == target.get("openerId")), None)
        if opener is None:
            self._opened[target["targetId"]] = session
        else:
            opener.adopt(target["targetId"], session, shares=target["canAccessOpener"])

    def opened(self, target: str) -> str:
        """The session of a page that has been opened, which waits."""
        return self.until(lambda: self._opened.pop(target, None))

    def listen(self, session: str, listener: Listener) -> None:
        """Tell `listener` of what happens in a session, as long as somebody holds it."""
        self._listeners[session] = listener

    def forget(self, session: str) -> None:
        """Tell nobody any more of what happens in a session."""
        self._listeners.pop(session, None)


def _end(guard: subprocess.Popen, told: int, owner: int) -> None:
    """Cut the lifeline and wait for the guard; a forked process leaves it alone."""
    os.close(told)
    for pipe in (guard.stdin, guard.stdout):
        assert pipe is not None
        pipe.close()
    if os.getpid() == owner:
        guard.wait()
