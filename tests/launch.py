"""Programs in processes of their own that import nothing anew; and one in several processes that know of each other."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

TIMEOUT = 300
"""Seconds that the processes have."""

_forks = multiprocessing.get_context("forkserver")
# Importing PyTorch and all the rest takes most of such a test's time, and is the same in every process.
_forks.set_forkserver_preload(["vla_rl.train"])


def start(log: Path, *arguments: str, folder: Path | None = None, **environment: str) -> ForkServerProcess:
    """Start `python ARGUMENTS`, a script or `-m` and a module, in a folder. What it says goes to `log`."""
    given = {**os.environ, **environment}
    process = _forks.Process(target=_take_part, args=(arguments, given, log, folder or Path.cwd()))
    process.start()
    return process


def run(*arguments: str, folder: Path | None = None) -> None:
    """Run such a program, which must end well."""
    with tempfile.TemporaryDirectory() as own:
        log = Path(own, "log")
        process = start(log, *arguments, folder=folder)
        process.join(TIMEOUT)
        process.kill()
        assert process.exitcode == 0, f"{' '.join(arguments)}\n{log.read_text()}"


def in_processes(count: int, *arguments: str, **environment: str) -> None:
    """Run such a program in `count` processes, as torchrun would on one machine."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        free.close()
        logs = [Path(folder, f"{rank}.log") for rank in range(count)]
        places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        ranks = [
            start(log, *arguments, **(shared | environment | place)) for log, place in zip(logs, places, strict=True)
        ]
        running = {process.sentinel: process for process in ranks}
        failed = False
        while running and not failed:
            ended = wait(list(running), timeout=TIMEOUT)
            failed = not ended or any(running.pop(each).exitcode for each in ended)  # type: ignore[arg-type]
        for process in running.values():  # which would wait for the one that failed
            process.kill()
        for process in ranks:
            process.join()
        assert not failed, "\n".join(log.read_text() for log in logs)


def _take_part(arguments: tuple[str, ...], environment: dict[str, str], log: Path, folder: Path) -> None:
    """Be the process, and write what it says to `log`."""
    with log.open("w") as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
    os.environ.update(environment)
    os.chdir(folder)
    if arguments[0] == "-m":
        sys.argv = list(arguments[1:])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")
