"""Which version of this package something was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

from vla_rl import __version__

_ROOT = Path(__file__).resolve().parent.parent.parent


def provenance() -> dict[str, str]:
    """The version; and the commit, with `-dirty` where files differ from it, where the package lies in its checkout."""
    found = {"version": __version__}
    if (_ROOT / ".git").exists():
        command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):  # no git here: the version has to do
            return found
        if told.returncode == 0:
            found["commit"] = told.stdout.strip()
    return found
