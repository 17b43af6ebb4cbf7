"""A browser leaves nothing behind, whatever happens to it or to us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sims.web import chromium
from sims.web.chromium import Browser, PageError
from sims.web.tab import Tab
from tests.sims.web.browsers import alive, form, needs_browser
from vla_rl.specs import IMAGES

pytestmark = needs_browser
SCREEN = IMAGES + "screen"
ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys, time
from sims.web.chromium import Browser
from sims.web.tab import Tab
browser = Browser()
tab = Tab(browser, (100, 100))
print(browser.group, browser.profile, flush=True)
time.sleep(600)
"""


def soon(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it holds before so many seconds have passed."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def test_nothing_outlives_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", HOLDER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    group, profile = parent.stdout.readline().split()
    assert len(alive(int(group))) > 3
    assert Path(profile).is_dir()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert soon(lambda: not alive(int(group)))
    assert soon(lambda: not Path(profile).exists())


def test_tabs_are_spread_over_as_many_browsers_as_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium, "BROWSERS", 2)
    tabs = [Tab(chromium.shared(), (100, 100)) for _ in range(4)]
    first, second = dict.fromkeys(tab.browser for tab in tabs)
    assert first.tabs == second.tabs == 2
    tabs[-1].close()
    assert chromium.shared() is tabs[-1].browser


def test_threads_draw_tabs_of_one_browser_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium, "BROWSERS", 1)
    envs = [form(tmp_path).unwrapped for _ in range(3)]

    def live(env: Any) -> list[np.ndarray]:
        frames = [env.reset(seed=0)[0][SCREEN]]
        for _ in range(15):
            observation, _, _, _, info = env.step(env.action_space.command("wait"))
            assert not info.get("invalid"), info
            frames.append(observation[SCREEN])
        return frames

    with ThreadPoolExecutor(len(envs)) as threads:
        lives = list(threads.map(live, envs))
    assert len({env.world.tab.browser for env in envs}) == 1
    assert all(np.array_equal(frame, other) for frames in lives for frame, other in zip(frames, lives[0], strict=True))
    for env in envs:
        env.close()


def test_closing_ends_every_process_and_the_last_tab_closes_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium, "BROWSERS", 1)
    browser = chromium.shared()
    tabs = [Tab(browser, (100, 100)) for _ in range(2)]
    assert tabs[1].browser is chromium.shared()
    group = browser.group
    tabs.pop().close()
    assert alive(group)
    tabs.clear()
    del browser
    assert soon(lambda: not alive(group))


def test_a_crash_a_hang_and_a_killed_browser_are_errors_and_other_tabs_live_on() -> None:
    browser = Browser()
    fine, crashing, hanging = (Tab(browser, (100, 100)) for _ in range(3))
    hanging.session.patience = 0.5
    with pytest.raises(PageError, match="crashed"):
        crashing.session.calls(("Page.crash", {}))
    with pytest.raises(PageError, match=r"no answer within 0\.5 s"):
        hanging.run("while (true) {}")
    crashing.close(), hanging.close()
    assert fine.run("1 + 1") == 2
    os.killpg(browser.group, signal.SIGKILL)
    with pytest.raises(PageError, match="gone"):
        fine.run("1 + 1")
    assert not browser.alive
    browser.close()


def test_a_page_reaches_no_network_not_even_this_machine() -> None:
    browser = Browser()
    tab = Tab(browser, (100, 100))
    for address in ("http://127.0.0.1:8000/", "http://example.com/"):
        with pytest.raises(PageError, match="ERR_PROXY_CONNECTION_FAILED"):
            tab.open(address, "")
    browser.close()


@pytest.mark.parametrize(("cores", "browsers"), [(64, 4), (2, 2), (None, 1)])
def test_browsers_are_counted_where_processes_have_no_cores_of_their_own(cores: int | None, browsers: int) -> None:
    lack = f"import os; del os.sched_getaffinity; os.cpu_count = lambda: {cores}"
    code = f"{lack}; from sims.web import chromium; print(chromium.BROWSERS)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == str(browsers), done.stderr
