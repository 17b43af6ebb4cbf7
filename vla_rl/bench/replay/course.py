"""What every buffer goes through, told by lines on stdin, answered by lines of JSON. numpy only, for any Python.

fill     until its ring has gone round more than twice   {"transitions", "bytes"}; bytes of RAM and disk, measured
add      a part more                                      {"adds_per_s"}
sample   batches with next observations                   {"samples_per_s", "latencies", ...}; seconds of each
wrong    what batches hold against what was recorded      {"wrong_next"}; the share of rows that bootstrap wrongly
save     write it all, and load it into a new one         {"save_s", "restore_s"}; null where it has no such thing
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vla_rl.bench.replay import stream
from vla_rl.bench.replay.stream import Step, Stream

BATCH = 256
ROUNDS_OF_RING = 2.3
PART_BYTES = 96 << 20
"""Transitions are made ahead of their adding, in parts of at most so many bytes, and at most so many."""
MOST_PART = 512


@dataclass(frozen=True)
class Setting:
    """recording: file of pictures. capacity: transitions. batches: sampled at one `sample`."""

    recording: str
    capacity: int
    stack: int
    marked: bool
    batches: int


@dataclass(frozen=True)
class Looked:
    """A batch in common terms: pictures [B, stack, H, W, 3] by camera, and which rows' targets bootstrap, bool [B]."""

    seen: dict[str, np.ndarray]
    following: dict[str, np.ndarray]
    bootstraps: np.ndarray


class Rival(Protocol):
    """A replay buffer of `setting.capacity` transitions, in memory and, where it likes, in `folder`."""

    def __len__(self) -> int: ...
    def add(self, step: Step) -> None: ...
    def sample(self, count: int) -> Any: ...
    def look(self, sampled: Any) -> Looked: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...


Make = Callable[[Setting, Stream, Path], Rival]


def main(variants: dict[str, Make]) -> None:
    """Serve `VARIANT SETTING` (a JSON object) of the command line; `--check` only says that all can be imported."""
    if sys.argv[1:] == ["--check"]:
        return
    make, setting = variants[sys.argv[1]], Setting(**json.loads(sys.argv[2]))
    # Whatever a buffer prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="vla_rl_bench_") as folder:
        course = Course(make, setting, Path(folder))
        for line in sys.stdin:
            print(json.dumps(getattr(course, line.strip())()), file=answers, flush=True)


class Course:
    """One buffer on its way."""

    def __init__(self, make: Make, setting: Setting, folder: Path) -> None:
        self._make, self._setting, self._folder = make, setting, folder
        self._stream = Stream.read(Path(setting.recording), setting.stack, setting.marked)
        step = sum(int(np.prod(shape)) for shape in self._stream.shapes.values()) * (setting.stack + 1)
        self._part = max(min(PART_BYTES // step, MOST_PART), 16)
        self._stream.take(self._part)
        self._home = folder / "buffer"
        self._home.mkdir()
        self._saves = 0
        self._before = resident()
        self._rival = make(setting, self._stream, self._home)

    def fill(self) -> dict[str, float]:
        for _ in range(round(ROUNDS_OF_RING * self._setting.capacity / self._part)):
            for step in self._stream.take(self._part):
                self._rival.add(step)
        used = resident() - self._before + on_disk(self._home)
        return {"transitions": len(self._rival), "bytes": used / len(self._rival)}

    def add(self) -> dict[str, float]:
        steps = self._stream.take(self._part)
        start = time.perf_counter()
        for step in steps:
            self._rival.add(step)
        return {"adds_per_s": len(steps) / (time.perf_counter() - start)}

    def sample(self) -> dict[str, Any]:
        self._rival.sample(BATCH)
        latencies = []
        for _ in range(self._setting.batches):
            start = time.perf_counter()
            self._rival.sample(BATCH)
            latencies.append(time.perf_counter() - start)
        found = {"samples_per_s": BATCH * len(latencies) / sum(latencies), "latencies": latencies}
        # What only our own process can say: the roofs, in turn with the sampling.
        return found | getattr(self._rival, "roofs", dict)()

    def wrong(self) -> dict[str, float | None]:
        if not self._setting.marked:
            return {"wrong_next": None}
        bad = rows = 0
        for _ in range(8):
            looked = self._rival.look(self._rival.sample(BATCH))
            wrong = stream.wrong(looked.seen, looked.following)
            bad += int((wrong & looked.bootstraps).sum())
            rows += int(looked.bootstraps.sum())
        return {"wrong_next": bad / rows, "checked": rows}

    def save(self) -> dict[str, float | None]:
        """Restoring is into a new buffer, and until a first batch is there."""
        place, home = self._folder / "saved", self._folder / f"buffer{self._saves}"
        place.mkdir()
        start = time.perf_counter()
        try:
            self._rival.save(place)
        except NotImplementedError:
            place.rmdir()
            return {"save_s": None, "restore_s": None}
        os.sync()
        saved = time.perf_counter()
        del self._rival
        gc.collect()
        shutil.rmtree(self._home)
        home.mkdir()
        self._rival, self._home, self._saves = self._make(self._setting, self._stream, home), home, self._saves + 1
        middle = time.perf_counter()
        self._rival.load(place)
        self._rival.sample(BATCH)
        found: dict[str, float | None] = {"save_s": saved - start}
        found |= {"restore_s": time.perf_counter() - middle, "saved_bytes": on_disk(place)}
        shutil.rmtree(place)
        return found


def resident() -> int:
    """Bytes of memory that is this process's own, or shared without a file, after all garbage is returned."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return sum(int(lines[name].split()[0]) << 10 for name in ("RssAnon", "RssShmem"))


def on_disk(folder: Path) -> int:
    """Bytes that the files of `folder` take, each counted once."""
    files = {path.stat().st_ino: path.stat() for path in folder.rglob("*") if path.is_file()}
    return sum(found.st_blocks * 512 for found in files.values())
