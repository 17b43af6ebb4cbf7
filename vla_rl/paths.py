"""Where the files that ship with the package lie, in the source tree or in the wheel; and files flushed to the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

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
