"""Metrics become warnings in words, and are read as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rl.cockpit.health import MetricsTail, warnings
from vla_rl.evaluation.critic_health import CriticHealth


def critic(by_critic: tuple[int, int], without: tuple[int, int]) -> dict[str, Any]:
    return {"step": 1} | CriticHealth(np.array([by_critic]), np.array([without])).metrics


@pytest.mark.parametrize(
    ("lines", "level", "words"),
    [
        (
            [critic((10, 100), (60, 100))],
            "bad",
            "Acting by the critic is worse than acting without it: 10% against 60%",
        ),
        ([critic((90, 100), (40, 100))], "good", "Acting by the critic is better"),
        ([{"step": 9, "train/episodes": 80.0, "train/success_rate": 0.0}], "bad", "None of 80 episodes has succeeded"),
        ([{"step": 1, "eval/pc_success": 75.0}, {"step": 2, "eval/pc_success": 40.0}], "warn", "was at 75% at step 1"),
        ([{"step": 1, "q/mean": 0.9, "q/return": 0.4}], "warn", "promises 0.90 on average, and 0.40 comes"),
        (
            [{"step": 1, "train/episodes": 30.0, "train/invalid_episodes": 10.0}],
            "warn",
            "10 of 40 episodes were invalid",
        ),
        ([{"step": 1, "train/skipped_steps": 3.0}], "warn", "3 updates were skipped"),
    ],
)
def test_what_is_wrong_is_said(lines: list[dict[str, Any]], level: str, words: str) -> None:
    (found,) = warnings(lines)
    assert found["level"] == level
    assert words in found["text"]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"step": 1}],
        [critic((50, 100), (50, 100))],
        [{"step": 1, "train/episodes": 10.0, "train/success_rate": 0.0}],
        [{"step": 1, "train/success_rate": 0.5}, {"step": 9, "train/episodes": 80.0, "train/success_rate": 0.0}],
        [{"step": 1, "eval/pc_success": 75.0}, {"step": 2, "eval/pc_success": 70.0}],
        [{"step": 1, "q/mean": 0.5, "q/return": 0.4, "train/skipped_steps": 0.0, "train/invalid_episodes": 0.0}],
    ],
)
def test_nothing_is_said_where_nothing_is_wrong(lines: list[dict[str, Any]]) -> None:
    assert warnings(lines) == []


def test_a_file_is_read_as_it_grows(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    tail = MetricsTail(file)
    assert tail.read() == []
    file.write_text('{"step": 1}\nno json\n[]\n{"step": "x"}\n{"st')
    assert tail.read() == [{"step": 1}]
    with file.open("a") as more:
        more.write('ep": 2}\n')
    assert [line["step"] for line in tail.read()] == [1, 2]
    file.write_text('{"step": 7}\n')  # a run that went back to a checkpoint
    assert tail.read() == [{"step": 7}]
