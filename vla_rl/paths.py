"""Where the files that ship with the package lie, in the source tree or in the wheel; files flushed and digested."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

METRICS_FILE = "metrics.jsonl"
"""Of a run's folder: what its training has logged, a line each time."""
_PACKAGE = Path(__file__).resolve().parent
UNSUPPORTED = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
"""What file systems answer that know no links, or no locks."""


def shipped(name: str) -> Path:
    """The folder `assets` or `configs` of this installation.

    Raises:
        FileNotFoundError: the installation is broken, and lacks the folder.
    """
    for folder in (_PACKAGE / "_shipped" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"this installation of vla_rl lacks its folder {name!r}; reinstall it")


def named_configs(*folders: Path) -> dict[str, Path]:
    """The config files of folders by name, sorted within each; not those that others build on (`_<name>.yaml`)."""
    files = (file for folder in folders for file in sorted(folder.glob("*.yaml")))
    return {file.stem: file for file in files if not file.stem.startswith("_")}


def flush(path: Path) -> None:
    """Have the disk hold what was written to a file, or a folder's entries; some disks know that of files only."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS) or not path.is_dir():
            raise OSError(error.errno, f"cannot be written to the disk ({error.strerror})", str(path)) from error
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(content: Mapping[str, object]) -> str:
    """Of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_within(name: str) -> bool:
    """Whether a name, as a file tells it, is of something in the folder: neither absolute nor by way of `..`."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and not {"\\", "\0", ":"} & set(name)
