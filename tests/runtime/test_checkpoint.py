"""Checkpoints stay whole under SIGKILL, damage is named and passed over, and a folder holds one run."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_driver import FakeRun, parts
from safetensors import SafetensorError

from tests import launch
from vla_rl.registry import ConfigError
from vla_rl.runtime import checkpoint, run_folder

DRIVER = Path(__file__).parents[1] / "checkpoint_driver.py"


def steps_in(folder: Path) -> set[int]:
    """The steps that the files of a generation tell."""
    state = checkpoint.load_state(folder / "training_state")
    told = {state["step"], *state["tensor"].int().tolist()}
    told |= set((folder / "pretrained_model" / "weights" / "model.bin").read_bytes())
    return told | {int((folder / "pretrained_model" / "config.json").read_text()[9:-1])}


def steps_of(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir() if not path.is_symlink())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with generations of the steps 1 and 2."""
    for step in (1, 2):
        checkpoint.save(tmp_path / "run", step, parts(step))
    return tmp_path / "run"


BEFORE: dict[str, list[int]] = {"first": [], "third": [1, 2]}
"""What a run holds before the save that is killed."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """<name>/runs/1, 2, ...: for each name of BEFORE a run whose save was killed at its first write, second, ..."""
    root = tmp_path_factory.mktemp("killed")
    for name, steps in BEFORE.items():
        (root / name / "base").mkdir(parents=True)
        for step in steps:
            checkpoint.save(root / name / "base", step, parts(step))
    launch.run(str(DRIVER), "kill", *(str(root / name) for name in BEFORE))
    return root


@pytest.mark.parametrize("name", BEFORE)
def test_a_kill_at_any_write_leaves_old_or_new_whole(killed: Path, name: str) -> None:
    before, found = BEFORE[name], []
    for run in (killed / name / "runs").iterdir():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            generation = checkpoint.latest(run)
        found.append(generation.step if generation else None)
        for older in (run / "checkpoints").glob("[0-9]*"):
            checkpoint.verify(older)
        assert generation is None or steps_in(generation.folder) == {generation.step}
        last = run / "checkpoints" / "last"
        assert steps_in(last) in ({2}, {3}) if last.is_symlink() else not before
        checkpoint.save(run, 3, parts(3), keep=2)
        assert steps_of(run) == [f"{step:06d}" for step in [*before, 3][-2:]]
        assert steps_in(last) == {3}
    assert len(found) >= 10
    assert found.count(3) >= 2
    assert set(found) == {before[-1] if before else None, 3}


def test_last_is_relative_so_that_a_run_may_move(run: Path, tmp_path: Path) -> None:
    run.rename(tmp_path / "moved")
    assert steps_in(tmp_path / "moved" / "checkpoints" / "last") == {2}


def test_keeps_the_newest(run: Path) -> None:
    for step in (3, 4):
        checkpoint.save(run, step, parts(step), keep=2)
    assert steps_of(run) == ["000003", "000004"]


def test_the_same_step_again_keeps_what_is_there(run: Path) -> None:
    folder = checkpoint.save(run, 2, parts(7))
    assert steps_in(folder) == {2}


def test_a_damaged_generation_of_the_same_step_is_replaced(run: Path) -> None:
    (run / "checkpoints" / "000002" / "training_state" / "state.json").unlink()
    checkpoint.save(run, 2, parts(2))
    generation = checkpoint.latest(run)
    assert generation is not None
    assert (generation.step, steps_in(generation.folder)) == (2, {2})


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    if how == "bit flip":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif how == "truncated":
        path.write_bytes(content[:middle])
    else:
        path.unlink()


FILES = ["pretrained_model/weights/model.bin", "training_state/state.safetensors", "manifest.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["bit flip", "truncated", "missing"])
def test_damage_is_named_and_passed_over(run: Path, file: str, how: str) -> None:
    damage(run / "checkpoints" / "000002" / file, how)
    with pytest.warns(UserWarning, match=rf"000002/\S*{Path(file).name}.*going back to .* step 1"):
        generation = checkpoint.latest(run)
    assert generation is not None
    assert generation.step == 1


def test_nothing_whole_names_every_file(run: Path) -> None:
    for step in (1, 2):
        damage(run / "checkpoints" / f"00000{step}" / FILES[0], "bit flip")
    with pytest.raises(checkpoint.DamagedError, match=r"000002/\S*model\.bin.*000001/\S*model\.bin"):
        checkpoint.latest(run)


def test_no_generation_is_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_a_full_disk_leaves_the_old_and_nothing_else(run: Path, error: Exception) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").write_bytes(b"1")
        raise error

    with pytest.raises(OSError, match=r"000003: the checkpoint could not be written .*No space left"):
        checkpoint.save(run, 3, parts(3) | {"training_state": fails})
    assert sorted(os.listdir(run / "checkpoints")) == ["000001", "000002", "last"]
    generation = checkpoint.latest(run)
    assert generation is not None
    assert generation.step == 2


def test_refuses_to_keep_nothing(run: Path) -> None:
    with pytest.raises(ValueError, match="keep >= 1"):
        checkpoint.save(run, 3, parts(3), keep=0)


@pytest.mark.parametrize("place", ["", "checkpoints/last", "checkpoints/000002", "checkpoints/last/pretrained_model"])
def test_the_policy_of_a_checkpoint(run: Path, place: str) -> None:
    assert checkpoint.policy_folder(run / place) == (run / "checkpoints/000002/pretrained_model").resolve()


PLACES = ("", "checkpoints", "checkpoints/last", "checkpoints/last/pretrained_model")


def as_link(last: Path) -> None:
    assert last.is_symlink()


def as_a_file(last: Path) -> None:
    last.unlink()
    last.write_text("000002\n")


def as_a_stale_copy(last: Path) -> None:
    last.unlink()
    shutil.copytree(last.with_name("000001"), last)


def as_nothing(last: Path) -> None:
    last.unlink()


@pytest.mark.parametrize("last", [as_link, as_a_file, as_a_stale_copy, as_nothing])
def test_every_name_of_a_runs_last_checkpoint_is_the_newest_generation(run: Path, last: Callable[[Path], None]) -> None:
    last(run / "checkpoints" / "last")
    newest = run / "checkpoints" / "000002"
    for place in PLACES:
        assert checkpoint.policy_folder(run / place) == newest / "pretrained_model"
    assert checkpoint.policy_folder(run / "checkpoints" / "000001") == newest.with_name("000001") / "pretrained_model"


def test_a_checkpoint_tells_its_generation_and_its_run(run: Path, tmp_path: Path) -> None:
    generation = checkpoint.Generation(run / "checkpoints" / "000002", 2)
    for place in (*PLACES, "checkpoints/000002", "checkpoints/000002/pretrained_model"):
        assert checkpoint.locate(run / place) == checkpoint.Place(
            generation.folder / "pretrained_model", generation, run
        )
    alone = shutil.copytree(generation.folder / "pretrained_model", tmp_path / "mine")
    assert checkpoint.locate(alone) == checkpoint.Place(alone, None, None)


def copied(run: Path, target: Path) -> Path:
    """As `cp -rL` copies a run: links become what they lead to."""
    return shutil.copytree(run, target, symlinks=False)


def test_a_copy_that_followed_links_goes_on(run: Path, tmp_path: Path) -> None:
    copy = copied(run, tmp_path / "copy")
    run_folder.claim(FakeRun(copy, resume=True))
    generation = checkpoint.latest(copy)
    assert generation is not None
    assert (generation.step, generation.folder.name) == (2, "000002")
    checkpoint.save(copy, 3, parts(3))
    assert steps_of(copy) == ["000001", "000002", "000003"]
    assert steps_in(copy / "checkpoints" / "last") == {3}


def test_a_copy_of_last_alone_is_the_generation_that_it_holds(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "checkpoints" / "last", tmp_path / "copy" / "checkpoints" / "last")
    generation = checkpoint.latest(tmp_path / "copy")
    assert generation is not None
    assert (generation.step, steps_in(generation.folder)) == (2, {2})
    checkpoint.save(tmp_path / "copy", 3, parts(3))
    assert steps_of(tmp_path / "copy") == ["000002", "000003"]
    assert steps_in(tmp_path / "copy" / "checkpoints" / "last") == {3}


def test_a_copied_last_takes_the_place_of_a_damaged_generation(run: Path, tmp_path: Path) -> None:
    copy = copied(run, tmp_path / "copy")
    damage(copy / "checkpoints" / "000002" / FILES[0], "bit flip")
    run_folder.claim(FakeRun(copy, resume=True))
    generation = checkpoint.latest(copy)
    assert generation is not None
    assert generation.folder.name == "000002"


def test_a_folder_called_last_that_is_no_checkpoint_is_named_and_kept(run: Path) -> None:
    last = run / "checkpoints" / "last"
    last.unlink()
    last.mkdir()
    (last / "notes.txt").write_text("words")
    for call in (
        lambda: run_folder.claim(FakeRun(run, resume=True)),
        lambda: checkpoint.save(run, 3, parts(3)),
    ):
        with pytest.raises(FileExistsError, match=re.escape(str(last))):
            call()
    assert os.listdir(last) == ["notes.txt"]


def unable(error: int) -> Callable[..., None]:
    def call(*_: Any, **__: Any) -> None:
        raise OSError(error, os.strerror(error))

    return call


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL], ids=errno.errorcode.get)
def test_a_disk_without_links_locks_and_flushed_folders_holds_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    fsync = os.fsync

    def flush_files_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(handle)

    monkeypatch.setattr(os, "symlink", unable(error))
    monkeypatch.setattr(os, "link", unable(error))
    monkeypatch.setattr(fcntl, "lockf", unable(error))
    monkeypatch.setattr(os, "fsync", flush_files_only)
    run, last = tmp_path / "run", tmp_path / "run" / "checkpoints" / "last"
    with pytest.warns(UserWarning, match=r"\.lock: this disk knows no locks"):
        run_folder.claim(FakeRun(run))
    for step in (1, 2, 3):
        checkpoint.save(run, step, parts(step), keep=2)
        assert last.read_text() == f"{step:06d}\n"
        assert steps_in(checkpoint.policy_folder(run).parent) == {step}
    assert steps_of(run) == ["000002", "000003", "last"]
    with pytest.warns(UserWarning, match="knows no locks"):
        run_folder.claim(FakeRun(run, resume=True))
    generation = checkpoint.latest(run)
    assert generation is not None
    assert generation.step == 3


def test_a_run_that_came_from_a_disk_without_links_has_a_link_again(run: Path) -> None:
    as_a_file(run / "checkpoints" / "last")
    checkpoint.save(run, 3, parts(3))
    assert (run / "checkpoints" / "last").is_symlink()
    assert steps_in(run / "checkpoints" / "last") == {3}


def test_a_live_run_keeps_others_out_of_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "lockf", unable(errno.ENOLCK))
    (tmp_path / ".lock").write_text(f"process {os.getppid()} on {socket.gethostname()}\n")
    with pytest.raises(ConfigError, match=rf"in use by process {os.getppid()} on"):
        run_folder.claim(FakeRun(tmp_path))
    (tmp_path / ".lock").write_text("process 1 on another.machine\n")
    with pytest.warns(UserWarning, match="knows no locks"):
        run_folder.claim(FakeRun(tmp_path))


def test_a_lock_that_fails_otherwise_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "lockf", unable(errno.EIO))
    with pytest.raises(OSError, match=re.escape(f"'{tmp_path / '.lock'}'")):
        run_folder.claim(FakeRun(tmp_path))


def test_a_policy_that_is_missing_or_damaged_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        checkpoint.policy_folder(tmp_path / "nowhere")
    damage(run / "checkpoints" / "000002" / FILES[0], "bit flip")
    with pytest.raises(checkpoint.DamagedError, match=r"model\.bin"):
        checkpoint.policy_folder(run)


def test_other_processes_of_a_run_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run_folder.claim(FakeRun(tmp_path / "run")) == tmp_path / "run"
    assert checkpoint.save(tmp_path / "run", 5, parts(5)).name == "000005"
    assert not (tmp_path / "run").exists()


def test_claims_a_fresh_folder_and_writes_the_config(tmp_path: Path) -> None:
    folder = run_folder.claim(FakeRun(tmp_path / "a" / "run"))
    assert (folder / "config.yaml").is_file()
    with pytest.raises(ConfigError, match=r"run_dir: .*run exists and is not empty"):
        run_folder.claim(FakeRun(folder))
    assert run_folder.claim(FakeRun(folder, resume=True)) == folder


def test_refuses_a_folder_of_something_else_and_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("words")
    with pytest.raises(ConfigError, match="not empty"):
        run_folder.claim(FakeRun(tmp_path))
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_refuses_a_file_and_a_run_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    with pytest.raises(ConfigError, match="is a file"):
        run_folder.claim(FakeRun(tmp_path / "file"))
    with pytest.raises(ConfigError, match="does not exist"):
        run_folder.claim(FakeRun(tmp_path / "none", resume=True))


def test_a_failed_start_leaves_what_somebody_else_put_there(tmp_path: Path) -> None:
    def fails() -> None:
        with run_folder.starting(FakeRun(tmp_path / "run")) as folder:
            (folder / "notes.txt").write_text("words")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert os.listdir(tmp_path / "run") == ["notes.txt"]


def test_a_resumed_run_that_fails_to_start_stays(run: Path) -> None:
    def fails() -> None:
        with run_folder.starting(FakeRun(run, resume=True)):
            raise ZeroDivisionError

    before = {*os.listdir(run), ".lock"}
    with pytest.raises(ZeroDivisionError):
        fails()
    assert {*os.listdir(run)} == before


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[Path, int, int]]:
    """A run that another live process, which has forked a worker, holds: its folder and the two pids."""
    command = [sys.executable, str(DRIVER), "hold", str(tmp_path / "held")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, worker = map(int, process.stdout.readline().split())
        yield tmp_path / "held", pid, worker
        for one in (process.pid, worker):
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                continue


def test_a_live_run_keeps_others_out_and_a_killed_one_does_not(holder: tuple[Path, int, int]) -> None:
    folder, pid, worker = holder
    for resume in (False, True):
        with pytest.raises(ConfigError, match=rf"in use by process {pid} on \S+"):
            run_folder.claim(FakeRun(folder, resume=resume))
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    os.kill(worker, 0)  # Its orphan lives on.
    assert run_folder.claim(FakeRun(folder, resume=True)) == folder


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()


def test_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def fresh(seed: int) -> tuple[torch.nn.Linear, torch.optim.Optimizer, np.random.Generator]:
        torch.manual_seed(seed)
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.8, 0.9)), np.random.default_rng(seed)

    model, optimizer, generator = fresh(0)
    train(model, optimizer, 3)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": checkpoint.rng_state(generator),
    }
    checkpoint.save_state(tmp_path, state)
    train(model, optimizer, 3)
    drawn = (random.random(), np.random.random(), torch.rand(()).item(), generator.random())

    other, other_optimizer, other_generator = fresh(1)
    loaded = checkpoint.load_state(tmp_path)
    other.load_state_dict(loaded["model"])
    other_optimizer.load_state_dict(loaded["optimizer"])
    checkpoint.set_rng_state(loaded["rng"], other_generator)
    train(other, other_optimizer, 3)
    assert torch.equal(other.weight, model.weight)
    assert drawn == (random.random(), np.random.random(), torch.rand(()).item(), other_generator.random())


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state: dict[str, Any] = {
        "none": None, "flag": True, "count": 2**100, "ratio": 0.1, "text": "grün 😀 \x00", "list": [1, (2, [3])],
        "infinite": float("inf"), "by number": {0: "a", "0": "b"}, "empty": [{}, [], ()],
        "array": np.arange(3, dtype=np.uint32), "scalar": np.float64(0.5), "integer": np.int64(3),
        "tensor": {"tensor": "not one"},
    }  # fmt: skip
    tensors = {
        "half": torch.rand(2, 3).bfloat16(), "bytes": torch.arange(5, dtype=torch.uint8), "zero": torch.tensor(3),
        "slice": torch.arange(6).reshape(2, 3).T, "none left": torch.zeros(0, 4),
    }  # fmt: skip
    checkpoint.save_state(tmp_path, state | {"tensors": tensors | {"same": tensors["zero"]}})
    loaded = checkpoint.load_state(tmp_path)
    back = loaded.pop("tensors")
    assert all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in tensors.items())
    assert torch.equal(back["same"], tensors["zero"])
    array = loaded.pop("array")
    assert array.dtype == np.uint32
    assert array.tolist() == state.pop("array").tolist()
    assert loaded == state


def test_a_state_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\.a\[1\]: cannot save a function"):
        checkpoint.save_state(tmp_path, {"a": [1, train]})


@pytest.mark.parametrize("file", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_a_damaged_state_is_named(tmp_path: Path, file: str, how: str) -> None:
    checkpoint.save_state(tmp_path, {"a": torch.zeros(3)})
    damage(tmp_path / file, how)
    with pytest.raises(ValueError, match=file):
        checkpoint.load_state(tmp_path)


def test_a_part_that_never_changes_is_linked_and_one_that_was_written_to_is_not(run: Path) -> None:
    generation, part = checkpoint.last(run), "pretrained_model"
    assert generation is not None
    target = run / "linked"
    assert checkpoint.link_part(generation, part, target)
    for path in (each for each in (generation / part).rglob("*") if each.is_file()):
        assert (target / path.relative_to(generation / part)).samefile(path)
    altered = generation / part / "config.json"
    altered.write_text(altered.read_text())
    later = (generation / "manifest.json").stat().st_mtime_ns + 1
    os.utime(altered, ns=(later, later))
    assert not checkpoint.link_part(generation, part, run / "other")
    assert not (run / "other").exists()
    assert not checkpoint.link_part(generation, "reference_model", run / "other")
    assert not checkpoint.link_part(None, part, run / "other")
