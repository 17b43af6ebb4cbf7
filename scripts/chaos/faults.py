"""What goes wrong: while a run works, what ends it, and what happens to its files while nobody is at work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from chaos.life import PATIENCE, Life
from chaos.world import ORDERED
from vla_rl.fault_points import POINTS
from vla_rl.paths import METRICS_FILE
from vla_rl.runtime.generations import CHECKPOINTS, LAST, MANIFEST, Generation, generations, is_whole
from vla_rl.runtime.run_folder import LOCK
from vla_rl.runtime.signals import INTERRUPTED

REPLAY = "training_state/replay"


class Unable(Exception):  # noqa: N818 (it is no error)
    """A fault that cannot happen just now, such as the end of a worker where there is none."""


# While a run works -------------------------------------------------------------------------------


@dataclass
class Working:
    """A life that works. go_on: the overrides with which a run goes on. orders: the folder that its environments obey.
    ended: the environments' processes that were ended from outside."""

    life: Life
    go_on: list[str]
    orders: Path
    rng: np.random.Generator
    ended: set[int]

    def one_of(self, processes: list[psutil.Process]) -> psutil.Process:
        if not processes:
            raise Unable
        return processes[self.rng.integers(len(processes))]


def order(kind: str) -> Callable[[Working], str]:
    """An environment is told to go wrong."""

    def fault(working: Working) -> str:
        path = working.orders / kind
        path.touch()
        end = time.monotonic() + PATIENCE
        while path.exists() and working.life.alive and time.monotonic() < end:
            time.sleep(0.05)
        return "" if not path.exists() else "nobody obeyed"

    return fault


def worker_kill(working: Working) -> str:
    worker = working.one_of(working.life.workers())
    working.ended.add(worker.pid)
    worker.kill()
    return ""


def worker_stop(working: Working) -> str:
    """It is left stopped, so that the run has to end it."""
    worker = working.one_of(working.life.workers())
    working.ended.add(worker.pid)
    worker.suspend()
    end = time.monotonic() + PATIENCE
    while worker.is_running() and working.life.alive and time.monotonic() < end:
        time.sleep(0.1)
    if not working.life.alive and worker.is_running():
        worker.resume()  # nobody else is there to do it
    return "the run waits for a worker that is stopped" if time.monotonic() >= end else ""


def worker_pause(working: Working) -> str:
    return _pause(working.one_of(working.life.workers()), working.rng)


def trainer_pause(working: Working) -> str:
    return _pause(psutil.Process(working.life.pid), working.rng)


def browser_kill(working: Working) -> str:
    working.one_of(working.life.browsers()).kill()
    return ""


def browser_pause(working: Working) -> str:
    return _pause(working.one_of(working.life.browsers()), working.rng)


def second_run(working: Working) -> str:
    """Another run in the same folder is refused, and told whose it is. Where the first one ends meanwhile, the other
    takes over, and finds nothing left to do."""
    other = Life(working.life.log.with_suffix(".other"), "train", *working.go_on, "train.steps=1")
    code, said = other.ended(), other.said()
    if not working.life.alive:
        return ""
    return "" if code == 2 and f"in use by process {working.life.pid} " in said else f"exit code {code}: {said[-200:]}"


def _pause(process: psutil.Process, rng: np.random.Generator) -> str:
    process.suspend()
    time.sleep(rng.uniform(0.5, 3.0))
    process.resume()
    return ""


DURING: Mapping[str, Callable[[Working], str]] = {
    **{f"env {kind}": order(kind) for kind in ORDERED},
    "worker SIGKILL": worker_kill,
    "worker SIGSTOP": worker_stop,
    "worker SIGSTOP, SIGCONT": worker_pause,
    "run SIGSTOP, SIGCONT": trainer_pause,
    "second run": second_run,
}
"""Each returns what is wrong with what the run made of it; "" if nothing. The run has to go on afterwards."""
QUICK = ("env raise", "env raise_reset", "env nan", "env wild", "env paid", "run SIGSTOP, SIGCONT")
"""Those that no process has to be started after, and that come more often."""
BROWSERS: Mapping[str, Callable[[Working], str]] = {
    "browser SIGKILL": browser_kill,
    "browser SIGSTOP, SIGCONT": browser_pause,
}


