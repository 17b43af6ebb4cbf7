"""Run by test_checkpoint.py in processes of its own, which get killed.

kill BASE RUNS    save step 3 into copies of BASE, each in a process that kills itself one write later
hold RUN          claim RUN, fork a worker, say both pids, wait for ever
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vla_rl.runtime import checkpoint, run_folder

WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link"}


@dataclass(frozen=True)
class FakeRun:
    """As much of a config as a folder's claim needs."""

    run_dir: Path
    resume: bool = False

    def save(self, folder: Path) -> Path:
        (folder / "config.yaml").write_text("seed: 0\n")
        return folder / "config.yaml"


def parts(step: int) -> dict[str, Any]:
    """Two parts, of which each says the step in every file."""

    def policy(folder: Path) -> None:
        (folder / "config.json").write_text(f'{{"step": {step}}}')
        (folder / "weights").mkdir()
        (folder / "weights" / "model.bin").write_bytes(bytes([step]) * 5000)

    def state(folder: Path) -> None:
        checkpoint.save_state(folder, {"step": step, "tensor": torch.full((100,), float(step))})

    return {"pretrained_model": policy, "training_state": state}


def die_at(write: int) -> None:
    """Have the kernel kill this process as it comes to its `write`-th write point."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event in WRITES or (event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR)))
        if writes:
            seen += 1
            if seen == write:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def kill_at_every_write(base: Path, runs: Path) -> None:
    """Make RUNS/1, RUNS/2, ... until a save survives."""
    for write in range(1, 1000):
        run = runs / f"{write}"
        shutil.copytree(base, run, symlinks=True)
        child = os.fork()
        if child == 0:
            die_at(write)
            checkpoint.save(run, 3, parts(3), keep=2)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0, status
            return
    raise AssertionError("the save never ended")


def hold(run: Path) -> None:
    run_folder.claim(FakeRun(run))
    worker = os.fork()
    if worker:
        print(os.getpid(), worker, flush=True)
    signal.pause()


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        for folder in map(Path, sys.argv[2:]):
            kill_at_every_write(folder / "base", folder / "runs")
    else:
        hold(Path(sys.argv[2]))
