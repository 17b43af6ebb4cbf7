"""Whole runs that are told to stop, whose workers are killed or hang, and whose world breaks."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import fakes, launch
from vla_rl import cli, config, train
from vla_rl.eval import evaluate_checkpoint
from vla_rl.evaluation.eval_info import INFO_FILE
from vla_rl.registry import FaultError
from vla_rl.runtime import checkpoint
from vla_rl.runtime.generations import generations
from vla_rl.runtime.signals import INTERRUPTED
from vla_rl.sft import sft
from vla_rl.specs import HELD_OUT_SEEDS, training_seeds

PATIENCE = 240
"""Seconds after which a process counts as hung, on a machine that has much else to do."""


def until(there: Callable[[], bool], process: ForkServerProcess, log: Path) -> None:
    """Wait for what a process is to do."""
    end = time.monotonic() + PATIENCE
    while not there():
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


def ended(process: ForkServerProcess, log: Path) -> int:
    """Its exit code, once it has ended and nothing of it is left."""
    assert process.pid is not None
    own = psutil.Process(process.pid).children(recursive=True)
    process.join(PATIENCE)
    code = process.exitcode
    process.kill()
    _, alive = psutil.wait_procs(own, timeout=60)
    assert not alive
    assert code is not None, f"it hangs\n{log.read_text()}"
    return code


def faulty(line: list[str], faults: dict[int, tuple[int, str]], *further: str) -> list[str]:
    plan = ", ".join(f"{seed}: [{step}, '{how}']" for seed, (step, how) in faults.items())
    return [*line, "plugins=[tests.fakes]", "env.id=fake/Faulty-v0", f"env.kwargs={{faults: {{{plan}}}}}", *further]


def metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# What a world does wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["raise", "nan", "wild", "paid"])
def test_a_run_goes_on_after_an_episode_that_was_lost(line: list[str], tmp_path: Path, how: str) -> None:
    (first, *_) = training_seeds(0, 0, 1)
    train.train(config.load(faulty(line, {first: (2, how)}, "train.steps=128")))
    last = metrics(tmp_path / "run")[-1]
    assert last["train/invalid_episodes"] == 1
    assert last["train/episodes"] > 3
    assert last["train/skipped_steps"] == 0
    assert any("critic/loss" in each for each in metrics(tmp_path / "run"))


def test_a_run_goes_on_without_the_rows_of_a_damaged_file_and_can_be_exported(line: list[str], tmp_path: Path) -> None:
    train.train(config.load([*line, "train.save_every=32"]))
    folder, out = tmp_path / "run", tmp_path / "exported"
    newest, older = (each.folder / "training_state" / "replay" for each in generations(folder / "checkpoints"))
    shared = next(path for path in newest.iterdir() if path.name in os.listdir(older) and path.name != "replay.json")
    with open(shared, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    with pytest.warns(UserWarning, match="rows are lost; the others stand"):
        assert cli.main(["export", str(folder), str(out)]) == 0
    place = checkpoint.locate(folder)
    assert place.policy == newest.parents[1] / "pretrained_model", "to act, a policy needs no replay"
    with pytest.warns(UserWarning, match=rf"{shared.name}.*no checkpoint is whole, so that of step 6\d goes on"):
        train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=96"]))
    assert metrics(folder)[-1]["train/lost_rows"] > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generation = checkpoint.latest(folder)
    assert generation is not None
    assert generation.step >= 96


def test_a_run_whose_episodes_are_all_invalid_stops_with_a_checkpoint(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(self: fakes.Line, action: Any) -> Any:
        return self._observe(), 0.0, False, True, {"invalid": True, "error": "no answer"}

    monkeypatch.setattr(fakes.Line, "step", never)
    assert cli.main(["train", *line, "train.steps=100000"]) == cli.USER_ERROR
    told = capsys.readouterr().err
    assert "were all invalid, so that there is nothing to learn from; the reason: no answer" in told
    generation = checkpoint.latest(tmp_path / "run")
    assert generation is not None
    assert f"a checkpoint of step {generation.step} is written" in told
    with pytest.raises(FaultError, match="all invalid"):
        train.train(config.load([*line[:-1], f"run_dir={tmp_path}/brief", "train.steps=4"]))


def test_an_evaluation_tells_of_what_was_lost_and_of_nothing_else(line: list[str], tmp_path: Path) -> None:
    start = sft(config.load([*line, "sft.steps=0"], command="sft"))
    lost = {HELD_OUT_SEEDS[1]: (1, "raise"), HELD_OUT_SEEDS[4]: (-1, "raise")}
    held = ["eval.episodes=8", "eval.workers=0", "eval.num_envs=2", f"eval.checkpoint={start}"]
    own = [each for each in line if not each.startswith("run_dir")]
    result = evaluate_checkpoint(config.load(faulty(own, lost, *held, f"run_dir={tmp_path}/eval"), command="eval"))
    assert [outcome.invalid for outcome in result.outcomes] == [seed in lost for seed in HELD_OUT_SEEDS[:8]]
    info = json.loads((tmp_path / "eval" / INFO_FILE).read_text())
    assert (info["overall"]["n_episodes"], info["overall"]["n_invalid"]) == (6, 2)
    assert [row.get("error") for row in info["per_episode"] if row["invalid"]] == ["OSError: the line broke"] * 2
    assert "2 invalid" in (tmp_path / "eval" / "report.html").read_text()

    broken = {seed: (0, "raise") for seed in HELD_OUT_SEEDS[2:100]}
    run = config.load(faulty(own, broken, *held, f"run_dir={tmp_path}/broken", "train.restarts=2"), command="eval")
    given_up = evaluate_checkpoint(run)
    assert len(given_up.valid) == 2, "what was found before is not lost"
    assert given_up.n_invalid == 6
    all_broken = config.load(
        faulty(own, {seed: (0, "raise") for seed in HELD_OUT_SEEDS[:8]}, *held, f"run_dir={tmp_path}/all"),
        command="eval",
    )
    with pytest.raises(FaultError, match="all 8 episodes were invalid; the reason: OSError: the line broke"):
        evaluate_checkpoint(all_broken)
    assert (tmp_path / "all" / INFO_FILE).exists()


# Told to stop ---------------------------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_waits_for_a_worker_that_hangs_ends_with_a_checkpoint(
    line: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    seed, log = training_seeds(0, 0, 1)[0], tmp_path / "log"
    overrides = faulty(line, {seed: (9, "hang")}, "train.workers=1", "train.step_timeout=null", "train.steps=100000")
    process = launch.start(log, "-m", "vla_rl.cli", "train", *overrides)
    assert process.pid is not None
    until(lambda: bool(metrics(tmp_path / "run")), process, log)
    for _ in range(2):  # as schedulers do
        os.kill(process.pid, number)
        time.sleep(0.02)
    assert ended(process, log) == INTERRUPTED, log.read_text()
    assert "resume=true" in log.read_text()
    generation = checkpoint.latest(tmp_path / "run")
    assert generation is not None
    assert generation.step > 0


@pytest.mark.faults
def test_a_run_that_validates_thousands_of_episodes_ends_with_a_checkpoint_and_validates_again(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beacon, log = tmp_path / "beacon", tmp_path / "log"
    overrides = [*line, "plugins=[tests.fakes]", "env.id=fake/Beacon-v0", "train.eval_every=16"]
    many = ["train.eval_episodes=400000", "train.steps=64"]
    process = launch.start(log, "-m", "vla_rl.cli", "train", *overrides, *many, BEACON=str(beacon))
    until(beacon.exists, process, log)
    process.terminate()
    assert ended(process, log) == INTERRUPTED, log.read_text()
    assert checkpoint.latest(tmp_path / "run") is not None
    assert not any("eval/episodes" in each for each in metrics(tmp_path / "run"))
    monkeypatch.setenv("BEACON", str(beacon))
    train.train(
        config.load(
            [
                f"run_dir={tmp_path}/run",
                "plugins=[tests.fakes]",
                "resume=true",
                "train.eval_episodes=2",
                "train.steps=40",
            ]
        )
    )
    assert any("eval/episodes" in each for each in metrics(tmp_path / "run")), "it was still due"


@pytest.mark.faults
def test_a_supervised_start_that_is_told_to_stop_keeps_what_it_has(quick: list[str], tmp_path: Path) -> None:
    from vla_rl.data.record import record

    record(config.load(quick, command="demos"))
    log = tmp_path / "log"
    overrides = [*quick, f"run_dir={tmp_path}/run", "sft.steps=1000000"]
    process = launch.start(log, "-m", "vla_rl.cli", "sft", *overrides)
    until(lambda: bool(metrics(tmp_path / "run")), process, log)
    process.terminate()
    assert ended(process, log) == INTERRUPTED, log.read_text()
    generation = checkpoint.latest(tmp_path / "run")
    assert generation is not None
    assert f"interrupted at step {generation.step} of 1000000" in log.read_text()


@pytest.mark.faults
@pytest.mark.parametrize("command", ["demos", "eval"])
def test_what_is_told_to_stop_while_it_records_or_evaluates_leaves_no_half(
    command: str, line: list[str], tmp_path: Path
) -> None:
    start = sft(config.load([*line, "sft.steps=0"], command="sft"))
    own = [each for each in line if not each.startswith(("run_dir", "demos.episodes"))]
    own += ["plugins=[tests.fakes]", "env.id=fake/Beacon-v0", f"run_dir={tmp_path}/told", "demos.episodes=40000"]
    many = ["eval.workers=2", "eval.episodes=100000", f"eval.checkpoint={start}"]
    beacon, log = tmp_path / "beacon", tmp_path / "log"
    more = many if command == "eval" else []
    process = launch.start(log, "-m", "vla_rl.cli", command, *own, *more, BEACON=str(beacon))
    until(beacon.exists, process, log)
    process.terminate()
    assert ended(process, log) == -signal.SIGTERM, log.read_text()
    assert not (tmp_path / "demos").exists()
    assert not (tmp_path / "told" / INFO_FILE).exists()


@pytest.mark.faults
def test_a_run_outlives_the_end_of_its_workers(line: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    overrides = [*line, "plugins=[tests.fakes]", "train.workers=2", "train.steps=100000"]
    process = launch.start(log, "-m", "vla_rl.cli", "train", *overrides)
    assert process.pid is not None
    folder, killed = tmp_path / "run", set[int]()
    for lines in (1, 10, 20):
        until(lambda lines=lines: len(metrics(folder)) > lines, process, log)  # type: ignore[misc]
        children = psutil.Process(process.pid).children()
        worker = next(child for child in children if child.pid not in killed and "envs.worker" in str(child.cmdline()))
        killed.add(worker.pid)
        worker.kill()
    until(lambda: metrics(folder)[-1].get("train/invalid_episodes", 0) >= 3, process, log)
    process.terminate()
    assert ended(process, log) == INTERRUPTED, log.read_text()
    assert log.read_text().count("ended: SIGKILL") == 3
    steps = [each["step"] for each in metrics(folder)]
    assert steps == sorted(set(steps))
