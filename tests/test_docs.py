"""What the documentation shows runs as it is shown."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts import pictures
from sims.web.page import Page
from tests import docs_driver, launch
from vla_rl import __version__, cli

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = sorted(file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs" / "tutorials").glob("*.md"))
PAGES = ["index.md", "worlds.md", "datasets.md", "questions.md", *TUTORIALS]
READ_ONLY = {"tutorials/gpus.md"}
"""Pages all of whose commands need more than a machine has."""


@pytest.mark.parametrize("page", [page for page in PAGES if page not in READ_ONLY])
def test_every_example_runs(page: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    assert docs_driver.runnable(ROOT / "docs" / page)
    if "env=greet" in text and Page.missing():
        pytest.skip(Page.missing())
    launch.run(str(ROOT / "tests" / "docs_driver.py"), str(ROOT / "docs" / page), folder=tmp_path)


def test_pages_that_are_only_read_show_nothing_to_run() -> None:
    assert not [page for page in READ_ONLY if docs_driver.runnable(ROOT / "docs" / page)]


def test_a_page_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for wrong in ("```bash\nvla-rl list sensorz\n```\n", "```python\n1 / 0\n```\n", "```bash\nrm -r x\n```\n"):
        page.write_text(wrong)
        with pytest.raises(AssertionError):
            launch.run(str(ROOT / "tests" / "docs_driver.py"), str(page), folder=tmp_path)


def test_the_page_of_worlds_names_every_environment() -> None:
    from sims.register import SCREENS, TABLE_TOP

    text = (ROOT / "docs/worlds.md").read_text("utf-8")
    assert not [env_id for env_id in (*TABLE_TOP, *SCREENS) if f"`{env_id}`" not in text]


def test_the_page_of_commands_says_what_their_help_says() -> None:
    text = (ROOT / "docs" / "reference" / "commands.md").read_text("utf-8")
    (commands,) = (each.choices for each in cli.parser()._actions if each.choices)
    for name, command in commands.items():
        example = (command.epilog or "").splitlines()[1].strip().partition("    ")[0]
        assert f"| `{name}` | {command.description} | `{example}` |" in text


def test_the_tutorial_of_adapters_names_every_field() -> None:
    from sims.adapters.settings import Adapter
    from vla_rl.registry import parameters

    text = (ROOT / "docs" / "tutorials" / "adapter.md").read_text("utf-8")
    assert not [name for name in parameters(Adapter) if f"| `{name}` |" not in text]


def test_the_pictures_are_those_that_the_script_draws() -> None:
    drawn = {f"{name}.svg": pictures.svg(*parts) for name, parts in pictures.PICTURES.items()}
    assert drawn == {file.name: file.read_text("utf-8") for file in pictures.FOLDER.glob("*.svg")}
    shown = (ROOT / "docs" / "how_it_works.md").read_text("utf-8")
    assert {f"pictures/{name}" for name in drawn} == set(re.findall(r"\((pictures/\w+\.svg)\)", shown))


def test_every_page_of_the_navigation_exists() -> None:
    listed = re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    assert {"docs/" + page for page in listed} <= {str(file.relative_to(ROOT)) for file in ROOT.glob("docs/**/*.md")}
    assert set(TUTORIALS) <= set(listed)


def test_the_version_is_the_same_everywhere() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == __version__
    assert f"\n## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_issue_templates_are_forms() -> None:
    for file in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(file.read_text("utf-8"))
        assert {"name", "description", "body"} <= form.keys()
        assert all(part["type"] == "textarea" and part["attributes"]["label"] for part in form["body"])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="no mkdocs: pip install 'vla-rl[docs]'")
def test_the_documentation_is_built_without_a_warning_and_loads_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    for file in (tmp_path / "site").rglob("*.html"):
        text = file.read_text("utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//[^\"]+", text), file
        assert not re.findall(r"<link[^>]+rel=\"(?:stylesheet|preconnect)\"[^>]+href=\"(?:https?:)?//", text), file
