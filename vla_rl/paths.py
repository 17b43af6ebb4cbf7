"""Where the files that ship with the package lie, in the source tree or in the wheel; files flushed and digested."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

METRICS_FILE = "metrics.jsonl"
"""Of a run's folder: what its training has logged, a line each time."""
_PACKAGE = Path(__file__).resolve().parent
UNSUPPORTED = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
"""What file systems answer that know no links, or no locks."""
SUMS = "SHA256SUMS"
"""Lies in a folder of ours, as `sha256sum` writes it; and `sha256sum -c` reads it."""
_FILES, _SEAL = "files", "sha256"
"""In a JSON file that tells of others: their digests, and its own."""


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


def sealed(content: Mapping[str, object], folder: Path, files: Iterable[Path]) -> dict[str, object]:
    """Plain values together with the digests of `files`, which lie in `folder`, and their own."""
    return resealed({**content, _FILES: {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}})


def resealed(content: Mapping[str, object]) -> dict[str, object]:
    """Plain values with their own digest, in place of one of before."""
    told = {key: value for key, value in content.items() if key != _SEAL}
    return told | {_SEAL: sha256_of_json(told)}


def digests_in(path: Path, content: Mapping[str, object]) -> dict[str, str] | None:
    """Of the files beside `path` by name, which a file with this `content` tells; None of one that was not sealed.

    Raises:
        ValueError: the content is not as it was when it was sealed, or tells of files that lie elsewhere; names `path`.
    """
    if _SEAL not in content:
        return None
    told = {key: value for key, value in content.items() if key != _SEAL}
    if content[_SEAL] != sha256_of_json(told):
        raise ValueError(f"{path} is damaged: altered since it was written (its own SHA-256 differs)")
    files = told.get(_FILES, {})
    if not isinstance(files, dict):
        raise ValueError(f"{path} is damaged: {_FILES}: expected digests by name, got {type(files).__name__}")
    _check_within(path, files)
    return files


def check_digests(folder: Path, digests: Mapping[str, str]) -> None:
    """Raise ValueError, which names the file, where one of a folder is missing or not as it was."""
    for name, digest in digests.items():
        if not (folder / name).is_file():
            raise ValueError(f"{folder} lacks {name}")
        if sha256_of(folder / name) != digest:
            raise ValueError(f"{folder / name} is damaged: altered since it was written (its SHA-256 differs)")


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Write the digests of files of a folder beside them, and keep what is told there of others."""
    told = _read_sums(folder / SUMS) if (folder / SUMS).exists() else {}
    told |= {name: sha256_of(folder / name) for name in names}
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(told.items())), "utf-8")


def check_sums(folder: Path) -> None:
    """Raise ValueError where a folder's files are not as it says; nothing to do where it says nothing of them."""
    path = folder / SUMS
    if not path.exists():
        return
    try:
        check_digests(folder, _read_sums(path))
    except ValueError as error:
        raise ValueError(f"{error}; where you changed it yourself, delete {path}") from error


def _read_sums(path: Path) -> dict[str, str]:
    try:
        rows = [line.split("  ", 1) for line in path.read_text("utf-8").splitlines()]
        told = {name: digest for digest, name in rows}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not told:
        raise ValueError(f"{path} is damaged: it tells of no file")
    _check_within(path, told)
    return told


def _check_within(path: Path, names: Iterable[str]) -> None:
    for name in names:
        if not is_within(name):
            raise ValueError(f"{path} lists {name[:60]!r}, which does not lie in the folder")
