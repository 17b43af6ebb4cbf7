"""Tasks that a run is to leave as they are: chosen, looked at in each validation, and held."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_rl import config, eval, train
from vla_rl.config import RunConfig
from vla_rl.data.record import record
from vla_rl.registry import ConfigError
from vla_rl.sft import sft


def test_held_tasks_are_files_of_the_group_env_whose_demonstrations_lie_beside_the_runs_own() -> None:
    run = config.load(["env=reach", "train.held=[push]", "demos.path=shown/reach"])
    assert [env.name for env in run.held_envs] == ["push"]
    assert [one.demos.folder for one in run.held()] == [Path("shown/push")]
    assert [(one.env.name, one.held_envs) for one in (*run.each(), *run.held())] == [("reach", ()), ("push", ())]
    assert RunConfig.model_validate_json(run.model_dump_json()) == run
    other = config.load(["env=reach", "env.kwargs.horizon=5", "train.held=[push]", "held_envs.0.kwargs.horizon=7"])
    assert (other.env.kwargs["horizon"], other.held_envs[0].kwargs["horizon"]) == (5, 7)
    several = config.load(["env=[reach,pick]", "train.held=[push]", "demos.path=shown"])
    assert [one.demos.folder for one in several.held()] == [Path("shown/push")]
    for wrong, said in {
        "train.held=[pish]": "no config file 'pish'",
        "train.held=[table_top]": "train.held: 'table_top' lists several environments itself",
        "train.held=[reach]": "train.held: 'reach' is listed twice",
    }.items():
        with pytest.raises(ConfigError, match=said):
            config.load(["env=reach", wrong])


def test_a_held_task_is_validated_beside_the_runs_own_and_its_divergence_is_told(
    quick: list[str], tmp_path: Path
) -> None:
    both = [*quick, "env=[reach,push]", "train.workers=0", "tracker=null"]
    record(config.load(both, command="demos"))
    start = sft(config.load([*both, f"run_dir={tmp_path}/sft"], command="sft"))
    folder = tmp_path / "run"
    alone = [*quick, "env=reach", f"demos.path={tmp_path}/demos/reach", "train.held=[push]", "train.workers=0"]
    alone += ["tracker=null", "env.kwargs.horizon=4", "algorithm.critic_updates=1", f"train.checkpoint={start}"]
    alone += ["train.eval_every=64", "algorithm.held_budget=0.01", "algorithm.kl_budget=0.1", f"run_dir={folder}"]
    train.train(config.load(alone))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = set().union(*lines)
    assert {"eval/pc_success/reach", "eval/pc_success/held/push"} <= told
    assert {"policy/kl", "policy/kl_weight", "policy/held_kl", "policy/held_kl_weight"} <= told
    assert [line["eval/episodes"] for line in lines if "eval/episodes" in line] == [2.0], "the held ones count apart"
    train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=80"]))
    evaluation = [f"eval.checkpoint={folder}", f"run_dir={tmp_path}/eval", "eval.episodes=2"]
    assert len(eval.evaluate_tasks(config.load(evaluation, command="eval"))) == 1
