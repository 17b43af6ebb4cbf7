"""What the documentation shows runs as it is shown."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sims.web.page import Page
from tests import launch

PAGES = ("docs/worlds.md", "docs/datasets.md", "docs/questions.md")
ROOT = Path(__file__).resolve().parent.parent


def blocks(page: str) -> list[tuple[str, str]]:
    """Every fenced block of a page: its language and its text."""
    return re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.S | re.M)


@pytest.mark.parametrize("page", PAGES)
def test_every_example_runs(page: str, tmp_path: Path) -> None:
    commands = 0
    for language, text in blocks(page):
        named = re.match(r"(?:#|<!--) ([\w/]+\.(?:py|html|yaml))( -->)?\n", text)
        if named:
            (tmp_path / named[1]).parent.mkdir(exist_ok=True)
            (tmp_path / named[1]).write_text(text)
            continue
        if language == "python":
            finished = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True)
            assert finished.returncode == 0, f"{text}\n{finished.stderr}"
            commands += 1
        for line in text.splitlines() if language == "bash" else ():
            words = shlex.split(line, comments=True)
            assert words[0] == "vla-rl", line
            if "env=greet" in words and Page.missing():
                continue
            launch.run("-m", "vla_rl.cli", *words[1:], folder=tmp_path)
            commands += 1
    assert commands >= 3


def test_the_page_of_worlds_names_every_environment() -> None:
    from sims.register import SCREENS, TABLE_TOP

    text = (ROOT / "docs/worlds.md").read_text("utf-8")
    assert not [env_id for env_id in (*TABLE_TOP, *SCREENS) if f"`{env_id}`" not in text]
