"""Demonstrations are held against what the environment asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_rl import config
from vla_rl.data.record import record


def test_words_and_kinds_of_instruction_in_no_demonstration_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "env=gui_click_colour",
        "action_space={type: command}",
        "env.sensors=[{type: screenshot}, {type: instruction}]",
    ]
    record(config.load([*words, "demos.episodes=1", f"demos.path={tmp_path}/few"]))
    said = capsys.readouterr().err
    assert "words that the environment asks for and no demonstration has: '" in said
    assert "kinds of instruction that the environment asks for and no demonstration has: '" in said
    record(config.load([*words, "demos.episodes=150", f"demos.path={tmp_path}/many"]))
    assert "warning" not in capsys.readouterr().err
