"""Folders as an older version or another program writes them: without the digests that tell damage."""

from __future__ import annotations

import json
from pathlib import Path

from vla_rl.paths import SUMS


def unsealed(folder: Path) -> Path:
    """Take the digests away from a dataset, demonstrations or a backbone; gives the folder."""
    (folder / SUMS).unlink(missing_ok=True)
    meta = folder / "meta.json"
    if meta.is_file():
        content = json.loads(meta.read_text("utf-8"))
        content.pop("sha256", None)
        meta.write_text(json.dumps(content), "utf-8")
    return folder
