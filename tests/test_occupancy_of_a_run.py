"""Straying that costs, from the config to the log and the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vla_rl import config, train
from vla_rl.registry import ConfigError
from vla_rl.rollout.actor import load_actor
from vla_rl.runtime import checkpoint


def test_straying_is_logged_saved_and_gone_on_with(line: list[str], tmp_path: Path) -> None:
    asked = "algorithm.occupancy={type: chi_squared, weight: 0.2, start: 16}"
    last = train.train(config.load([*line, asked, "train.steps=64"]))
    folder = tmp_path / "run"
    lines = [json.loads(each) for each in (folder / "metrics.jsonl").read_text().splitlines()]
    told = [each for each in lines if "occupancy/loss" in each]
    assert told
    names = ("log_ratio", "penalty", "divergence", "price", "critic_loss")
    assert {f"occupancy/{name}" for name in names} <= told[-1].keys()
    saved = checkpoint.load_state(last / "training_state")["algorithm"]["occupancy"]
    assert len(saved["start"]["tokens"]) == 16
    further = train.train(config.load([f"run_dir={folder}", "resume=true", "train.steps=80"]))
    after = checkpoint.load_state(further / "training_state")["algorithm"]["occupancy"]
    assert torch.equal(after["start"]["tokens"], saved["start"]["tokens"])
    assert after["newest"] > saved["newest"]
    load_actor(folder, device="cpu", best_of=4)  # which raises where nothing ranks decisions


def test_a_wrong_name_or_field_is_named(line: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.occupancy.*did you mean 'chi_squared'"):
        config.load([*line, "algorithm.occupancy={type: chi_square}"])
    with pytest.raises(ConfigError, match=r"algorithm\.occupancy\.wait"):
        config.load([*line, "algorithm.occupancy={type: chi_squared, wait: 1}"])
