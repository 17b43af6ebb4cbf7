"""A run in several processes: each has its own experience, and what ends one of them is known to all."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_driver import parts

from tests.launch import in_processes
from vla_rl import config, train
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.runtime import checkpoint
from vla_rl.specs import VALIDATION_SEEDS

DRIVER = Path(__file__).parents[1] / "train_driver.py"
pytestmark = pytest.mark.processes


def told(folder: Path, *overrides: str, **environment: str) -> list[dict[str, Any]]:
    """What each of two processes says of the run that both take part in."""
    in_processes(2, str(DRIVER), str(folder), *overrides, **environment)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_each_process_saves_and_takes_up_its_own_experience_and_validates_its_share(
    line: list[str], tmp_path: Path
) -> None:
    line = [*line, "train.restarts=0", "env.id=fake/Breaks-v0", "train.eval_every=32", "train.eval_episodes=5"]
    first = told(tmp_path / "first", *line, "train.steps=64")
    assert [each["ended"] for each in first] == ["well", "well"]
    for what in ("generator", "torch", "places"):
        assert first[0]["saved"][what] != first[1]["saved"][what]
    seeds = [set(each["validated"]) for each in first]
    assert not seeds[0] & seeds[1]
    assert seeds[0] | seeds[1] == set(VALIDATION_SEEDS[:5])

    resume = [f"run_dir={tmp_path}/run", "resume=true", "train.steps=80"]
    again = told(tmp_path / "again", *resume)
    assert [each["ended"] for each in again] == ["well", "well"]
    assert [each["restored"] for each in again] == [each["saved"] for each in first]
    with pytest.raises(ConfigError, match=r"resume: .* in 2 process\(es\).* start 2, not 1"):
        train.train(config.load([*resume, "train.steps=96"]))


def test_what_breaks_in_one_process_ends_all_with_one_checkpoint(line: list[str], tmp_path: Path) -> None:
    run = [*line, "train.restarts=0", "env.id=fake/Breaks-v0", "train.steps=1000"]
    ends = told(tmp_path / "told", *run, BREAK="1")
    assert ends[1]["ended"] == "RuntimeError: the line broke"
    assert ends[0]["ended"].startswith("RuntimeError: another process of the run failed")
    generation = checkpoint.latest(tmp_path / "run")
    assert generation is not None
    assert generation.step > 20
    assert all(each["saved"]["rows"] > 10 for each in ends)


@pytest.mark.parametrize("trains", ["lora", "all"])
def test_what_processes_share_is_saved_whole_and_goes_on_shared_or_not(
    line: list[str], tmp_path: Path, trains: str
) -> None:
    line = [*line, f"policy.train={trains}", "train.eval_every=32", "train.eval_episodes=3", "train.renew_every=24"]
    first = told(tmp_path / "first", *line, "sharding=fsdp", "train.steps=48")
    assert [each["ended"] for each in first] == ["well", "well"]
    resume = [f"run_dir={tmp_path}/run", "resume=true"]
    again = told(tmp_path / "again", *resume, "sharding=null", "train.steps=56")
    assert [each["restored"] for each in again] == [each["saved"] for each in first]
    shared = told(tmp_path / "shared", *resume, "sharding=fsdp", "train.steps=64")
    assert [each["restored"] for each in shared] == [each["saved"] for each in again]
    with pytest.raises(ConfigError, match=r"start 2, not 1, or a run of its own .* by train.checkpoint="):
        train.train(config.load([*resume, "train.steps=96"]))
    own = train.train(config.load([*line, f"run_dir={tmp_path}/own", f"train.checkpoint={tmp_path}/run"]))
    assert Policy.from_pretrained(own / "pretrained_model").trainable == trains


def save_in_two_threads(
    run: Path, step: int, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> list[Exception | None]:
    """Save as two processes would, each with its parts; how that ended for each."""
    who, both = threading.local(), threading.Barrier(2)
    said, ends = [True, True], list[Exception | None]([None, None])
    monkeypatch.setattr(checkpoint, "is_first_process", lambda: who.rank == 0)

    def agree(well: bool) -> bool:
        said[who.rank] = well
        both.wait(timeout=60)
        agreed = all(said)
        both.wait(timeout=60)
        return agreed

    def one(rank: int) -> None:
        who.rank = rank
        try:
            checkpoint.save(run, step, made[rank], agree=agree)
        except Exception as error:
            ends[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return ends


def writer(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "own.txt").write_text(text)


def test_a_generation_holds_the_parts_of_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [parts(3), {"training_state_1": writer("own")}]
    assert save_in_two_threads(tmp_path, 3, made, monkeypatch) == [None, None]
    generation = checkpoint.latest(tmp_path)
    assert generation is not None
    files = json.loads((generation.folder / "manifest.json").read_text())["files"]
    assert {name.split("/")[0] for name in files} == {"pretrained_model", "training_state", "training_state_1"}
    assert save_in_two_threads(tmp_path, 3, made, monkeypatch) == [None, None], "it is there already"


@pytest.mark.parametrize("rank", [0, 1])
def test_what_one_process_cannot_write_none_of_them_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").write_bytes(b"1")
        raise OSError(28, "No space left on device")

    checkpoint.save(tmp_path, 2, parts(2))
    made: list[dict[str, Any]] = [parts(3), {"training_state_1": writer("own")}]
    made[rank] = {**made[rank], ("training_state", "training_state_1")[rank]: fails}
    ends = save_in_two_threads(tmp_path, 3, made, monkeypatch)
    assert "No space left" in str(ends[rank])
    assert "another process" in str(ends[1 - rank])
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["000002", "last"]
