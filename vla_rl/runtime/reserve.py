"""Room on the disk that a run holds for its last checkpoint, so that a disk that fills up costs it nothing."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

RESERVE = ".reserve"
"""Of a run's folder: a file of nothing, deleted where a checkpoint finds no room."""
MARGIN = 1.5
"""As many times as much as the checkpoint before took."""


def hold(folder: Path, generation: Path) -> None:
    """Hold room for a checkpoint like `generation`, as far as there is; warns where there is not."""
    wanted = int(MARGIN * own_bytes(generation))
    try:
        with open(folder / RESERVE, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, wanted)
            file.truncate(wanted)
    except OSError as error:
        warnings.warn(
            f"{folder}: no room for the next checkpoint, of about {wanted / 2**20:.0f} MiB ({error.strerror}); "
            "free some, or the run will end without it",
            stacklevel=2,
        )


def release(folder: Path) -> bool:
    """Give the room back; whether any was held."""
    try:
        (folder / RESERVE).unlink()
    except FileNotFoundError:
        return False
    return True


def own_bytes(generation: Path) -> int:
    """Bytes of the files that a generation shares with no other one."""
    found = (path.stat() for path in generation.rglob("*") if path.is_file())
    return sum(status.st_size for status in found if status.st_nlink == 1)
