"""Credit against the true contribution: the measure on numbers by hand, and on a run whose environment tells it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vla_rl import cli, config
from vla_rl.bench.credit import credited
from vla_rl.bench.critic import Judged, summary, table
from vla_rl.registry import ConfigError
from vla_rl.train import train


def test_advantages_are_compared_within_states() -> None:
    nan = np.nan
    returns = np.array([[0.0, 1.0, nan], [5.0, 7.0, 6.0]])[:, :, None].repeat(2, 2)
    contributed = np.array([[-1.0, 1.0, nan], [-2.0, 2.0, 0.0]])
    wrong = np.array([[1.0, 0.0, nan], [3.0, 1.0, 2.0]])
    found = summary(Judged(returns, {"critic": wrong}, np.array([1.0, 2.0]), contributed))
    within = np.array([-0.5, 0.5, -1, 1, 0])  # whatever states are worth
    truth = np.array([-1, 1, -2, 2, 0])
    assert found["contribution"]["resets"] == pytest.approx(np.corrcoef(within, truth)[0, 1])
    assert found["contribution"]["critic"] == pytest.approx(-np.corrcoef(within, truth)[0, 1])
    assert table(found).splitlines()[-2].split() == ["resets", "contribution", "+1.000"]
    assert "contribution" not in summary(Judged(returns, {"critic": wrong}, np.array([1.0, 2.0])))


@pytest.fixture
def chain_run(quick: list[str], tmp_path: Path) -> list[str]:
    return [
        *quick,
        "env=gui_named_chain",
        "env.kwargs={codes: 0, named: 4, steps: 2, horizon: 4, starts: 2, asides: 0, choices: 2, contributions: true}",
        "action_space={type: choice}",
        "demos.episodes=0",
        "algorithm.demo_share=0",
        "algorithm.credit={type: anchor_states, every: 4}",
        f"run_dir={tmp_path / 'run'}",
    ]


def test_a_run_is_held_against_what_its_environment_tells(
    chain_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config.load([*chain_run, "replay.signals=[{name: contribution}]"]))
    found = credited(str(tmp_path / "run"))
    assert 0.3 < found["known"] <= 1
    assert found["credit"] > 0  # of a chain of two steps, counted a few times
    assert -1 <= found["critic"] <= 1
    capsys.readouterr()
    asked = ["bench", "critic", str(tmp_path / "run"), "--states=2", "--decisions=3", "--rollouts=4", "--json"]
    assert cli.main(asked) == 0
    assert set(json.loads(capsys.readouterr().out)["contribution"]) == {"resets", "critic"}


def test_a_run_that_did_not_keep_the_truth_is_told_how_to(chain_run: list[str], tmp_path: Path) -> None:
    train(config.load([*chain_run, "train.steps=8", "train.learning_starts=100"]))
    with pytest.raises(ConfigError, match=r"replay\.signals"):
        credited(str(tmp_path / "run"))
