"""Films that play in a page: embedded as long as the page stays of bounded size, linked after that."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

from vla_rl.report.document import escape

MOST_BYTES = 16 << 20
"""Of all films in a page."""


@dataclass
class Budget:
    """How many bytes of films a page may still take in. page: the page's folder, which links start from."""

    left: int = MOST_BYTES
    page: Path | None = None


def player(path: Path, budget: Budget) -> str:
    """A film as HTML: a player with the film in it, or a link to it where the page would become too large."""
    size = path.stat().st_size
    if size > budget.left:
        place = os.path.relpath(path, budget.page) if budget.page else str(path)
        return (
            f'<a class="small" href="{escape(Path(place).as_posix())}">{escape(path.name)} ({size / 2**20:.1f} MiB)</a>'
        )
    budget.left -= size
    film = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<video controls loop muted playsinline preload="metadata" src="data:video/mp4;base64,{film}"></video>'
