"""A page's time and chance are the episode's: they move with its steps, as in a browser, and begin anew with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from tests.sims.web.browsers import needs_browser
from vla_rl.specs import IMAGES

pytestmark = needs_browser
SCREEN = IMAGES + "screen"
SLEEP = "const sleep = (ms) => new Promise((done) => setTimeout(done, ms));"
Made = Callable[..., Any]


@pytest.fixture
def page(tmp_path: Path, request: pytest.FixtureRequest) -> Made:
    """Makes an environment of a page of this HTML; an environment lets half a second pass on it in reset."""

    def made(html: str, **settings: Any) -> Any:
        file = tmp_path / "page.html"
        file.write_text(f"<!doctype html>{html}", "utf-8")
        kwargs: dict[str, Any] = {"file": str(file), "instruction": "wait", "success": "false", **settings}
        env = gymnasium.make("vla_rl/Page-v0", disable_env_checker=True, **kwargs).unwrapped
        request.addfinalizer(env.close)
        return env

    return made


def counts(env: Any, what: str, steps: int = 3) -> list[Any]:
    """What an expression gives after reset and after each further step."""
    env.reset(seed=0)
    found = [env.world.tab.run(what)]
    for _ in range(steps - 1):
        info = env.step(env.action_space.command("wait"))[4]
        assert not info.get("invalid"), info
        found.append(env.world.tab.run(what))
    return found


@pytest.mark.parametrize(
    ("script", "due"),
    [
        ("(async () => { for (;;) { await sleep(20); n++; } })();", [25, 50, 75]),
        ("(async () => { for (;;) { await new Promise(requestAnimationFrame); n++; } })();", [30, 60, 90]),
        ("const beat = () => { n++; requestAnimationFrame(beat); }; requestAnimationFrame(beat);", [30, 60, 90]),
        ("(async () => { for (;;) { await scheduler.postTask(() => { n++; }, { delay: 50 }); } })();", [10, 20, 30]),
        (
            "const hop = () => new Promise((done) => { const { port1, port2 } = new MessageChannel();"
            "port1.onmessage = done; port2.postMessage(0); });"
            "(async () => { for (;;) { await hop(); await sleep(20); await fetch('data:,x'); n++; } })();",
            None,
        ),
        ("setTimeout(async () => { for (;;) { await 0; await sleep(100); n++; } }, 100);", [4, 9, 14]),
        (
            "(async () => { for (;;) { try { await new Promise((_, no) => {"
            "AbortSignal.timeout(100).onabort = no; }); } catch { n++; } } })();",
            [5, 10, 15],
        ),
    ],
    ids=["sleep", "awaited frames", "frames", "postTask", "messages and fetches", "nested", "AbortSignal.timeout"],
)
def test_awaits_run_between_timers_as_in_a_browser(page: Made, script: str, due: list[int] | None) -> None:
    found = counts(page(f"<script>let n = 0; {SLEEP} {script}</script>"), "n")
    if due is None:
        assert 10 <= found[0] <= 25
        assert found[2] - found[1] == pytest.approx(found[1] - found[0], abs=1)
    else:
        assert found == due


def test_an_animation_frame_that_is_cancelled_inside_a_frame_does_not_run(page: Made) -> None:
    script = """
        const ran = []; let late;
        requestAnimationFrame(() => { ran.push("first"); cancelAnimationFrame(late); });
        late = requestAnimationFrame(() => ran.push("cancelled"));
        requestAnimationFrame(() => { Promise.resolve().then(() => ran.push("promise")); });
        requestAnimationFrame(() => ran.push("last"));"""
    assert counts(page(f"<script>{script}</script>"), "ran", 1) == [["first", "promise", "last"]]


def test_frames_and_workers_keep_the_pages_time(page: Made) -> None:
    count = "let n = 0; setInterval(() => {{ n++; {to}.postMessage([n, Date.now()]{all}); }}, 50);"
    inner = f"<script>{count.format(to='parent', all=', `*`')}</script>"
    env = page(f"""
        <iframe sandbox="allow-scripts" srcdoc="{inner}"></iframe>
        <script>
          const heard = {{}}, hear = (who) => ({{ data }}) => {{ heard[who] = data; }};
          onmessage = hear("frame");
          const code = new Blob(["{count.format(to="self", all="")}"]);
          new Worker(URL.createObjectURL(code)).onmessage = hear("worker");
        </script>""")
    first, second, third = counts(env, "[heard.frame, heard.worker, Date.now()]")
    for who in (0, 1):
        ticks, dates = ([each[who][i] for each in (second, third)] for i in (0, 1))
        assert ticks[1] - ticks[0] == pytest.approx(10, abs=1)
        assert 0 <= third[2] - dates[1] < 100
    assert first[0][0] in (9, 10)


SAME = {
    "uuid": "crypto.randomUUID()",
    "random values": "[...crypto.getRandomValues(new Uint32Array(3))]",
    "default date of Intl": "new Intl.DateTimeFormat('en', {dateStyle: 'full', timeStyle: 'full'}).format()",
    "parts of a default date": "new Intl.DateTimeFormat('en', {fractionalSecondDigits: 3}).formatToParts()",
    "time origin": "performance.timeOrigin",
    "time of an event": "new Event('x').timeStamp",
    "timeline": "document.timeline.currentTime",
    "Temporal": "self.Temporal ? String(Temporal.Now.instant()) : ''",
    "date": "[Date.now(), performance.now(), String(new Date())]",
    "kept": "[localStorage.length, sessionStorage.length, name, document.cookie]",
    "frame": "document.querySelector('iframe').contentWindow.chance",
    "history": "history.length",
}


def test_one_seed_is_one_episode_whatever_a_page_asks_for(page: Made) -> None:
    inner = "<script>chance = [Math.random(), crypto.randomUUID(), Date.now(), performance.timeOrigin]</script>"
    keep = "localStorage.x = sessionStorage.x = 1; name = 'x';"
    said = f"({{ {', '.join(f'{name!r}: {code}' for name, code in SAME.items())} }})"
    settings = {"setup": f"window.said = {said}; {keep}"}
    html = f'<iframe srcdoc="{inner}"></iframe><script>const early = Date.now();</script>'
    env, other = page(html, **settings), page(html, **settings)
    what = f"[window.said, early, {said}]"
    first, again, elsewhere = counts(env, what), counts(env, what), counts(other, what)
    assert first == again == elsewhere
    env.reset(seed=1)
    assert env.world.tab.run("said.uuid") != first[0][0]["uuid"]
    said = first[0][0]
    assert said["default date of Intl"].startswith("Monday, January 1, 2024 at 12:00:00")
    assert said["kept"] == [0, 0, "", ""]


MOVING = """
<style>
  @keyframes move { to { margin-left: 200px; } }
  p { width: 20px; height: 20px; background: red; animation: move 3s linear infinite; }
