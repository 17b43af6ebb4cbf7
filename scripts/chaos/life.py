"""Lives of a run: processes that are started, watched, and counted once they have ended."""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

PATIENCE = 300.0
"""Seconds after which something counts as hung, on a machine that has much else to do."""
_ADOPT = 36  # PR_SET_CHILD_SUBREAPER
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["vla_rl.train", "vla_rl.eval", "vla_rl.sft"])


def adopt_orphans() -> None:
    """Become the parent of all that our processes leave behind, so that nothing of it goes unseen."""
    if ctypes.CDLL(None, use_errno=True).prctl(_ADOPT, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot become the reaper of orphans")


class Life:
    """`vla-rl ARGUMENTS` in a process of its own that imports nothing anew. What it says goes to `log`."""

    def __init__(self, log: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.log, self.began = log, time.time()
        self.process: ForkServerProcess = _forks.Process(target=_live, args=(arguments, dict(environment or {}), log))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def said(self) -> str:
        """All that it has said so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def ended(self, patience: float = PATIENCE) -> int | None:
        """Its exit code, below 0 that of a signal; None where it hangs, and has to be killed."""
        self.process.join(patience)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
        return code

    def workers(self) -> list[psutil.Process]:
        """The processes that step its environments."""
        return [each for each in self._below() if "vla_rl.envs.worker" in _command(each)]

    def browsers(self) -> list[psutil.Process]:
        """The browsers' main processes."""
        return [each for each in self._below() if "--remote-debugging-pipe" in _command(each)]

    def _below(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def left_behind(patience: float = 60.0) -> list[str]:
    """The commands of processes that are still there once all lives have ended; they are killed."""
    end = time.monotonic() + patience
    while (left := _strays()) and time.monotonic() < end:
        time.sleep(0.2)
    told = [_command(each)[:120] for each in left]
    for each in left:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    return told


def _strays() -> list[psutil.Process]:
    """What descends from this process, but for multiprocessing's own two; those that have ended are reaped."""
    found = []
    for each in psutil.Process().children(recursive=True):
        try:
            if each.status() == psutil.STATUS_ZOMBIE:
                _reap(each)
            elif not any(name in _command(each) for name in ("forkserver", "resource_tracker")):
                found.append(each)
        except psutil.NoSuchProcess:
            continue
    return found


def _reap(process: psutil.Process) -> None:
    if process.ppid() == os.getpid():
        try:
            os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            return


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def _live(arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
    """Be the process."""
    with log.open("a") as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
    os.environ.update(environment)
    from vla_rl import cli, fault_points

    importlib.reload(fault_points)  # it was imported before the variable was there
    sys.exit(cli.main(list(arguments)))
