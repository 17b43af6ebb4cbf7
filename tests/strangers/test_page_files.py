"""A stranger's page: it loads the files of its own folder, and nothing of the network."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from sims.web import chromium

pytestmark = pytest.mark.skipif(not any(map(shutil.which, chromium.NAMES)), reason="no Chromium")

CANARY = "canary-outside"
PAGE = """<!doctype html><body>
<script src="inside.js"></script><script src="{outside}/outside.js"></script>
<iframe id="framed" src="{outside}/secret.txt"></iframe><iframe src="inside.txt"></iframe>
<img id="own" src="red.png"><img id="other" src="{outside}/red.png"><img src="http://127.0.0.1:{port}/img">
<script>
const tell = (name, what) => {{ window[name] = what; }};
const read = (name, from) =>
  fetch(from).then(answer => answer.text()).then(text => tell(name, text), () => tell(name, ""));
read("fetched", "{outside}/secret.txt");
read("own_text", "inside.txt");
fetch("http://127.0.0.1:{port}/fetch").catch(() => 0);
const worker = new Worker(URL.createObjectURL(new Blob([`
  fetch("{outside}/secret.txt").then(answer => answer.text()).then(text => postMessage(text), () => postMessage(""));
`])));
worker.onmessage = event => tell("worked", event.data);
</script></body>"""


@pytest.fixture
def listener() -> Any:
    """A server that nobody may reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def outside(tmp_path: Path) -> Path:
    from PIL import Image

    for folder, script in (("outside", "window.outside = 1"), ("inside", "window.inside = 1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.js").write_text(script)
        Image.new("RGB", (9, 9)).save(tmp_path / folder / "red.png")
    (tmp_path / "outside" / "secret.txt").write_text(CANARY)
    (tmp_path / "inside" / "inside.txt").write_text("own")
    (tmp_path / "inside" / "link.js").symlink_to(tmp_path / "outside" / "outside.js")
    return tmp_path / "outside"


@pytest.mark.parametrize("root", [None, "outside too"])
def test_a_page_loads_what_lies_in_its_folder(tmp_path: Path, listener: socket.socket, root: str | None) -> None:
    folder = outside(tmp_path)
    html = PAGE.format(outside=folder.as_uri(), port=listener.getsockname()[1])
    (tmp_path / "inside" / "page.html").write_text(html + '<script src="link.js"></script>')
    settings = {} if root is None else {"root": str(tmp_path)}
    env = gymnasium.make(
        "vla_rl/Page-v0", file=str(tmp_path / "inside" / "page.html"), instruction="go", success="false",
        patience=8.0, disable_env_checker=True, **settings,
    ).unwrapped  # fmt: skip
    env.reset(seed=0)
    for _ in range(4):
        env.step(env.action_space.sample())
    tab = env.world.tab
    own = tab.run("[window.inside, window.own_text ?? '', document.getElementById('own').naturalWidth]")
    assert own == [1, "" if root is None else "own", 9]
    found = tab.run("[window.outside, window.fetched, window.worked, document.getElementById('other').naturalWidth]")
    framed = tab.run("document.getElementById('framed').contentDocument?.body?.innerText ?? ''")
    assert (found, framed) == (([None, "", "", 0], "") if root is None else ([1, CANARY, CANARY, 9], CANARY))
    with pytest.raises(BlockingIOError):
        listener.accept()
    env.close()


def test_a_page_without_a_file_loads_none(tmp_path: Path) -> None:
    folder = outside(tmp_path)
    seen = f"<iframe src='{folder.as_uri()}/secret.txt'></iframe><img id=it src='{folder.as_uri()}/red.png'>"
    page = f"data:text/html,{seen}"
    env = gymnasium.make(
        "vla_rl/Page-v0", url=page, instruction="go", success="false", patience=8.0, disable_env_checker=True
    ).unwrapped
    env.reset(seed=0)
    assert env.world.tab.run("document.getElementById('it').naturalWidth") == 0
    env.close()
