"""A run that adapts: what it says, logs and saves, and that it goes on with what it knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_rl import config, train
from vla_rl.registry import ConfigError, build, describe
from vla_rl.runtime import checkpoint
from vla_rl.specs import VALUE

EAGER = ["plugins=[tests.fakes,tests.own_parts]", 'algorithm.adaptation={type: "tests.own_parts:Eager"}']


def test_it_says_logs_and_saves_what_it_has_noticed_and_goes_on_with_it(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = train.train(config.load([*line, *EAGER, "train.steps=160"]))
    assert "shift: success fell from" in capsys.readouterr().out
    lines = [json.loads(each) for each in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    alarms = [each["shift/alarms"] for each in lines if "shift/alarms" in each]
    assert alarms == sorted(alarms)
    assert alarms[-1] >= 1
    assert any(0 < each.get("shift/trust", 0) <= 1 for each in lines)
    state = checkpoint.load_state(last / "training_state")
    saved = state["algorithm"]["adapting"]
    assert len(saved["former"]) == min(saved["alarms"], 3) >= 1
    further = train.train(config.load([f"run_dir={tmp_path}/run", "resume=true", EAGER[0], "train.steps=192"]))
    after = checkpoint.load_state(further / "training_state")["algorithm"]["adapting"]
    assert after["decisions"] > saved["decisions"]
    assert after["alarms"] >= saved["alarms"]


def test_a_run_that_does_not_adapt_keeps_nothing_for_it(line: list[str], tmp_path: Path) -> None:
    last = train.train(config.load([*line, "train.steps=32"]))
    state = checkpoint.load_state(last / "training_state")
    assert "adapting" not in state["algorithm"]
    assert "shift/" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert VALUE not in [column.name for column in config.load(line).algorithm.needs.columns]


def test_its_settings_are_checked_and_written_as_they_were_given(line: list[str]) -> None:
    given = {"type": "on_shift", "steps": 300, "anchor": 0.0}
    made = config.load([*line, "algorithm.adaptation={type: on_shift, steps: 300, anchor: 0.0}"]).algorithm
    assert given.items() <= describe(made, "algorithms")["adaptation"].items()
    assert build("algorithms", describe(made, "algorithms"), [], "algorithm") == made
    with pytest.raises(ConfigError, match=r"algorithm\.adaptation\.step: unknown key; did you mean 'steps'\?"):
        config.load([*line, "algorithm.adaptation={type: on_shift, step: 300}"])
    with pytest.raises(ConfigError, match="epsilon: a share"):
        config.load([*line, "algorithm.adaptation={type: on_shift, epsilon: 3.0}"])
