"""A folder holds one run at a time: who may write there, and what a failed start takes away again."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from vla_rl.config.compose import CONFIG_FILE
from vla_rl.paths import UNSUPPORTED
from vla_rl.registry import ConfigError
from vla_rl.runtime.checkpoint import is_first_process, settle_last
from vla_rl.runtime.generations import CHECKPOINTS

LOCK = ".lock"
MADE_AT_START = ("tracker", "replay")
"""The folders that a start makes beside the config: of the tracker, and of coded frames."""


class Run(Protocol):
    """What `claim` needs of a run's config."""

    @property
    def run_dir(self) -> Path | None: ...

    @property
    def resume(self) -> bool: ...

    def save(self, folder: Path) -> Path: ...


def claim(run: Run) -> Path:
    """Take a run's folder for this process until it ends, and write the config of a new run there.

    That of a run which goes on stays until it is known that it can: who claims it writes it then. Of several processes
    of one run only the first takes it.

    Raises:
        ConfigError: the folder is not empty and `resume` is off; `resume` is on and there is no folder; or
            another live process has it, which is named.
        FileExistsError: `checkpoints/last` of the run to resume is something else than a checkpoint.
    """
    folder = run.run_dir
    if folder is None:
        raise ConfigError("run_dir: a run needs a folder, got none")
    if not is_first_process():
        return folder
    if run.resume and not folder.is_dir():
        raise ConfigError(f"run_dir: {folder} does not exist, so there is no run to resume")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run_dir: {folder} is a file")
    folder.mkdir(parents=True, exist_ok=True)
    # A folder that no run ever locked is somebody else's: leave no lock in it.
    if (folder / LOCK).exists() or run.resume:
        lock(folder)
    if not run.resume and any(path.name != LOCK for path in folder.iterdir()):
        raise ConfigError(
            f"run_dir: {folder} exists and is not empty; resume=true goes on with the run in it, another run_dir "
            "starts a new one"
        )
    lock(folder)
    if run.resume:
        settle_last(folder / CHECKPOINTS)
    else:
        run.save(folder)
    return folder


@contextmanager
def starting(run: Run) -> Iterator[Path]:
    """Claim a run's folder for the making of its parts. Where that fails, a new run leaves nothing in it.

    Raises:
        ConfigError: see `claim`.
    """
    folder = claim(run)
    try:
        yield folder
    except BaseException:
        if not run.resume and is_first_process():
            _give_back(folder)
        raise


def _give_back(folder: Path) -> None:
    """Delete what a start makes, so that the folder can be claimed again; what somebody else put there stays."""
    for name in MADE_AT_START:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (CONFIG_FILE, LOCK):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def lock(folder: Path) -> None:
    """Hold `.lock` until the process ends, however it ends.

    The handle stays open on purpose. A record lock belongs to this process alone: workers that it forked
    and that outlive it do not keep the folder locked, and the process may claim the folder again.
    Where the disk knows no locks, what `.lock` says of its holder has to do.
    """
    path = folder / LOCK
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip()
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lockless = error.errno in UNSUPPORTED
        if error.errno in (errno.EACCES, errno.EAGAIN) or (lockless and _lives(holder)):
            os.close(handle)
            raise ConfigError(
                f"run_dir: {folder} is in use by {holder or 'another process'}; so {path} says"
            ) from error
        if not lockless:
            os.close(handle)
            raise OSError(error.errno, f"cannot be locked ({error.strerror})", str(path)) from error
        warnings.warn(
            f"{path}: this disk knows no locks ({error.strerror}); start no second run in {folder}", stacklevel=3
        )
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _lives(holder: str) -> bool:
    """Whether what `.lock` says names another live process of this machine."""
    told = re.fullmatch(r"process (\d+) on (.+)", holder)
    if told is None or told[2] != socket.gethostname() or int(told[1]) == os.getpid():
        return False
    try:
        os.kill(int(told[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True
