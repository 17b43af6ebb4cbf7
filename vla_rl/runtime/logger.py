"""What a run says: `metrics.jsonl`, a tracker (TensorBoard by default), and a progress bar."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from vla_rl import fault_points
from vla_rl.paths import METRICS_FILE

LINE_EVERY = 30.0
"""Seconds between two lines on how far a run is, where there is no terminal to draw a bar in."""


class Log:
    """Gathers metrics without waiting for the device, and writes their means on schedule.

    Args:
        folder: of the run; `metrics.jsonl` is appended to, so that a resumed run goes on in it.
        accelerator: whose trackers get every line too; None for none.
        total: of the run, in steps.
        show: say how far the run is and write the file (only one process of a run should). A terminal has a bar; what
            is not one, such as a file, a line every `LINE_EVERY` seconds.
        minutes: that the run has, if it may end before `total`; the time left is that of whatever ends first.

    Attributes:
        lines: that the file holds; None where that is not known, before it has been begun.
    """

    def __init__(
        self, folder: Path, accelerator: Any, total: int, label: str, show: bool = True, minutes: float | None = None
    ) -> None:
        self._file = folder / METRICS_FILE
        self._accelerator = accelerator
        self.lines: int | None = None
        self._sums: dict[str, list[Any]] = defaultdict(list)
        self._seconds: dict[str, float] = defaultdict(float)
        self._totals: dict[str, float] = defaultdict(float)
        self._begun = self._start = time.perf_counter()
        self._show = show
        self._label, self._total, self._limit = label, total, 60 * minutes if minutes else math.inf
        self._before: float | None = None
        self._last_line = -math.inf
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[steps]}"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._bar = Progress(*columns, refresh_per_second=2)
        self._in_lines = show and not (self._bar.console.is_terminal or self._bar.console.is_jupyter)
        self._bar.disable = not show or self._in_lines
        self._task = self._bar.add_task(label, total=1.0, note="", steps="", left="")

    def __enter__(self) -> Self:
        self._begun = self._start = time.perf_counter()
        self.lines = _lines(self._file)
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, metrics: Mapping[str, torch.Tensor | float]) -> None:
        """Remember the metrics of one update."""
        for name, value in metrics.items():
            self._sums[name].append(value)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the time inside towards `time/<part>`, a share of the time since the last line."""
        start = time.perf_counter()
        yield
        took = time.perf_counter() - start
        self._seconds[part] += took
        self._totals[part] += took

    def describe(self) -> str:
        """Where the time went since the beginning, in a line for people."""
        elapsed = time.perf_counter() - self._begun
        shares = {part: took / elapsed for part, took in self._totals.items()}
        shares["rest"] = 1 - sum(shares.values())
        return f"time: {elapsed:.0f} s; " + ", ".join(f"{part} {100 * share:.0f}%" for part, share in shares.items())

    def progress(self, step: int, note: str, seconds: float | None = None) -> None:
        """Move the bar, or say how far the run is. seconds: that it took in all, with those before it was resumed."""
        passed = time.perf_counter() - self._begun
        share = max(step / max(self._total, 1), (passed if seconds is None else seconds) / self._limit)
        if self._before is None:
            self._before = share
        left, steps = _left(passed, share, self._before), f"{step:,} of {self._total:,}"
        self._bar.update(self._task, completed=min(share, 1.0), note=note, steps=steps, left=left)
        if self._in_lines and self._total and (passed - self._last_line >= LINE_EVERY or share >= 1):
            self._last_line = passed if share < 1 else math.inf
            told = [f"{self._label}: {steps} steps", note, f"{clock(passed)} passed", left]
            print(", ".join(part for part in told if part), flush=True)

    def write(self, step: int, extra: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Append one line: the means since the last, time shares, and `extra`. Returns the line."""
        values = {name: _mean(items) for name, items in self._sums.items()}
        elapsed = time.perf_counter() - self._start
        shares = {f"time/{part}": seconds / elapsed for part, seconds in self._seconds.items()}
        line = {"step": step, "time": time.time(), **values, **shares, "time/seconds": elapsed, **(extra or {})}
        line = {name: value for name, value in line.items() if not (isinstance(value, float) and math.isnan(value))}
        if self._show:
            self._append(json.dumps(line) + "\n")
        if self._accelerator is not None:
            self._accelerator.log({k: v for k, v in line.items() if k not in ("step", "time")}, step=step)
        self._sums.clear()
        self._seconds.clear()
        self._start = time.perf_counter()
        return line

    def state_dict(self) -> dict[str, Any]:
        """What has been gathered since the last line, but times, and how many lines there are."""
        return {"sums": {name: _stacked(items).cpu() for name, items in self._sums.items()}, "lines": self.lines}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, before it has begun."""
        self._sums = defaultdict(list, {name: list(values.unbind()) for name, values in state["sums"].items()})
        self.lines = state["lines"]

    def _append(self, line: str) -> None:
        """Write a whole line or none. A full disk must not end a run that may save what it has learned by then."""
        size = self._file.stat().st_size if self._file.exists() else 0
        try:
            fault_points.come_to("log.write")
            with self._file.open("a") as file:
                file.write(line)
            self.lines = (self.lines or 0) + 1
        except OSError as error:
            print(f"warning: {self._file}: a line cannot be written: {error}", file=sys.stderr)
            if self._file.exists():
                os.truncate(self._file, size)


def _left(passed: float, share: float, before: float) -> str:
    """How long the rest takes, when `passed` seconds went by between these shares of the whole; "" if unknown."""
    if share <= before or share >= 1:
        return ""
    return f"{clock(passed * (1 - share) / (share - before))} left"


def clock(seconds: float) -> str:
    """A time as people read it: 4:05, or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def cut(folder: Path, step: int, lines: int | None = None) -> None:
    """Take what a run wrote after `step` out of its `metrics.jsonl`, and a line that was not written whole.

    lines: how many of the others stay, at most; None for all. Whenever the process dies, either the old file or the new
    one is there.
    """
    path, draft = folder / METRICS_FILE, folder / f".{METRICS_FILE}.part"
    if not path.exists():
        return
    kept = [line for line in path.read_bytes().splitlines(keepends=True) if _belongs(line, step)]
    draft.write_bytes(b"".join(kept[:lines]))
    draft.replace(path)


def _belongs(line: bytes, step: int) -> bool:
    """Whether a whole line tells of `step`, or of an earlier one."""
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):
        return False


def _mean(items: list[Any]) -> float:
    """The mean of the finite values; NaN where there are none."""
    values = _stacked(items).cpu()
    finite = values[torch.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _stacked(items: list[Any]) -> torch.Tensor:
    return torch.stack([torch.as_tensor(item, dtype=torch.float32).detach() for item in items])


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
