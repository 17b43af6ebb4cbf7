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
