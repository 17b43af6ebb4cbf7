"""The page of faults names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_fault_of_the_page_has_a_test() -> None:
    page = (ROOT / "docs/reliability.md").read_text("utf-8")
    section = page.partition("\n## What can go wrong\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 40
    missing = []
    for fault, _, test in rows:
        found = re.fullmatch(r"`([\w/]+\.py)::(test_\w+)`", test)
        assert found, f"{fault}: {test}"
        tree = ast.parse((ROOT / found[1]).read_text("utf-8"))
        if found[2] not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
            missing.append(test)
    assert not missing
