"""What a run says is whole lines, also where the disk is full."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vla_rl.runtime.logger import METRICS_FILE, Log


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_lines_and_never_half_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, path = Log(tmp_path, None, 10, "", show=False), tmp_path / METRICS_FILE
    log._show = True
    log.write(1)
    with files_of_at_most(path.stat().st_size + 20):
        log.write(2)
        log.write(3)
    assert capsys.readouterr().err.count(f"warning: {path}: a line cannot be written") == 2
    log.write(4)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 4]


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that logs go by: the last of these seconds."""
    now = [100.0]
    monkeypatch.setattr("vla_rl.runtime.logger.time.perf_counter", lambda: now[-1])
    return now


def test_where_there_is_no_terminal_lines_say_how_far_the_run_is(
    tmp_path: Path, clocked: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Log(tmp_path, None, 1_200, "reach") as log:
        for step in range(0, 1_201, 12):
            log.progress(step, "success 50%")
            clocked.append(clocked[-1] + 1)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "reach: 0 of 1,200 steps, success 50%, 0:00 passed",
        "reach: 360 of 1,200 steps, success 50%, 0:30 passed, 1:10 left",
        "reach: 720 of 1,200 steps, success 50%, 1:00 passed, 0:40 left",
        "reach: 1,080 of 1,200 steps, success 50%, 1:30 passed, 0:10 left",
        "reach: 1,200 of 1,200 steps, success 50%, 1:40 passed",
    ]


def test_the_time_left_is_of_the_minutes_where_these_end_first_also_after_a_resumption(
    tmp_path: Path, clocked: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log(tmp_path, None, 1_000_000, "reach", minutes=10)
    for passed in (0, 60, 120):
        clocked.append(100.0 + passed)
        log.progress(passed, "", 180.0 + passed)  # three minutes went by before
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(", ")[2] for line in lines[1:]] == ["6:00 left", "5:00 left"]


def test_a_process_that_is_not_to_show_anything_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Log(tmp_path, None, 10, "reach", show=False).progress(10, "")
    assert capsys.readouterr().out == ""
