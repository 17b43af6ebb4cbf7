"""Run by the Python of an environment that has `lerobot`: reads or writes a dataset with it. No tests by itself.

Usage: python real_lerobot.py read FOLDER OUT.npz [BACKEND]     every frame that it gives
       python real_lerobot.py write FOLDER OUT.npz MODE         a dataset of its own, and what went into it
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

CAMERA, STATE = "observation.images.front", "observation.state"
TASKS = ("reach the red cube", "räum den Tisch auf: 把杯子放下")
SIZE = (48, 64, 3)


def read(folder: Path, out: Path, backend: str = "pyav") -> None:
    """Every frame: numbers as they come, pictures as uint8 [H, W, 3], and the tasks."""
    dataset = LeRobotDataset("vla_rl/test", root=folder, video_backend=backend)
    rows = [dataset[i] for i in range(len(dataset))]
    arrays = {key: np.stack([np.asarray(row[key]) for row in rows]) for key in rows[0]}
    for key in dataset.meta.camera_keys:
        arrays[key] = np.round(arrays[key].transpose(0, 2, 3, 1) * 255).astype(np.uint8)
    stats = {f"stats/{key}/{name}": value for key, each in dataset.meta.stats.items() for name, value in each.items()}
    counts = {"episodes": np.array(dataset.num_episodes), "fps": np.array(dataset.fps)}
    np.savez(out, **arrays, **stats, **counts)


def write(folder: Path, out: Path, mode: str) -> None:
    """Three episodes of a growing rectangle, with float actions and nothing of ours."""
    rng = np.random.default_rng(0)
    features = {
        CAMERA: {"dtype": mode, "shape": SIZE, "names": ["height", "width", "channels"]},
        STATE: {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["dx", "dy"]},
    }
    dataset = LeRobotDataset.create("vla_rl/test", fps=10, features=features, root=folder, use_videos=mode == "video")
    kept: dict[str, list] = {CAMERA: [], STATE: [], "action": [], "task": []}
    for episode in range(3):
        for step in range(4 + episode):
            picture = np.full(SIZE, 40 * episode, np.uint8)
            picture[:, : 8 * (step + 1)] = (200, 30 * step, 90)
            frame = {CAMERA: picture, STATE: rng.normal(size=3).astype(np.float32)}
            frame |= {"action": rng.uniform(-1, 1, 2).astype(np.float32), "task": TASKS[episode % 2]}
            for key, value in frame.items():
                kept[key].append(value)
            dataset.add_frame(dict(frame))
        dataset.save_episode()
    dataset.finalize()
    np.savez(out, **{key: np.stack(values) for key, values in kept.items()})


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
