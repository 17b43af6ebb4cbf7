"""A stranger's replay: its list of files leads nowhere else, and its sizes are held against the machine's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_rl.models import bounds
from vla_rl.replay import ReplayBuffer
from vla_rl.specs import IMAGES, STATE, TASK


def filled(steps: int = 8) -> ReplayBuffer:
    buffer = ReplayBuffer(capacity=64, images={f"{IMAGES}front": (8, 8, 3)}, state_dim=2, slots=1, choices=3, lanes=1)
    add(buffer, steps)
    return buffer


def add(buffer: ReplayBuffer, steps: int = 1) -> None:
    rng = np.random.default_rng(buffer.added)
    for _ in range(steps):
        buffer.add(
            observation={
                f"{IMAGES}front": rng.integers(0, 255, (1, 8, 8, 3), np.uint8),
                STATE: np.zeros((1, 2), np.float32),
                TASK: ["go"],
            },
            tokens=np.zeros((1, 1), np.int64),
            reward=np.zeros(1, np.float32),
            terminated=np.zeros(1, bool),
            truncated=np.zeros(1, bool),
            final=np.zeros(1, bool),
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows", [[0, 8, "../../secret"]]),
        ("rows", [[0, 8, "/etc/passwd"]]),
        ("frames", {f"{IMAGES}front": ["../" + "0" * 64]}),
        ("head", 10**12),
        ("settings.capacity", 10**12),
        ("settings.lanes", 10**12),
        ("settings.columns", {"state": [[10**12], "float32"]}),
        ("settings.capacity", "many"),
    ],
)
def test_what_it_says_is_refused_where_no_file_bears_it_out(tmp_path: Path, key: str, value: Any) -> None:
    (tmp_path / "replay").mkdir()
    filled().save(tmp_path / "replay")
    file = tmp_path / "replay" / "replay.json"
    content = json.loads(file.read_text())
    *holders, name = key.split(".")
    holder = content
    for each in holders:
        holder = holder[each]
    holder[name] = value
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"replay"):
        ReplayBuffer.of_saved(tmp_path / "replay")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_a_save_leaves_no_file_open(tmp_path: Path) -> None:
    buffer, before = filled(), len(os.listdir("/proc/self/fd"))
    for step in range(5):
        add(buffer)
        folder = tmp_path / str(step)
        folder.mkdir()
        buffer.save(folder, [tmp_path / str(step - 1)] if step else ())
    assert len(os.listdir("/proc/self/fd")) == before
    again = ReplayBuffer.of_saved(folder)
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(again) == len(buffer) == 13


def test_a_critic_is_held_against_its_weights_before_it_is_made() -> None:
    state = torch.nn.Linear(4, 4).state_dict()
    assert bounds.filled(lambda: torch.nn.Linear(4, 4), state, "critic").weight.shape == (4, 4)
    with pytest.raises(ValueError, match="more weights than"):
        bounds.filled(lambda: torch.nn.Linear(2**20, 2**20), state, "critic")
    with pytest.raises(ValueError, match="do not fit"):
        bounds.filled(lambda: torch.nn.Linear(4, 5), state, "critic")
    with pytest.raises(ValueError, match="expected weights by name"):
        bounds.filled(lambda: torch.nn.Linear(4, 4), None, "critic")
