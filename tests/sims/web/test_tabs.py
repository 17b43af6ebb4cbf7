"""What leaves a page, opens beside it or never comes is no reason to give it up."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

import sims  # noqa: F401  (registers the environments)
from sims.screen.interaction import Gesture
from tests.sims.web.browsers import needs_browser

pytestmark = needs_browser
CLOSE = "<button id='it' onclick='window.close()'>close</button>"
LINKS = {
    "zip": '<a id="it" href="some.zip">x</a>',
    "pdf": '<a id="it" href="some.pdf">x</a>',
    "download": '<a id="it" download href="next.html">x</a>',
    "mailto": '<a id="it" href="mailto:a@b.c">x</a>',
    "tel": '<a id="it" href="tel:123">x</a>',
    "unknown scheme": '<a id="it" href="nothing:123">x</a>',
    "prevented": '<a id="it" href="next.html">x</a>'
    "<script>navigation.addEventListener('navigate', (event) => event.preventDefault())</script>",
    "stopped": '<a id="it" href="next.html" onclick="location = this.href; stop(); return false">x</a>',
}
OPENERS = {
    "target": '<a id="it" target="_blank" href="next.html">x</a>',
    "target that knows its opener": '<a id="it" target="_blank" rel="opener" href="next.html">x</a>',
    "base": '<base target="_blank"><a id="it" href="next.html">x</a>',
    "form": '<form target="_blank" action="next.html"><button id="it">x</button></form>',
    "window.open": '<button id="it" onclick="window.open(`next.html`)">x</button>',
}


def make(folder: Path, html: str, **settings: Any) -> Any:
    """An environment of a page of this HTML, which has some files beside it."""
    (folder / "some.zip").write_bytes(b"PK\5\6" + bytes(18))
    (folder / "some.pdf").write_bytes(b"%PDF-1.4\n%%EOF")
    (folder / "next.html").write_text(
        "<title>next</title><button id='it' onclick='window.close()'>close</button>", "utf-8"
    )
    Image.new("RGB", (20, 20), (255, 0, 0)).save(folder / "red.png")
    (folder / "page.html").write_text(f"<!doctype html><title>first</title>{html}", "utf-8")
    given: dict[str, Any] = {
        "file": str(folder / "page.html"),
        "instruction": "go",
        "success": "false",
        "patience": 6.0,
    }
    return gymnasium.make("vla_rl/Page-v0", disable_env_checker=True, **{**given, **settings}).unwrapped


def do(env: Any, kind: str, **what: Any) -> dict[str, Any]:
    """The info of a step by a gesture, which must be valid."""
    info = env.step(env.interaction.write(Gesture(kind, **what), env.action_space, env.world.size, ""))[4]
    assert not info.get("invalid"), info
    return info


def click(env: Any) -> dict[str, Any]:
    """Click what is called `it`."""
    place = "(({left, top}) => [left + 3, top + 3])(document.getElementById('it').getBoundingClientRect())"
    return do(env, "click", at=env.world.tab.run(place))


def title(env: Any) -> str:
    return env.world.tab.run("document.title")


@pytest.mark.parametrize("html", LINKS.values(), ids=LINKS)
def test_a_link_that_leads_nowhere_leaves_the_page_usable(tmp_path: Path, html: str) -> None:
    counting = "<script>let n = 0; setInterval(() => { n++; }, 100);</script>"
    # Its root: to a page that is a file by itself, every other file is another site's, whose links are no downloads.
    env = make(tmp_path, html + counting, root=str(tmp_path))
    env.reset(seed=0)
    click(env)
    counts = []
    for _ in range(4):
        do(env, "wait")
        counts.append(env.world.tab.run("n"))
    assert title(env) == "first"
    assert counts == [15, 20, 25, 30]
    env.close()


def test_what_is_never_answered_holds_the_clock_up_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fetching = f"fetch('http://127.0.0.1:{silent.getsockname()[1]}').catch(() => {{}});"
        counting = "let n = 0; setInterval(() => { n++; }, 100);"
        env = make(tmp_path, f"<script>{fetching} {counting}</script>", online=True, patience=1.0)
        env.reset(seed=0)
        counts = []
        for _ in range(4):
            do(env, "wait")
            counts.append(env.world.tab.run("n"))
        assert counts == [10, 15, 20, 25]
        env.close()


def test_pictures_that_the_browser_does_not_load_are_not_waited_for(tmp_path: Path) -> None:
    tall, lazy = '<div style="height: 3000px">x</div>', '<img loading="lazy" src="red.png" width="20" height="20">'
    env = make(tmp_path, f'<img hidden loading="lazy" src="red.png?hidden">{tall}{lazy}{tall}')
    env.reset(seed=0)
    do(env, "wait")
    env.world.tab.run("scrollTo(0, 2900)")
    do(env, "wait")
    red = (env.world.picture() == (255, 0, 0)).all(-1)
    assert red.sum() == 400  # and one in view is there at once
    env.close()


@pytest.mark.parametrize("new_tab", ["same", "follow"])
@pytest.mark.parametrize("html", OPENERS.values(), ids=OPENERS)
def test_a_page_that_opens_in_another_tab_is_shown_and_said(tmp_path: Path, html: str, new_tab: str) -> None:
    env = make(tmp_path, html, new_tab=new_tab)
    assert "tab" not in env.reset(seed=0)[1]
    first = env.world.picture()
    assert click(env)["tab"] == new_tab
    assert title(env) == "next"
    assert not np.array_equal(env.world.picture(), first)
    assert "tab" not in do(env, "wait")
    back = click(env)  # closes itself
    assert back.get("tab") == (None if new_tab == "same" else "back")
    assert title(env) == ("next" if new_tab == "same" else "first")
    do(env, "wait")
    env.reset(seed=0)
    assert title(env) == "first"
    assert np.array_equal(env.world.picture(), first)
    env.close()


def test_a_prompt_is_answered_by_its_default(tmp_path: Path) -> None:
    env = make(tmp_path, '<button id="it" onclick="document.title = prompt(`Name?`, `Ada`)">x</button>')
    env.reset(seed=0)
    click(env)
    assert title(env) == "Ada"
    env.close()


def test_keys_tell_their_place_on_the_keyboard(tmp_path: Path) -> None:
    listen = "const keys = []; onkeydown = (e) => keys.push([e.key, e.code, e.keyCode, e.shiftKey]);"
    env = make(tmp_path, f'<input id="it"><script>{listen}</script>')
    env.reset(seed=0)
    click(env)
    do(env, "write", text="aB1!;? ")
    do(env, "key", key="Enter")
    assert env.world.tab.run("[keys, document.getElementById('it').value]") == [
        [
            ["a", "KeyA", 65, False],
            ["B", "KeyB", 66, True],
            ["1", "Digit1", 49, False],
            ["!", "Digit1", 49, True],
            [";", "Semicolon", 186, False],
            ["?", "Slash", 191, True],
            [" ", "Space", 32, False],
            ["Enter", "Enter", 13, False],
        ],
        "aB1!;? ",
    ]
    env.close()
