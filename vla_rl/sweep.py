"""`vla-rl train -m seed=1,2,3`: many runs, some at a time, which share the cores; what is done is not done again."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vla_rl import config
from vla_rl.compare import PAGE, compare
from vla_rl.config import CONFIG_FILE, sweeps
from vla_rl.config.sweeps import SWEEP_FILE
from vla_rl.registry import ConfigError
from vla_rl.runtime.run_folder import lock
from vla_rl.runtime.signals import Stop

COMMANDS = ("train", "sft", "eval")
"""What a sweep may consist of."""
WAITING, RUNNING, DONE, FAILED, INTERRUPTED = "waiting", "running", "done", "failed", "interrupted"
LOGS = "logs"
PROGRAM = (sys.executable, "-m", "vla_rl.cli")
SOME_FAILED = 1
"""The exit code where a run failed."""
_LOOK, _TELL = 0.2, 60.0
"""Seconds between two looks at the runs, and between two lines on how far they are."""
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux."""


@dataclass
class Job:
    """One run of a sweep: its folder's name, its overrides, how it stands, and its exit code."""

    name: str
    overrides: list[str]
    state: str = WAITING
    code: int | None = None


@dataclass
class Sweep:
    """A sweep as its folder's `sweep.json` tells it. command: what each run is, one of COMMANDS."""

    folder: Path
    command: str
    config_dir: str | None
    jobs: list[Job] = field(default_factory=list)

    def save(self) -> None:
        """Write `sweep.json`, whole or not at all."""
        told = {"command": self.command, "config_dir": self.config_dir, "runs": [asdict(job) for job in self.jobs]}
        draft = self.folder / f".{SWEEP_FILE}.part"
        draft.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
        draft.replace(self.folder / SWEEP_FILE)

    @classmethod
    def load(cls, folder: Path) -> Sweep:
        """What lies in a folder. Raises ConfigError where that is no sweep."""
        path = folder / SWEEP_FILE
        try:
            told = json.loads(path.read_text("utf-8"))
            return cls(folder, str(told["command"]), told["config_dir"], [Job(**each) for each in told["runs"]])
        except FileNotFoundError as error:
            raise ConfigError(f"resume: {folder} holds no {SWEEP_FILE}, so there is no sweep to go on with") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: damaged: {error!r}") from error


@dataclass(frozen=True)
class Share:
    """What one run at a time has of the machine. gpu: which CUDA device; None for the choice that there is."""

    cores: tuple[int, ...]
    gpu: str | None = None

    def environment(self) -> dict[str, str]:
        """For a process that keeps to it: PyTorch's threads, and the device that it sees."""
        threads = min(len(self.cores), int(os.environ.get("OMP_NUM_THREADS") or len(self.cores)))
        device = {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}
        return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1", **device}


def sweep(
    command: str, overrides: Sequence[str], config_dir: Path | None = None, jobs: int | None = None, show: bool = False
) -> int:
    """Run every combination of the overrides' values, each in a process of its own; returns the exit code.

    A run that fails is told and ends no other. Ctrl-C and SIGTERM end all, each with a checkpoint. `resume=true
    run_dir=FOLDER` goes on: what is done stays, and a training goes on from its last checkpoint. It ends in a
    comparison of the runs, in the sweep's folder.

    Args:
        jobs: runs at once. Default: one for each two cores, and no more than there are GPUs.
        show: print the runs, and do nothing else.

    Raises:
        ConfigError: overrides that are none, or that do not suit the sweep that goes on.
        SystemExit: code `INTERRUPTED` of `runtime.signals`, after Ctrl-C or SIGTERM.
    """
    if command not in COMMANDS:
        raise ConfigError(f"{command}: takes no -m; {', '.join(COMMANDS)} do")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("-m: starts processes of its own; start it without torchrun")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs: at least 1, got {jobs}")
    own, rest = _own(overrides)
    planned = [Job(each.name, list(each.overrides)) for each in sweeps.expand(rest, config_dir)]
    if show:
        print("\n".join(" ".join([f"{job.name}:", *job.overrides]) for job in planned))
        return 0
    plan = _resumed(own, command, planned if rest else []) if own.get("resume") == "true" else None
    devices = _check(command, planned if plan is None else plan.jobs, config_dir)
    if plan is None:
        plan = Sweep(_new_folder(own, command), command, str(config_dir) if config_dir else None, planned)
    lock(plan.folder)
    plan.save()
    left = [job for job in plan.jobs if job.state != DONE]
    print(f"sweep: {len(plan.jobs)} runs in {plan.folder}" + (f", {len(left)} left" if left != plan.jobs else ""))
    if left:
        _run_all(plan, left, shares(len(left), jobs, devices))
    _compare(plan)
    return SOME_FAILED if any(job.state == FAILED for job in plan.jobs) else 0


