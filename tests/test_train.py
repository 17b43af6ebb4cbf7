"""The whole way in small: demonstrations, supervised start, training, interruption, resuming."""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import launch
from tests.fakes import LINE
from tests.launch import in_processes
from vla_rl import cli, config, resume, train, train_state
from vla_rl.data.record import record
from vla_rl.registry import ConfigError, SetupError
from vla_rl.rollout import sources
from vla_rl.runtime import checkpoint
from vla_rl.sft import sft

METRICS = {
    "critic/loss",
    "critic/grad_norm",
    "actor/grad_norm",
    "q/mean",
    "q/return",
    "q/spread",
    "policy/entropy",
    "policy/kl",
    "time/act",
    "time/step",
    "time/learn",
    "train/success_rate",
}


@pytest.fixture
def started(quick: list[str], tmp_path: Path) -> list[str]:
    """The overrides of a run from a supervised start."""
    record(config.load(quick, command="demos"))
    start = sft(config.load([*quick, f"run_dir={tmp_path}/sft"], command="sft"))
    return [*quick, f"train.checkpoint={start}", f"run_dir={tmp_path}/run"]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_logs_saves_and_goes_on(
    started: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert "sft/loss" in lines(tmp_path / "sft")[0]
    assert list((tmp_path / "sft").rglob("events.out.tfevents.*"))
    validated = ["train.eval_every=24", "train.eval_episodes=2"]
    last = train.train(config.load([*started, *validated, "algorithm.kl_weight=0.1"]))
    said = capsys.readouterr().out
    for part in (f"run: {folder}\n", f"checkpoint: {last}; ", " steps, success "):
        assert part in said
    assert last == folder / "checkpoints" / f"{lines(folder)[-1]['step']:06d}"
    assert (folder / "checkpoints" / "last").resolve() == last.resolve()
    assert {path.name for path in last.iterdir()} == {
        "pretrained_model", "reference_model", "training_state", "manifest.json"
    }  # fmt: skip
    assert set().union(*lines(folder)) >= METRICS
    assert list(folder.rglob("events.out.tfevents.*"))
    assert {path.name for path in (folder / "videos").iterdir()} <= {"success.mp4", "failure.mp4"}

    with pytest.raises(ConfigError, match="resume=true"):
        train.train(config.load(started))

    before = checkpoint.load_state(last / "training_state")
    further = train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=96"]))
    after = checkpoint.load_state(further / "training_state")
    assert int(further.name) >= 96
    assert after["algorithm"]["updates"] > before["algorithm"]["updates"]
    assert [line["step"] for line in lines(folder)] == sorted(line["step"] for line in lines(folder))


def test_two_processes_learn_equally_often_and_end_together(started: list[str], tmp_path: Path) -> None:
    folder, brief = tmp_path / "run", ["train.eval_every=0", "train.log_every=25", "train.save_every=45"]
    in_processes(2, "-m", "vla_rl.cli", "train", *started, *brief, "train.steps=150", "train.workers=1")
    steps = [line["step"] for line in lines(folder)]
    assert len(steps) == 7, "of the first process alone"
    assert steps == sorted(steps)
    assert checkpoint.latest(folder).step == steps[-1] >= 150
    in_processes(2, "-m", "vla_rl.cli", "train", f"run_dir={folder}", "resume=true", "train.steps=170")
    assert checkpoint.latest(folder).step >= 170


def test_it_learns_from_rows_by_priority_by_success_and_in_hindsight(started: list[str], tmp_path: Path) -> None:
    goals = "replay.hindsight={type: state_goal, achieved: [0, 3], goal: [3, 6], within: 0.05}"
    drawn = [
        "replay.prioritised=true",
        "replay.success_share=0.25",
        "replay.n_step=1",
        goals,
        "algorithm.mc_weight=0.5",
    ]
    last = train.train(config.load([*started, *drawn]))
    assert all(math.isfinite(line["critic/loss"]) for line in lines(tmp_path / "run") if "critic/loss" in line)
    assert checkpoint.load_state(last / "training_state")["algorithm"]["updates"] > 0


@pytest.mark.parametrize("dropped", [False, True])
def test_a_run_waits_for_what_it_can_learn_from(quick: list[str], tmp_path: Path, dropped: bool) -> None:
    """Without demonstrations, where returns alone are the target; perhaps to its end, where some are dropped."""
    world = [f"env.id={LINE}", "env.sensors=null", "plugins=[tests.fakes]", "train.workers=0"]
    alone = ["demos.episodes=0", "algorithm.mc_weight=1.0", "train.learning_starts=0", "train.log_every=1"]
    ways = ["algorithm.truncation=drop"] if dropped else []
    last = train.train(config.load([*quick, *world, *alone, *ways, f"run_dir={tmp_path}/run"]))
    assert int(last.name) >= 64
    learnt = [line["step"] for line in lines(tmp_path / "run") if "critic/loss" in line]
    assert learnt or dropped
    assert all(step > 2 for step in learnt)


@pytest.mark.parametrize(("truncation", "mc_weight"), [("bootstrap", 1.0), ("bootstrap", 0.5), ("drop", 0.5)])
def test_it_learns_whatever_a_time_limit_counts_for(
    started: list[str], tmp_path: Path, truncation: str, mc_weight: float
) -> None:
    ways = [f"algorithm.truncation={truncation}", f"algorithm.mc_weight={mc_weight}", "replay.cache=never"]
    last = train.train(config.load([*started, *ways]))
    assert all(math.isfinite(line["critic/loss"]) for line in lines(tmp_path / "run") if "critic/loss" in line)
    assert checkpoint.load_state(last / "training_state")["algorithm"]["updates"] > 0


def test_what_a_resumed_run_starts_from_is_what_was_saved(started: list[str], tmp_path: Path) -> None:
    run = config.load(started)
    last = train.train(run)
    state = train_state.make(run, tmp_path)
    assert resume.restore(tmp_path / "run", state) == int(last.name)
    saved = checkpoint.load_state(last / "training_state")
    for part in ("critic", "target"):
        for name, value in getattr(state.algorithm, part).state_dict().items():
            assert torch.equal(value, saved["algorithm"][part][name]), name
    moments = state.algorithm.actor_optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(moments, saved["algorithm"]["actor_optimizer"]["state"][0]["exp_avg"])
    assert len(state.replay) > 0
    assert state.rng.bit_generator.state == saved["rng"]["generator"]
    state.collector.close()


def test_sigterm_saves_and_resume_goes_on(started: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    log = tmp_path / "log"
    process = launch.start(log, "-m", "vla_rl.cli", "train", *started, "train.steps=1000000", "train.log_every=8")
    while not (folder / "metrics.jsonl").exists():
        assert process.is_alive(), log.read_text()
        time.sleep(0.05)
    process.terminate()
    process.join(timeout=120)
    assert process.exitcode == train.INTERRUPTED, log.read_text()
    assert "resume=true" in log.read_text()
    generation = checkpoint.latest(folder)
    assert generation is not None
    assert generation.step > 0

    resume = [f"run_dir={folder}", "resume=true", f"train.steps={generation.step + 16}"]
    launch.run("-m", "vla_rl.cli", "train", *resume)
    final = checkpoint.latest(folder)
    assert final is not None
    assert final.step >= generation.step + 16


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["env.sensors=[{type: camera, name: frnt, width: 64, height: 64}, {type: instruction}]"], "front"),
        (["action_space={type: binned, bins: [5, 5]}"], "3"),
        (["train.stepz=3"], "steps"),
        (["env.id=vla_rl/Raech-v0"], "vla_rl/Reach-v0"),
        (["algorithm.kl_weight=0.1"], "train.checkpoint"),
    ],
)
def test_a_user_s_error_is_one_line_that_names_the_good_value(
    quick: list[str], overrides: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(config.load(quick, command="demos"))
    assert cli.main(["train", *quick, *overrides, f"run_dir={tmp_path}/run"]) == 2
    errors = capsys.readouterr().err
    message = [line for line in errors.splitlines() if line.startswith("vla-rl: error:")]
    assert len(message) == 1
    assert said in message[0]
    assert "Traceback" not in errors


def test_lora_trains_adapters_from_images(started: list[str], tmp_path: Path) -> None:
    overrides = [text for text in started if not text.startswith(("train.checkpoint", "run_dir"))]
    run = config.load([*overrides, "policy.train=lora", f"run_dir={tmp_path}/lora", "algorithm.batch_size=16"])
    train.train(run)
    assert any("actor/grad_norm" in line for line in lines(tmp_path / "lora"))


@pytest.mark.parametrize("trains", ["lora", "all"])
def test_critics_are_renewed_and_replay_with_them(
    trains: str, started: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / trains
    overrides = [text for text in started if not text.startswith("run_dir")]  # whose start has a frozen trunk
    overrides += [f"policy.train={trains}", "replay.cache=always", "algorithm.batch_size=16", "train.renew_every=32"]
    train.train(config.load([*overrides, f"run_dir={folder}"]))
    assert sum("time/renew" in line for line in lines(folder)) >= 1
    run = config.load([f"run_dir={folder}", "resume=true", "train.steps=80"])
    begun, state = train_state.make(config.load(overrides), tmp_path), train_state.make(run, folder)
    begun.close()
    try:
        resume.restore(folder, state)
        assert state.policy.digest() != begun.policy.digest()
        assert "holds none of this backbone" not in capsys.readouterr().out  # it was saved with what it sees by now
        batch = state.replay.sample(8, rng=np.random.default_rng(0))
        now = state.policy.ground({**batch.observation}).pack()
        for name, value in now.items():
            np.testing.assert_allclose(batch.features[name], value, atol=2e-3, err_msg=name)
    finally:
        state.close()


def test_a_trunk_that_trains_is_held_to_what_it_could(started: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "all"
    rehearsed = ["train.rehearsal={type: drawn, tables: 3, screens: 3}", "train.rehearsal_rows=2"]
    with pytest.raises(ConfigError, match=r"train\.rehearsal: .*policy\.train=head trains none"):
        train.train(config.load([*started, *rehearsed, f"run_dir={tmp_path}/head"]))
    overrides = [*started[:-1], *rehearsed, "policy.train=all", "algorithm.batch_size=16"]
    train.train(config.load([*overrides, f"run_dir={folder}"]))
    told = [line["actor/forgotten"] for line in lines(folder) if "actor/forgotten" in line]
    assert told
    assert all(value >= 0 for value in told)
    begun = train_state.make(config.load(overrides), tmp_path)
    begun.close()
    state = train_state.make(config.load([f"run_dir={folder}", "resume=true", "train.steps=80"]), folder)
    try:
        resume.restore(folder, state)
        first, rehearsal = (each.algorithm.rehearsal for each in (begun, state))  # type: ignore[attr-defined]
        assert torch.equal(rehearsal.taught.places, first.taught.places)
        assert not torch.equal(state.policy.trunk.pointers.query.weight, state.policy.frozen.pointers.query.weight)
    finally:
        state.close()


def test_stacked_frames_go_the_whole_way(started: list[str], tmp_path: Path) -> None:
    overrides = [text for text in started if not text.startswith(("train.checkpoint", "run_dir"))]
    run = config.load([*overrides, "replay.stack=2", f"run_dir={tmp_path}/stacked", "train.eval_every=32"])
    train.train(run)
    assert any("eval/pc_success" in line for line in lines(tmp_path / "stacked"))


def test_coded_frames_and_augmented_pictures_go_the_whole_way(started: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "coded"
    overrides = [text for text in started if not text.startswith(("train.checkpoint", "run_dir"))]
    limits = ["replay.capacity=200", "replay.ram_bytes=1MB", "replay.disk_bytes=10MB", "algorithm.shift=3"]
    run = config.load([*overrides, *limits, "policy.train=lora", f"run_dir={folder}", "algorithm.batch_size=16"])
    train.train(run)
    assert list((folder / "replay").rglob("*")), "no frame was coded"
    train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=80"]))
    assert any("actor/grad_norm" in line for line in lines(folder))
    always = ["algorithm.shift=3", "replay.cache=always"]
    with pytest.raises(ConfigError, match="caches"):
        train.train(config.load([*overrides, *always, f"run_dir={tmp_path}/frozen"]))
    with pytest.raises(ConfigError, match="replay: ram_bytes: 1000 is too little"):
        train.train(config.load([*overrides, "replay.ram_bytes=1000", f"run_dir={tmp_path}/tiny"]))


def test_a_failed_start_leaves_nothing_that_blocks_the_next(quick: list[str], tmp_path: Path) -> None:
    record(config.load(quick, command="demos"))
    new = [*quick, f"run_dir={tmp_path}/run", "tracker=tensorboard"]
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"algorithm\.kl_weight"):
            train.train(config.load([*new, "algorithm.kl_weight=1"]))
    assert not (tmp_path / "run").exists()


def test_a_start_that_fails_at_its_last_part_leaves_nothing(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError

    record(config.load(quick, command="demos"))
    monkeypatch.setattr(sources, "VectorEnvs", fails)
    limits = ("replay.ram_bytes=20MB", "replay.disk_bytes=100MB")
    with pytest.raises(ZeroDivisionError):
        train.train(config.load([*quick, *limits, f"run_dir={tmp_path}/run", "tracker=tensorboard"]))
    assert not (tmp_path / "run").exists()


def test_missing_demonstrations_say_what_to_run(quick: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"demos.path: {tmp_path}/demos does not exist; run `vla-rl demos ...`"):
        sft(config.load([*quick, f"run_dir={tmp_path}/sft"], command="sft"))


def test_a_run_whose_tracker_is_missing_does_not_begin(quick: list[str], tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="tracker: 'clearml' is not installed"):
        train.train(config.load([*quick, "demos.episodes=0", f"run_dir={tmp_path}/run", "tracker=clearml"]))
    assert not (tmp_path / "run").exists()


def test_a_copy_of_a_run_that_followed_links_goes_on(quick: list[str], tmp_path: Path) -> None:
    base = [*quick, "demos.episodes=0", "policy.train=head", "train.keep=1"]
    first = train.train(config.load([*base, f"run_dir={tmp_path}/run", "train.steps=60"]))
    copy = shutil.copytree(tmp_path / "run", tmp_path / "copy", symlinks=False)
    last = train.train(config.load(["resume=true", f"run_dir={copy}", "train.steps=120"]))
    assert first.name < last.name
    assert (copy / "checkpoints" / "last").resolve() == last.resolve()
    assert checkpoint.locate(copy).generation == checkpoint.latest(copy)
