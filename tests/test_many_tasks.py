"""Several environments in one run: chosen, fitted, learnt in, and told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rl import build, config, eval, train
from vla_rl.config import RunConfig
from vla_rl.data.record import record
from vla_rl.envs import Lane, lanes
from vla_rl.registry import ConfigError
from vla_rl.replay import ReplayBuffer
from vla_rl.sft import sft


def refusal(*overrides: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        build.env_spec(config.load(overrides, **options))
    return str(caught.value)


def test_what_is_set_of_env_holds_for_each() -> None:
    run = config.load(["env=[reach,push,press_in_order]", "env.kwargs.horizon=7", "env.sensors.0.width=32"])
    assert [env.name for env in run.envs] == ["reach", "push", "pressinorder"]
    assert [env.kwargs["horizon"] for env in run.envs] == [7, 7, 7]
    assert all((env.sensors or [])[0]["width"] == 32 for env in run.envs)
    assert run.env_name == "reach_and_2_more"
    assert [one.demos.folder for one in run.each()] == [Path("outputs/demos", env.name) for env in run.envs]
    assert [one.more_envs for one in run.each()] == [(), (), ()]
    assert config.load(["env=[reach,push]", "env=push"]).more_envs == ()
    assert [env.name for env in config.load(["env=pick", "env=[reach,push]"]).envs] == ["reach", "push"]
    assert RunConfig.model_validate_json(run.model_dump_json()) == run


@pytest.mark.parametrize(("name", "experiment"), [("table_top", "reach"), ("screens", "gui")])
def test_a_file_of_the_group_lists_tasks_that_fit_one_another(name: str, experiment: str) -> None:
    run = config.load([f"experiment={experiment}", f"env={name}"])
    assert len(run.envs) == 10
    spec = build.env_spec(run)
    assert spec.returns == (0.0, 1.0)


def test_a_file_of_ones_own_can_list_tasks(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    folder.mkdir()

    def chosen(text: str) -> RunConfig:
        (folder / "mine.yaml").write_text(text)
        return config.load(["env=mine"], config_dir=tmp_path)

    run = chosen("tasks: [reach, push]\nkwargs: {horizon: 9}\n")
    assert [(env.name, env.kwargs) for env in run.envs] == [("reach", {"horizon": 9}), ("push", {"horizon": 9})]
    for text, message in {
        "tasks: reach": "env.tasks: expected a list",
        "tasks: []": "env.tasks: expected a list",
        "tasks: [reach, nope]": "no config file 'nope'",
        "tasks: [reach, table_top]": "env.tasks: 'table_top' lists several environments itself",
        "tasks: [reach, reach]": "more_envs: 'reach' is listed twice",
    }.items():
        with pytest.raises(ConfigError, match=message):
            chosen(text)


def test_environments_that_do_not_fit_one_another_are_refused() -> None:
    message = refusal("env=[reach,pick]")
    assert message.startswith("more_envs: pick observes ")
    assert "a state of 15, and reach" in message
    plain = "env.sensors=[{type: screenshot}, {type: instruction}]"
    assert "takes the actions" in refusal("experiment=gui", "env=[gui_click_label,gui_dialog]", plain)
    with pytest.raises(ConfigError, match=r"train\.num_envs: 2, but the run has 3"):
        lanes(dict.fromkeys("abc", dict), 2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="audit takes one environment, got 2; choose env=reach"):
        config.load(["env=[reach,push]"]).only("audit")


def test_lanes_are_dealt_out_in_turn() -> None:
    dealt = lanes({"a": dict, "b": list}, 5)  # type: ignore[dict-item]
    assert dealt == [Lane([dict, list][i % 2], "ab"[i % 2]) for i in range(5)]  # type: ignore[list-item]


def test_one_policy_learns_two_tasks_and_success_is_told_of_each(quick: list[str], tmp_path: Path) -> None:
    common = [*quick, "env=[reach,push]", "train.num_envs=3", "train.workers=0"]
    record(config.load(common, command="demos"))
    assert {path.name for path in (tmp_path / "demos").iterdir()} == {"reach", "push"}
    start = sft(config.load([*common, f"run_dir={tmp_path}/sft"], command="sft"))
    folder = tmp_path / "run"
    common.append("env.kwargs.horizon=4")
    given = [f"train.checkpoint={start}", f"run_dir={folder}", "train.eval_every=64", "train.eval_episodes=4"]
    last = train.train(config.load([*common, *given]))

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = set().union(*lines)
    assert {
        f"{what}/{task}" for what in ("train/success_rate", "eval/pc_success") for task in ("reach", "push")
    } <= told
    assert [line["eval/episodes"] for line in lines if "eval/episodes" in line] == [4.0]
    replay = ReplayBuffer.of_saved(last / "training_state" / "replay")
    asked = {0: set[str](), 1: set[str]()}
    for ids in replay.episodes():
        numbers = replay.recorded(ids[:-1])["task"]
        asked[int(numbers[0])] |= {replay.observations(ids)["task"][0].split()[0]}
        assert np.all(numbers == numbers[0])
    assert not asked[0] & asked[1]
    assert all(asked.values())

    further = train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=96"]))
    assert int(further.name) >= 96
    results = eval.evaluate_tasks(
        config.load([f"eval.checkpoint={folder}", f"run_dir={tmp_path}/eval", "eval.episodes=2"], command="eval")
    )
    info = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    assert [each.env for each in results] == ["vla_rl/Reach-v0", "vla_rl/Push-v0"] == list(info["per_group"])
    assert [(each["task_id"], each["n_episodes"]) for each in info["per_task"]] == [(0, 2), (1, 2)]
    assert info["overall"]["n_episodes"] == 4
    page = (tmp_path / "eval" / "report.html").read_text()
    assert "vla_rl/Reach-v0" in page
    assert "vla_rl/Push-v0" in page


@pytest.mark.slow
@pytest.mark.parametrize(("name", "experiment"), [("table_top", "reach"), ("screens", "gui")])
def test_one_policy_learns_ten_tasks(name: str, experiment: str, tmp_path: Path) -> None:
    common = [
        f"experiment={experiment}",
        f"env={name}",
        f"demos.path={tmp_path}/demos",
        "demos.episodes=4",
        "tracker=null",
    ]
    common += ["demos.noise=0.1"] if name == "table_top" else []
    record(config.load(common, command="demos"))
    start = sft(config.load([*common, f"run_dir={tmp_path}/sft", "sft.steps=100"], command="sft"))
    folder = tmp_path / "run"
    common += ["env.kwargs.horizon=60"]  # some episodes end in each task
    few = ["train.steps=2000", "train.eval_every=2000", "train.eval_episodes=20", "train.log_every=500"]
    train.train(config.load([*common, *few, f"train.checkpoint={start}", f"run_dir={folder}"]))
    train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=3000", "train.eval_every=3000"]))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    tasks = [env.name for env in config.load(common).envs]
    for line in (line for line in lines if "eval/pc_success" in line):
        assert {f"eval/pc_success/{task}" for task in tasks} <= line.keys()
    assert {f"train/success_rate/{task}" for task in tasks} <= lines[-1].keys()
    assert all(np.isfinite(line["critic/loss"]) for line in lines if "critic/loss" in line)