def _own(overrides: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What the sweep takes for itself (`run_dir`, `resume`), and the overrides of its runs."""
    own, rest = {}, []
    for text in overrides:
        key, equals, value = text.partition("=")
        if equals and key in ("run_dir", "resume"):
            own[key] = value
        else:
            rest.append(text)
    if own.get("resume", "false").lower() not in ("true", "false"):
        raise ConfigError(f"resume: true or false, got {own['resume']!r}")
    own["resume"] = own.get("resume", "false").lower()
    if own["resume"] == "true" and not own.get("run_dir"):
        raise ConfigError("resume: give run_dir=FOLDER too, the folder of the sweep to go on with")
    return own, rest


def _resumed(own: dict[str, str], command: str, planned: list[Job]) -> Sweep:
    """The sweep that goes on. Raises ConfigError where another one is asked for."""
    found = Sweep.load(Path(own["run_dir"]).expanduser())
    if found.command != command:
        raise ConfigError(f"resume: {found.folder} is a sweep of `vla-rl {found.command} -m`, not of {command}")
    if planned and [job.overrides for job in planned] != [job.overrides for job in found.jobs]:
        raise ConfigError(
            f"resume: {found.folder} is a sweep of {len(found.jobs)} other runs, the first "
            f"`{' '.join(found.jobs[0].overrides)}`; give resume=true and run_dir alone, or another run_dir"
        )
    return found


def _new_folder(own: dict[str, str], command: str) -> Path:
    moment = f"{time.strftime('%H-%M-%S')}-{secrets.token_hex(2)}"
    folder = Path("outputs", "sweep", time.strftime("%Y-%m-%d"), f"{moment}_{command}")
    folder = Path(own["run_dir"]).expanduser() if own.get("run_dir") else folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"run_dir: {folder} exists and is not empty; resume=true goes on with the sweep in it, another run_dir "
            "starts a new one"
        )
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    return folder


def _check(command: str, jobs: Sequence[Job], config_dir: Path | None) -> set[str]:
    """Compose every config before any run begins; the devices that they ask for. Raises ConfigError."""
    found = set[str]()
    for job in jobs:
        try:
            found.add(config.load(job.overrides, config_dir=config_dir, command=command).device)
        except ConfigError as error:
            error.add_note(f"in the run {job.name}; none was started")
            raise
    return found


def shares(runs: int, jobs: int | None, devices: set[str]) -> list[Share]:
    """What each of the runs at once has of the cores, which are dealt out, and of the GPUs, in turn."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    gpus = gpus_there() if devices != {"cpu"} else []
    usual = min(max(len(cores) // 2, 1), len(gpus) or len(cores))
    count = max(min(jobs or usual, runs), 1)
    found = []
    for number in range(count):
        begin, end = number * len(cores) // count, (number + 1) * len(cores) // count
        own = cores[begin:end] or [cores[number % len(cores)]]
        found.append(Share(tuple(own), gpus[number % len(gpus)] if gpus else None))
    return found


def gpus_there() -> list[str]:
    """The CUDA devices that a process may see, by the names that CUDA_VISIBLE_DEVICES takes; PyTorch is not asked."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(folder.iterdir())))] if folder.is_dir() else []


def _run_all(plan: Sweep, left: Sequence[Job], places: Sequence[Share]) -> None:
    """Run what is left, so many at once, until all have ended or somebody wants to stop."""
    waiting, free, told = list(left), list(places), time.monotonic()
    running: dict[int, tuple[Job, Share, subprocess.Popen]] = {}
    cores = ", ".join(str(len(place.cores)) for place in places)
    print(f"{len(places)} at once, on {cores} core(s){' and a GPU each' if places[0].gpu else ''}", flush=True)
    asked = False
    with Stop() as stop, stop.held(), _killed_at_last(running):
        while running or (waiting and not stop.asked):
            while waiting and free and not stop.asked:
                job, place = waiting.pop(0), free.pop(0)
                process = _start(plan, job, place)
                running[process.pid] = (job, place, process)
                print(f"{job.name}: begun; {_log(plan, job)}", flush=True)
            if stop.asked and not asked:
                asked = True
                print(f"told to stop: waiting for the checkpoints of {len(running)} run(s)", flush=True)
                for _, _, process in running.values():
                    process.send_signal(signal.SIGTERM)
            for pid, (job, place, process) in list(running.items()):
                if process.poll() is not None:
                    del running[pid]
                    free.append(place)
                    _ended(plan, job, process.returncode, stop.asked)
            if time.monotonic() - told > _TELL:
                told = time.monotonic()
                for job, _, _ in running.values():
                    print(f"{job.name}: {_last_line(_log(plan, job))}", flush=True)
            if running:
                time.sleep(_LOOK)
        if stop.asked:
            stop.end(f"sweep; `vla-rl {plan.command} -m resume=true run_dir={plan.folder}` goes on")


@contextmanager
def _killed_at_last(running: dict[int, tuple[Job, Share, subprocess.Popen]]) -> Iterator[None]:
    """Leave no process behind, whatever happens."""
    try:
        yield
    finally:
        for _, _, process in running.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(plan: Sweep, job: Job, place: Share) -> subprocess.Popen:
    """Start a run's process on its share of the machine; what it says goes to its log."""
    folder = plan.folder / job.name
    own = [f"run_dir={folder}"]
    if (folder / CONFIG_FILE).is_file():
        if plan.command == "train":
            own.append("resume=true")
        else:
            _set_aside(folder)
    given = ["--config-dir", plan.config_dir] if plan.config_dir else []
    command = [*PROGRAM, plan.command, *job.overrides, *own, *given]
    (plan.folder / LOGS).mkdir(exist_ok=True)
    job.state, job.code = RUNNING, None
    plan.save()
    with _log(plan, job).open("a") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=place.environment(),
            start_new_session=True,  # the terminal's Ctrl-C is for the sweep, which tells its runs
            preexec_fn=_keep_to(place.cores),
        )
    return process


def _set_aside(folder: Path) -> None:
    """Make room for a run that cannot go on and begins anew; what it had written stays beside it."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.interrupted-{number}")).exists():
        number += 1
    folder.rename(aside)


def _keep_to(cores: Sequence[int]) -> Callable[[], None]:
    """What a new process does before all else: keep to its cores, and end when the sweep is killed."""
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        if libc is not None:
            os.sched_setaffinity(0, cores)
            libc.prctl(_DIE_WITH_PARENT, signal.SIGTERM)

    return prepare


def _ended(plan: Sweep, job: Job, code: int, stopped: bool) -> None:
    """Note and say how a run ended."""
    job.code = code
    job.state = DONE if code == 0 else INTERRUPTED if stopped else FAILED
    plan.save()
    over = sum(each.state in (DONE, FAILED) for each in plan.jobs)
    how = "done" if job.state == DONE else job.state if job.state == INTERRUPTED else f"FAILED (exit code {code})"
    print(f"{job.name}: {how} ({over} of {len(plan.jobs)} over)", flush=True)
    if job.state == FAILED:
        print(f"{job.name}: {_last_line(_log(plan, job))}; {_log(plan, job)} says all", file=sys.stderr, flush=True)


def _log(plan: Sweep, job: Job) -> Path:
    return plan.folder / LOGS / f"{job.name}.log"


def _last_line(path: Path) -> str:
    """The last line that says something."""
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing said yet")


def _compare(plan: Sweep) -> None:
    """Put the runs that were done beside one another."""
    done = [plan.folder / job.name for job in plan.jobs if job.state == DONE]
    if done:
        compare(done, plan.folder / PAGE)