</style><p></p>
<svg width="300" height="30"><rect width="20" height="20" fill="blue">
  <animate attributeName="x" from="0" to="250" dur="4s" repeatCount="indefinite"/></rect></svg>
<b>text</b><script>document.querySelector("b").animate([{ opacity: 0 }, { opacity: 1 }], 2500);</script>
"""


def test_animations_of_styles_and_drawings_are_the_same_pictures_and_move(page: Made) -> None:
    def shots(env: Any) -> list[np.ndarray]:
        frames = [env.reset(seed=0)[0][SCREEN]]
        return frames + [env.step(env.action_space.command("wait"))[0][SCREEN] for _ in range(4)]

    env, other = page(MOVING), page(MOVING)
    first, again, elsewhere = shots(env), shots(env), shots(other)
    for frame, next_frame in itertools.pairwise(first):
        assert not np.array_equal(frame, next_frame)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert all(np.array_equal(*pair) for pair in zip(first, elsewhere, strict=True))


@pytest.mark.parametrize("clock", ["Date.now()", "performance.now()", "+new Date()"])
def test_a_busy_wait_ends_and_takes_the_pages_time(page: Made, clock: str) -> None:
    env = page(
        f"<script>const from = {clock}; while ({clock} - from < 200); let n = Date.now(), waited = true;</script>"
    )
    assert counts(env, "waited", 2) == [True, True]
    env.reset(seed=0)
    assert env.world.tab.run("n - Date.UTC(2024, 0, 1, 12)") == pytest.approx(200, abs=2)


BORN = "<script>var born = Date.now() - Date.UTC(2024, 0, 1, 12);</script>"
"""When the document that stands there was loaded, in the page's own milliseconds. (What a document writes into its
`sessionStorage` just before it is left, Chromium 156.0.8078.108 does not always show to the next one.)"""
REFRESHED = "[document.title, self.born, Date.now() - Date.UTC(2024, 0, 1, 12)]"


@pytest.mark.parametrize(
    ("content", "left"), [("2; url=next.html", 2000), ("1;URL='next.html'", 1000), ("0; url=next.html", 0)]
)
def test_a_refresh_waits_for_the_pages_clock(
    page: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, left: int
) -> None:
    """`left`: when the page is left, in its own milliseconds."""
    monkeypatch.setattr("sims.web.env.TRIES", 1)
    (tmp_path / "next.html").write_text(f"<!doctype html><title>next</title>{BORN}", "utf-8")
    env = page(f'<title>first</title><meta http-equiv="refresh" content="{content}">{BORN}', patience=6.0)
    for _ in range(2):
        found = counts(env, REFRESHED, 6)
        due = max(1, left // 500)  # a reset is a step's time
        assert [title for title, *_ in found] == ["first"] * (due - 1) + ["next"] * (7 - due)
        (born,) = {born for title, born, _ in found if title == "next"}  # loaded once
        assert born == pytest.approx(left, abs=30)


@pytest.mark.parametrize("content", ["2", "1"])
def test_a_page_that_refreshes_itself_does_so_by_its_own_clock(page: Made, content: str) -> None:
    env = page(f'<title>first</title><meta http-equiv="refresh" content="{content}">{BORN}')
    first, again = counts(env, REFRESHED, 9), counts(env, REFRESHED, 9)
    assert first == again
    births = sorted({born for _, born, _ in first})
    assert births == pytest.approx([1000 * second for second in range(0, 5, int(content))], abs=60)


def test_a_page_that_refreshes_itself_at_once_is_no_endless_load(page: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sims.web.env.TRIES", 1)
    count = "<script>sessionStorage.loads = 1 + Number(sessionStorage.loads || 0);</script>"
    env = page(f'<meta http-equiv="refresh" content="0">{count}', patience=6.0)
    assert counts(env, "Number(sessionStorage.loads)", 1)[0] > 5


def test_a_refresh_that_a_script_adds_waits_too(page: Made, tmp_path: Path) -> None:
    (tmp_path / "next.html").write_text("<!doctype html><title>next</title>", "utf-8")
    meta = "Object.assign(document.createElement('meta'), {{ httpEquiv: 'refresh', content: '{}' }})"
    add = f"document.head.append({meta})"
    env = page(f"<title>first</title><script>onload = () => {add.format('2;url=next.html')};</script>")
    assert [title for title, *_ in counts(env, REFRESHED, 5)] == ["first"] * 3 + ["next"] * 2
    env = page("<title>first</title>", setup=add.format("0;url=next.html"))
    env.reset(seed=0)
    assert env.world.tab.run("document.title") == "next"
