"""Bytes, loss and speed of datasets in image and video mode, for docs/datasets.md.

Usage: python scripts/bench_datasets.py [ENV_ID ...]      such as vla_rl/Reach-v0
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vla_rl import envs
from vla_rl.data import demos, lerobot
from vla_rl.data.demos import Demonstrations

ENVS = ("vla_rl/Reach-v0", "vla_rl/Push-v0", "vla_rl/GuiTypeAndSubmit-v0")
EPISODES = 20


def measure(line: Demonstrations, mode: str, folder: Path) -> str:
    """One row of the table: what the pictures take and lose, and frames a second."""
    frames = line.steps + len(line)
    begun = time.perf_counter()
    lerobot.write_demonstrations(line, folder, mode)  # type: ignore[arg-type]
    written = time.perf_counter()
    back = lerobot.load(folder)
    read = time.perf_counter()
    files = folder / ("data" if mode == "image" else "videos")
    size = sum(path.stat().st_size for path in files.rglob("file-*"))
    pairs = [
        (one.observations[key], other.observations[key])
        for one, other in zip(line, back, strict=True)
        for key in line.shape.images
    ]
    raw = sum(one.nbytes for one, _ in pairs)
    apart = [np.abs(one.astype(int) - other).mean(axis=(1, 2, 3)) for one, other in pairs]
    mean, worst = np.concatenate(apart).mean(), np.concatenate(apart).max()
    return (
        f"{mode} | {frames} | {raw / frames:.0f} | {size / frames:.0f} | {mean:.2f} | {worst:.2f} "
        f"| {frames / (written - begun):.0f} | {frames / (read - written):.0f}"
    )


def main(names: list[str]) -> None:
    print("environment | mode | frames | raw bytes | bytes | mean loss | worst frame | written/s | read/s")
    for name in names:
        line = demos.demonstrate(envs.make_env(name), EPISODES, noise=0.3)
        with tempfile.TemporaryDirectory() as folder:
            for mode in ("image", "video"):
                print(name, "|", measure(line, mode, Path(folder) / mode))


if __name__ == "__main__":
    main(sys.argv[1:] or list(ENVS))
