"""A policy that has seen no demonstration, where nobody could have shown any."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fakes
from vla_rl import config
from vla_rl.eval import evaluate_checkpoint
from vla_rl.registry import ConfigError
from vla_rl.sft import sft

WILD = ["env.id=fake/Wild-v0", "env.sensors=null", "env.kwargs.width=8", "demos.episodes=0"]


def test_a_policy_as_it_starts_needs_no_demonstrations(quick: list[str], tmp_path: Path) -> None:
    assert not hasattr(fakes.Wild(), "expert_action")
    with pytest.raises(ConfigError, match=r"demos.episodes: 0, .* or set sft.steps=0 too for the policy as it starts"):
        sft(config.load([*quick, *WILD, "sft.steps=5"], command="sft"))
    start = sft(config.load([*quick, *WILD, "sft.steps=0", f"run_dir={tmp_path}/start"], command="sft"))
    run = config.load(
        [f"eval.checkpoint={start}", "eval.episodes=2", "eval.videos=0", "eval.workers=0", f"run_dir={tmp_path}/eval"],
        command="eval",
    )
    assert len(evaluate_checkpoint(run).outcomes) == 2
