"""A full disk ends a run with a checkpoint of all it has done, in the room that was held for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fakes
from vla_rl import cli, fault_points
from vla_rl.fault_points import parse
from vla_rl.runtime import checkpoint, reserve


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("only root can mount a disk that fills up")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # this process holds the run's lock


def failing(rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_points, "_rules", parse(rules))
    monkeypatch.setattr(fault_points, "_times", Counter())


def test_as_much_is_held_as_the_next_checkpoint_may_need(disk: Path) -> None:
    run = disk / "run"
    for step, size in ((1, 2 << 20), (2, 3 << 20)):
        made = checkpoint.save(run, step, {"part": lambda folder, size=size: (folder / "f").write_bytes(bytes(size))})
        before = shutil.disk_usage(disk).used
        reserve.hold(run, made)
    assert reserve.own_bytes(made) >= 3 << 20
    assert (run / reserve.RESERVE).stat().st_size == int(reserve.MARGIN * reserve.own_bytes(made))
    assert shutil.disk_usage(disk).used > before, "it is room, not only a name"
    assert reserve.release(run)
    assert not reserve.release(run)
    full = disk / "else"
    full.write_bytes(b"0" * (shutil.disk_usage(disk).free - 4096))
    with pytest.warns(UserWarning, match="no room for the next checkpoint, of about 5 MiB"):
        reserve.hold(run, made)


@pytest.mark.parametrize("point", ["checkpoint.begin", "checkpoint.manifest", "replay.write"])
def test_a_disk_that_fills_up_ends_a_run_with_a_checkpoint(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], point: str
) -> None:
    failing(f"{point}:full@3", monkeypatch)
    assert cli.main(["train", *line, "train.steps=100000", "train.save_every=16"]) == cli.USER_ERROR
    told = capsys.readouterr().err
    assert "No space left on device" in told
    generation = checkpoint.latest(tmp_path / "run")
    assert generation is not None
    assert f"a checkpoint of step {generation.step} is written" in told
    assert generation.step >= 16
    assert (generation.folder / "training_state" / "lanes").is_dir(), "what was under way goes on"
    assert not (tmp_path / "run" / reserve.RESERVE).exists()
    failing("", monkeypatch)
    steps = generation.step + 16
    assert cli.main(["train", "resume=true", f"run_dir={tmp_path}/run", f"train.steps={steps}"]) == 0


def test_a_run_on_a_disk_that_is_full_loses_no_step(
    line: list[str], disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk fills up in mid-run: only what was held in reserve has room for the last checkpoint."""
    own, ballast = [*line, f"run_dir={disk}/run"], disk / "ballast"
    stepped = fakes.Line.step
    made = iter(range(10**6))

    def filling(self: fakes.Line, action: object) -> object:
        if next(made) == 100:
            handle = os.open(ballast, os.O_WRONLY | os.O_CREAT)
            os.posix_fallocate(handle, 0, shutil.disk_usage(disk).free // 4096 * 4096)
            os.close(handle)
        return stepped(self, action)  # type: ignore[arg-type]

    monkeypatch.setattr(fakes.Line, "step", filling)
    assert cli.main(["train", *own, "train.steps=100000", "train.save_every=32"]) == cli.USER_ERROR
    told = capsys.readouterr().err
    generation = checkpoint.latest(disk / "run")
    assert generation is not None
    assert f"a checkpoint of step {generation.step} is written" in told
    assert generation.step > 96
