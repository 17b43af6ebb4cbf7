"""The picture of all worlds is made by one command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

from sims.register import SCREENS, TABLE_TOP

ROOT = Path(__file__).resolve().parent.parent


def test_it_shows_every_task_and_stays_small(tmp_path: Path) -> None:
    out = tmp_path / "worlds.png"
    subprocess.run([sys.executable, "scripts/worlds.py", str(out)], cwd=ROOT, check=True)
    assert out.stat().st_size < 500_000
    with Image.open(out) as made, Image.open(ROOT / "docs" / "worlds.png") as shipped:
        assert made.size == shipped.size
        width, height = made.size
        assert width * height >= len((*TABLE_TOP, *SCREENS)) * 256 * 256
