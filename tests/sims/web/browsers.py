"""What tests of pages share: when they are skipped, and a page of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.web.miniwob import MiniWoB
from sims.web.page import Page

needs_browser = pytest.mark.skipif(bool(Page.missing()), reason=f"{Page.missing()}: bash scripts/install_suite.sh web")
needs_pages = pytest.mark.skipif(
    bool(MiniWoB.missing()), reason=f"{MiniWoB.missing()}: bash scripts/install_suite.sh web"
)

FORM = """<!doctype html><title>Form</title>
<label for="name">Your name</label> <input id="name">
<button id="send" onclick="window.sent = document.getElementById('name').value">Send</button>
<button id="spin" onclick="while (true) {}">Spin</button>
<a id="next" href="NEXT">next page</a>
<p id="clock"></p>
<script>
  document.getElementById("clock").textContent = `${Date.now()} ${performance.now()} ${Math.random()}`;
  setInterval(() => { window.ticks = (window.ticks || 0) + 1; }, 100);
  const wanted = ["Ada", "Grace", "Edith"][Math.floor(Math.random() * 3)];
</script>
"""
EXPERT = """(() => {
  const field = document.getElementById("name");
  return enter(field, wanted) || click(document.getElementById("send"));
})()"""
SETTINGS: dict[str, Any] = {
    "instruction": {"js": "`Enter ${wanted} and press Send.`"},
    "success": "window.sent === wanted",
    "expert": EXPERT,
}


def form(folder: Path, **settings: Any) -> gymnasium.Env:
    """The form as an environment; `next page` leads to the same form again."""
    file = folder / "form.html"
    file.write_text(FORM.replace("NEXT", file.name), "utf-8")
    return gymnasium.make("vla_rl/Page-v0", disable_env_checker=True, **{"file": str(file), **SETTINGS, **settings})


def alive(group: int) -> list[int]:
    """The processes of a process group, but for those that have ended and wait to be counted."""
    found = []
    for each in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, _, in_group = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(in_group) == group and state != "Z":
            found.append(int(each))
    return found
