"""Many runs, some at a time: they share the cores, one's failure is told, and what is done is not done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from vla_rl import cli, config, sweep
from vla_rl.registry import ConfigError
from vla_rl.runtime.signals import INTERRUPTED

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = (sys.executable, str(ROOT / "tests" / "sweep_program.py"))
PATIENCE = 240
VALUES = ["seed=1,2", "algorithm.gamma=.9,.95"]


@pytest.fixture(autouse=True)
def light(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are the quick program's, but where they are to be real ones."""
    if "faults" not in request.keywords:
        monkeypatch.setattr(sweep, "PROGRAM", PROGRAM)


def runs(folder: Path) -> dict[str, dict[str, Any]]:
    return {run["name"]: run for run in json.loads((folder / "sweep.json").read_text())["runs"]}


def told(folder: Path) -> list[dict[str, Any]]:
    """What each run that came to its end was told."""
    files = sorted(folder.glob("*/told.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_every_combination_runs_and_it_ends_in_a_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweep"
    assert cli.main(["train", "-m", *VALUES, f"run_dir={folder}", "--jobs", "2"]) == 0
    assert [(each["overrides"]["seed"], each["overrides"]["algorithm.gamma"]) for each in told(folder)] == [
        ("1", "0.9"), ("1", "0.95"), ("2", "0.9"), ("2", "0.95"),
    ]  # fmt: skip
    assert {run["state"] for run in runs(folder).values()} == {"done"}
    page = (folder / "compare.html").read_text("utf-8")
    assert "gamma=0.95" in page
    assert "4 runs in 2 groups" in page
    said = capsys.readouterr().out
    assert f"sweep: 4 runs in {folder}" in said
    assert "done (4 of 4 over)" in said


def test_a_failure_is_told_and_ends_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweep"
    assert cli.main(["train", "-m", "seed=13,1", "algorithm.gamma=.9", f"run_dir={folder}", "--jobs=1"]) == 1
    assert [run["state"] for run in runs(folder).values()] == ["failed", "done"]
    said = capsys.readouterr()
    assert "0_seed=13: FAILED (exit code 1)" in said.out
    assert f"unlucky; {folder / 'logs' / '0_seed=13.log'} says all" in said.err
    assert (folder / "compare.html").is_file()


def test_what_is_done_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweep"
    assert cli.main(["train", "-m", "seed=13,1", "algorithm.gamma=.9", f"run_dir={folder}"]) == 1
    before = told(folder)
    assert cli.main(["train", "-m", "resume=true", f"run_dir={folder}"]) == 1
    assert told(folder) == before
    assert f"sweep: 2 runs in {folder}, 1 left" in capsys.readouterr().out


def until(there: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def start(folder: Path, *overrides: str, program: tuple[str, ...] | None = PROGRAM) -> subprocess.Popen:
    """A sweep in a process of its own, of two runs at once; those of the quick program are held."""
    change = "" if program is None else f"sweep.PROGRAM = {program!r}; "
    code = f"import sys; from vla_rl import cli, sweep; {change}sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "train", "-m", *overrides, f"run_dir={folder}", "--jobs", "2"]
    given = {**os.environ, "HOLD": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=given, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_end_from_outside_ends_all_with_checkpoints_and_resume_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "sweep"
    # Both wait in mid-run, and a third has not begun.
    process = start(folder, "seed=1,2,3", "algorithm.gamma=.9")
    until(lambda: len(list(folder.glob("*/waits"))) == 2, process)
    own = psutil.Process(process.pid).children()
    assert len(own) == 2
    process.send_signal(how)
    _, said = process.communicate(timeout=PATIENCE)
    _, alive = psutil.wait_procs(own, timeout=PATIENCE)
    assert not alive
    assert len(list(folder.glob("*/checkpoint"))) == 2
    if how != signal.SIGKILL:
        assert process.returncode == INTERRUPTED
        assert f"`vla-rl train -m resume=true run_dir={folder}` goes on" in said
        assert [run["state"] for run in runs(folder).values()] == ["interrupted", "interrupted", "waiting"]
    assert cli.main(["train", "-m", "resume=true", f"run_dir={folder}"]) == 0
    assert [(each["overrides"]["seed"], each["resumed"]) for each in told(folder)] == [
        ("1", True), ("2", True), ("3", False),
    ]  # fmt: skip


def test_a_supervised_start_that_was_interrupted_begins_anew_and_leaves_what_it_had(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    assert cli.main(["sft", "-m", "seed=13,1", "algorithm.gamma=.9", f"run_dir={folder}"]) == 1
    assert cli.main(["sft", "-m", "resume=true", f"run_dir={folder}"]) == 1
    assert (folder / "0_seed=13.interrupted-1" / "config.yaml").is_file()


@pytest.mark.parametrize(("cores", "jobs", "dealt"), [
    (8, None, [(0, 1), (2, 3), (4, 5), (6, 7)]),
    (8, 3, [(0, 1), (2, 3, 4), (5, 6, 7)]),
    (2, None, [(0, 1)]),
    (2, 3, [(0,), (0,), (1,)]),
])  # fmt: skip
def test_runs_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, jobs: int | None, dealt: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sweep, "gpus_there", list)
    found = sweep.shares(9, jobs, {"auto"})
    assert [share.cores for share in found] == dealt
    assert [share.environment()["OMP_NUM_THREADS"] for share in found] == [str(len(own)) for own in dealt]


def test_runs_share_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [share.gpu for share in sweep.shares(9, None, {"auto"})] == ["2", "5"]
    assert [share.gpu for share in sweep.shares(9, 3, {"cuda", "cpu"})] == ["2", "5", "2"]
    assert {share.gpu for share in sweep.shares(9, None, {"cpu"})} == {None}


def test_a_run_keeps_to_its_cores_and_threads(tmp_path: Path) -> None:
    folder, usable = tmp_path / "sweep", os.sched_getaffinity(0)
    assert cli.main(["train", "-m", "seed=1,2", "algorithm.gamma=.9", f"run_dir={folder}", "--jobs=1"]) == 0
    assert [set(each["cores"]) for each in told(folder)] == [usable, usable]
    assert {int(each["threads"]) for each in told(folder)} <= {1, len(usable)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demos", "-m", "seed=1,2"], "demos: takes no -m; train, sft, eval do"),
        (["train", "--jobs", "2"], "--jobs 2: is of -m"),
        (["train", "-m", "seed=1,2", "--jobs", "0"], "--jobs: at least 1"),
        (["train", "-m", "sed=1,2"], "sed: unknown key"),
        (["train", "-m", "resume=true"], "resume: give run_dir=FOLDER too"),
        (["train", "-m", "resume=true", "run_dir=nowhere"], "nowhere holds no sweep.json"),
        (["train", "seed=1,2"], "with -m there is a run for each"),
    ],
)
def test_what_does_not_go_together_is_said(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == cli.USER_ERROR
    assert message in capsys.readouterr().err


def test_a_wrong_config_is_named_before_any_run_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweep"
    assert cli.main(["train", "-m", "seed=1", "algorithm.gamma=.9,7", f"run_dir={folder}"]) == cli.USER_ERROR
    said = capsys.readouterr().err
    assert "gamma must lie in [0, 1], got 7.0" in said
    assert "1_gamma=7; none was started" in said
    assert not folder.exists()


def test_another_sweep_does_not_go_on_in_a_sweeps_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    assert sweep.sweep("train", ["seed=1", "algorithm.gamma=.9", f"run_dir={folder}"]) == 0
    with pytest.raises(ConfigError, match="is not empty; resume=true goes on"):
        sweep.sweep("train", ["seed=1", "algorithm.gamma=.9", f"run_dir={folder}"])
    with pytest.raises(ConfigError, match="a sweep of 1 other runs"):
        sweep.sweep("train", ["seed=2", "algorithm.gamma=.9", f"run_dir={folder}", "resume=true"])
    with pytest.raises(ConfigError, match="it is a sweep, which goes on with -m"):
        config.load([f"run_dir={folder}", "resume=true"])
    with pytest.raises(ConfigError, match="a sweep of `vla-rl train -m`, not of eval"):
        sweep.sweep("eval", [f"run_dir={folder}", "resume=true"])


def test_print_lists_the_runs_and_starts_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "-m", "--print", "env=push", "seed=1,2", f"run_dir={tmp_path / 'sweep'}"]) == 0
    assert capsys.readouterr().out == "0_seed=1: env=push seed=1\n1_seed=2: env=push seed=2\n"
    assert not (tmp_path / "sweep").exists()


@pytest.mark.faults
def test_a_real_sweep_that_is_told_to_stop_goes_on_from_its_checkpoints(line: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    common = [text for text in line if not text.startswith(("run_dir", "train.eval_every"))]
    values = ["plugins=[tests.fakes]", "train.steps=400", "train.eval_every=100", "seed=1,2", "algorithm.gamma=.9,.95"]
    process = start(folder, *common, *values, program=None)
    until(lambda: len(list(folder.glob("*/metrics.jsonl"))) == 2, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == INTERRUPTED
    assert len(list(folder.glob("*/checkpoints/last"))) == 2
    assert start(folder, "resume=true", program=None).wait(600) == 0
    for name in runs(folder):
        steps = [json.loads(line)["step"] for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        assert steps == sorted(steps)
        assert steps[-1] >= 400
    assert "4 runs in 2 groups" in (folder / "compare.html").read_text("utf-8")