# What ends a run ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """How a life ends. rule: of `fault_points`, with `{time}` for how often the place is come to before. does: what is
    done to it from outside. codes: what it may end with. says: what it has to say."""

    codes: tuple[int, ...]
    does: Callable[[Life], object] | None = None
    rule: str = ""
    says: str = ""
    disk: bool = False


def _signals(*numbers: signal.Signals) -> Callable[[Life], None]:
    def send(life: Life) -> None:
        for number in numbers:
            os.kill(life.pid, number)
            time.sleep(0.02)

    return send


SAVED = "a checkpoint of step"
ENDS: Mapping[str, End] = {
    "SIGKILL": End((-9,), _signals(signal.SIGKILL)),
    "SIGTERM": End((INTERRUPTED,), _signals(signal.SIGTERM), says="resume=true"),
    "SIGTERM, SIGTERM": End((INTERRUPTED,), _signals(signal.SIGTERM, signal.SIGTERM), says="resume=true"),
    "SIGINT": End((INTERRUPTED,), _signals(signal.SIGINT), says="resume=true"),
    **{f"SIGKILL at {point}": End((-9,), rule=f"{point}:kill@{{time}}") for point in POINTS if "checkpoint" in point},
    "SIGKILL at replay.write": End((-9,), rule="replay.write:kill@{time}"),
    "disk full at checkpoint.manifest": End((2,), rule="checkpoint.manifest:full@{time}", says=SAVED),
    "disk full at replay.write": End((2,), rule="replay.write:full@{time}", says=SAVED),
    "disk full": End((2,), disk=True, says=SAVED),
}


class Disk:
    """A disk of the run's own, which can be full: in memory, where this process may mount one."""

    def __init__(self, folder: Path, size: int = 4 << 30) -> None:
        self.folder, self._size = folder, size
        folder.mkdir(parents=True, exist_ok=True)
        self.own = not self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def fill(self) -> None:
        """Leave no room at all."""
        self._mount("-o", f"remount,size={shutil.disk_usage(self.folder).used}")

    def empty(self) -> None:
        """Make room again."""
        self._mount("-o", f"remount,size={self._size}")

    def give_back(self, keep: Path) -> None:
        """Copy what it holds to another folder, and be no more."""
        if self.own:
            shutil.copytree(self.folder, keep, symlinks=True, dirs_exist_ok=True)
            subprocess.run(["umount", str(self.folder)], check=True)

    def _mount(self, *how: str) -> int:
        return subprocess.run(["mount", *how, str(self.folder)], capture_output=True, check=False).returncode


# What happens to files while nobody is at work ---------------------------------------------------


def _files(generation: Generation, shared: bool) -> list[Path]:
    """A generation's files that others have, too, or that only it has; not its manifest."""
    files = [path for path in generation.folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return [path for path in files if (path.stat().st_nlink > 1) == shared and path.stat().st_size]


def _of_newest(run: Path, rng: np.random.Generator) -> Path:
    """A file that only the newest generation has, where the one before is whole."""
    found = [each for each in generations(run / CHECKPOINTS) if is_whole(each.folder)]
    if len(found) < 2:
        raise Unable
    files = _files(found[0], shared=False)
    return files[rng.integers(len(files))]


def flip(path: Path, rng: np.random.Generator) -> None:
    """Alter one bit, under all names that the file has."""
    with open(path, "r+b") as file:
        at = int(rng.integers(path.stat().st_size))
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << rng.integers(8)]))


def flip_newest(run: Path, rng: np.random.Generator) -> str:
    flip(path := _of_newest(run, rng), rng)
    return path.name


def cut_newest(run: Path, rng: np.random.Generator) -> str:
    path = _of_newest(run, rng)
    os.truncate(path, int(rng.integers(path.stat().st_size)))
    return path.name


def delete_newest(run: Path, rng: np.random.Generator) -> str:
    path = _of_newest(run, rng)
    path.unlink()
    return path.name


def cut_manifest(run: Path, rng: np.random.Generator) -> str:
    path = next(parent / MANIFEST for parent in _of_newest(run, rng).parents if (parent / MANIFEST).exists())
    os.truncate(path, path.stat().st_size // 2)
    return path.name


def flip_shared(run: Path, rng: np.random.Generator) -> str:
    """No generation is whole any more."""
    found = generations(run / CHECKPOINTS)
    files = [path for path in _files(found[0], shared=True) if path.parent.name == "replay"] if len(found) > 1 else []
    if not files or not all(is_whole(each.folder) for each in found):
        raise Unable
    flip(path := files[rng.integers(len(files))], rng)
    return path.name


def delete_last(run: Path, rng: np.random.Generator) -> str:
    (run / CHECKPOINTS / LAST).unlink(missing_ok=True)
    return ""


def torn_line(run: Path, rng: np.random.Generator) -> str:
    with (run / METRICS_FILE).open("a") as file:
        file.write('{"step": 12')
    return ""


def half_checkpoint(run: Path, rng: np.random.Generator) -> str:
    shutil.copytree(run / CHECKPOINTS, run / CHECKPOINTS / ".part-000001", ignore=shutil.ignore_patterns(".part-*"))
    return ""


def stale_lock(run: Path, rng: np.random.Generator) -> str:
    (run / LOCK).write_text("process 1 on another.machine\n")
    return ""


AT_REST: Mapping[str, Callable[[Path, np.random.Generator], str]] = {
    "file flipped": flip_newest,
    "file cut": cut_newest,
    "file deleted": delete_newest,
    "manifest cut": cut_manifest,
    "shared file flipped": flip_shared,
    "last deleted": delete_last,
    "metrics torn": torn_line,
    "half a checkpoint left": half_checkpoint,
    "stale lock": stale_lock,
}
"""Each returns what the next life has to name as it begins; "" if it need not say anything."""
