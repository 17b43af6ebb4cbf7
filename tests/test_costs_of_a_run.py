"""Costs that count, from the environment to the log, the checkpoint and the evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_rl import config, eval, train
from vla_rl.registry import ConfigError
from vla_rl.rollout.actor import load_actor
from vla_rl.runtime import checkpoint

CALLER = "fake/Caller-v0"


@pytest.fixture
def costly(line: list[str]) -> list[str]:
    return [*line, f"env.id={CALLER}", "algorithm.value_range=[-0.1,1.5]"]


def test_a_budget_is_followed_logged_saved_and_gone_on_with(costly: list[str], tmp_path: Path) -> None:
    budget = "algorithm.cost={type: budget, limit: 0.5, rate: 0.01, damping: 0}"
    last = train.train(config.load([*costly, budget, "train.steps=160"]))
    folder = tmp_path / "run"
    lines = [json.loads(each) for each in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [each["cost/multiplier"] for each in lines if "cost/multiplier" in each]
    assert told == sorted(told), "every episode costs more than that"
    assert told[-1] > 0
    saved = checkpoint.load_state(last / "training_state")["algorithm"]["constraint"]
    assert saved["multiplier"] >= told[-1] - 1e-6
    further = train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=192"]))
    after = checkpoint.load_state(further / "training_state")["algorithm"]["constraint"]
    assert after["multiplier"] > saved["multiplier"]
    load_actor(folder, device="cpu", best_of=4)  # which raises where nothing ranks decisions


def test_what_episodes_tell_of_themselves_is_in_the_log_and_in_the_evaluation(
    costly: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train.train(config.load([*costly, "train.steps=96"]))
    lines = [json.loads(each) for each in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    last = [each for each in lines if "train/calls" in each][-1]
    assert last["train/calls"] >= 1
    assert last["train/regret"] == pytest.approx(0.5)
    assert last["train/costly"] == 1.0
    assert "train/over_calls" not in last
    capsys.readouterr()
    evaluation = [f"eval.checkpoint={tmp_path}/run", f"run_dir={tmp_path}/eval", "eval.episodes=3"]
    (result,) = eval.evaluate_tasks(config.load(evaluation, command="eval"))
    info = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    steps = [row["length"] for row in info["per_episode"]]
    assert [row["calls"] for row in info["per_episode"]] == steps
    assert info["overall"]["avg_calls"] == pytest.approx(sum(steps) / 3) == pytest.approx(result.tallies["calls"])
    assert (info["overall"]["avg_regret"], info["overall"]["pc_costly"]) == (0.5, 100.0)
    assert "avg_under_calls" not in info["overall"]
    assert "regret" in capsys.readouterr().out


def test_a_budget_of_held_tasks_without_any_is_named(line: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.held_budget: needs tasks to hold, such as train\.held="):
        config.load([*line, "algorithm.held_budget=0.1"])
