"""What the real `lerobot` makes of our datasets, and we of its: every frame.

Runs where `bash scripts/install_suite.sh lerobot` has made its environment, or `LEROBOT_PYTHON` names one's Python.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tests.data.test_lerobot import episode, filled
from tests.fakes import CAMERA
from vla_rl.data import lerobot
from vla_rl.envs import ObservationShape
from vla_rl.specs import STATE

pytest.importorskip("pyarrow")
ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("LEROBOT_PYTHON", ROOT / ".venvs/lerobot/bin/python"))
pytestmark = pytest.mark.skipif(not PYTHON.is_file(), reason="no lerobot: bash scripts/install_suite.sh lerobot")
TOLERANCE = {"image": 0.0, "video": 5.0}
"""Mean difference of a frame's pixels, of 255."""


def real(command: str, folder: Path, *rest: str) -> dict[str, np.ndarray]:
    """What `real_lerobot.py` says, run by the other Python."""
    out = folder.with_suffix(".npz")
    script = [str(PYTHON), str(ROOT / "tests/data/real_lerobot.py"), command, str(folder), str(out), *rest]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder.parent / "hub")}
    finished = subprocess.run(script, capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stderr
    with np.load(out) as file:
        return dict(file)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest mean difference of two frames; each frame is nearer to its own than to its neighbours."""
    near = [np.abs(one.astype(int) - np.roll(other, shift, axis=0)).mean(axis=(1, 2, 3)) for shift in (0, 1, -1)]
    assert (near[0] <= np.minimum(near[1], near[2])).all()
    return float(near[0].max())


@pytest.mark.parametrize("mode", ["image", "video"])
def test_lerobot_reads_what_we_write(mode: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = [episode(rng, length, (48, 64)) for length in (3, 8, 5, 12)]
    limits = lerobot.Limits(data_bytes=4000, video_bytes=2000, files=2)
    lerobot.write_demonstrations(written, tmp_path / "d", mode, limits=limits)  # type: ignore[arg-type]
    kind = {"image": "data", "video": "videos"}[mode]
    assert len(list((tmp_path / "d" / kind).rglob("file-*"))) > 1
    rows = real("read", tmp_path / "d")
    assert (int(rows["episodes"]), int(rows["fps"])) == (4, 10)
    counts = [len(each) + 1 for each in written]
    assert rows["task"].tolist() == [task for each in written for task in each.tasks]
    assert rows["episode_index"].tolist() == np.repeat(range(4), counts).tolist()
    assert rows["index"].tolist() == list(range(sum(counts)))
    assert rows["final"].tolist() == [i + 1 == count for count in counts for i in range(count)]
    np.testing.assert_allclose(
        rows["timestamp"], np.concatenate([np.arange(count) / 10 for count in counts]), rtol=1e-6
    )
    seen = np.concatenate([each.observations[CAMERA] for each in written])
    assert apart(rows[CAMERA], seen) <= TOLERANCE[mode]
    for key in ("action", "label"):
        parts = [np.concatenate([taken := getattr(each, key), taken[-1:]]) for each in written]
        np.testing.assert_array_equal(rows[key].ravel(), np.concatenate(parts).ravel())
    states = np.concatenate([each.observations[STATE] for each in written])
    np.testing.assert_array_equal(rows[STATE].ravel(), states.ravel())
    np.testing.assert_allclose(rows[f"stats/{STATE}/mean"], states.mean(axis=0), rtol=1e-5)
    assert rows[f"stats/{CAMERA}/mean"].shape == (3, 1, 1)


def test_lerobot_reads_a_whole_replay(tmp_path: Path) -> None:
    replay = filled(2, 1)
    lerobot.write_replay(replay, tmp_path / "d", act=lambda tokens: tokens / 4 - 1)
    rows = real("read", tmp_path / "d")
    ids = [part[:-1] for part in replay.episodes()]
    want = replay.recorded(np.concatenate(ids))
    acts = ~rows["final"]
    np.testing.assert_array_equal(rows["tokens"][acts], want["tokens"])
    np.testing.assert_array_equal(rows["next.reward"][acts], want["reward"])
    np.testing.assert_array_equal(rows["next.done"][acts], want["terminated"] | want["truncated"])
    np.testing.assert_allclose(rows["action"][acts], want["tokens"] / 4 - 1)
    seen = np.concatenate([replay.observations(part)[CAMERA] for part in replay.episodes()])
    assert apart(rows[CAMERA], seen) == 0


@pytest.mark.parametrize("mode", ["image", "video"])
def test_we_read_what_lerobot_writes(mode: str, tmp_path: Path) -> None:
    written = real("write", tmp_path / "d", mode)
    shape = ObservationShape({CAMERA: (48, 64, 3)}, 3)
    read = lerobot.load(tmp_path / "d", shape, gymnasium.spaces.Box(-1, 1, (2,), np.float32))
    assert [len(each) for each in read] == [4, 5, 6]
    assert [text for each in read for text in each.tasks[:-1]] == written["task"].tolist()
    np.testing.assert_array_equal(np.concatenate([each.action for each in read]), written["action"])
    for key, tolerance in ((STATE, 0.0), (CAMERA, TOLERANCE[mode])):
        seen = np.concatenate([each.observations[key][:-1] for each in read])
        if key == CAMERA:
            assert apart(seen, written[key]) <= tolerance
        else:
            np.testing.assert_array_equal(seen, written[key])
