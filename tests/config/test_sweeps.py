"""Overrides of several values become runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_rl.config import sweeps
from vla_rl.registry import ConfigError


def overrides(*texts: str) -> list[list[str]]:
    return [list(run.overrides) for run in sweeps.expand(texts)]


def test_every_combination_is_a_run_and_the_last_key_changes_fastest() -> None:
    assert overrides("seed=1,2", "env=push", "algorithm.gamma=.9,.95") == [
        ["env=push", "seed=1", "algorithm.gamma=0.9"],
        ["env=push", "seed=1", "algorithm.gamma=0.95"],
        ["env=push", "seed=2", "algorithm.gamma=0.9"],
        ["env=push", "seed=2", "algorithm.gamma=0.95"],
    ]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seed=range(1,4)", ["seed=1", "seed=2", "seed=3"]),
        ("env=choice(reach,push)", ["env=reach", "env=push"]),
        ("env=[reach,push],pick", ["env=[reach,push]", "env=pick"]),
        ("env=glob(gui_cho*)", ["env=gui_choose_from_menu"]),
        ("replay.hindsight={type: state_goal},null", ["replay.hindsight={type:state_goal}", "replay.hindsight=null"]),
        ("train.checkpoint=outputs/a,outputs/b", ["train.checkpoint=outputs/a", "train.checkpoint=outputs/b"]),
    ],
)
def test_values_are_listed_in_hydras_grammar(text: str, values: list[str]) -> None:
    assert overrides(text) == [[value] for value in values]


@pytest.mark.parametrize("text", ["env.kwargs.text='a, b'", "env=[reach,push]", "env.kwargs.title=tür, rechts"])
def test_lists_and_texts_are_one_value(text: str) -> None:
    assert overrides(text) == [[text]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["algorithm.gamma=interval(0,1)"], "algorithm.gamma: .* cannot be listed one by one"),
        (["run_dir=a,b"], "run_dir: one for the whole sweep"),
        (["seed=1,2", "seed=3,4"], "seed: given several values twice"),
        (["seed=1,1"], "seed: 'seed=1,1' has a value twice"),
        (
            ["seed=range(0,100)", "replay.n_step=range(1,12)"],
            r"1100 runs \(100 of seed x 11 of replay.n_step\), at most",
        ),
        (["seed=range(0,1000000000)"], "at most 1000"),
        (["env=glob(nothing*)"], "matches no file"),
    ],
)
def test_what_cannot_be_listed_is_said(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweeps.expand(texts)


def test_folders_are_named_by_what_varies_and_stay_in_order() -> None:
    names = [run.name for run in sweeps.expand(["seed=range(0,12)", "train.checkpoint=../a b,c"])]
    assert names[0] == "00_seed=0,checkpoint=.._a_b"
    assert names == sorted(names)
    assert len(set(names)) == 24
    assert not any("/" in name for name in names)
    assert [run.name for run in sweeps.expand(["env=push"])] == ["0"]


def test_the_groups_of_ones_own_folder_are_matched_too(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine_a.yaml").write_text("id: x\n")
    assert [run.overrides for run in sweeps.expand(["env=glob(mine_*)"], tmp_path)] == [("env=mine_a",)]
