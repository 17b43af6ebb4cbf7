"""Run by test_restart.py: python killed_writer.py FOLDER.

For each place and seed, a process of its own plays a random stream into a replay and saves it as a checkpoint every
few steps, until it kills itself at a random one of its writes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from checkpoint_driver import die_at
from replay_streams import Stream, make_stream

from vla_rl.replay import ReplayBuffer
from vla_rl.runtime import checkpoint

PLACES, SEEDS = ("ram", "disk"), range(6)
EVERY = 5
CAPACITY = 150
PART = "training_state/replay"


def started(seed: int, folder: Path | None) -> Stream:
    """The stream of a seed, before its first step; on disk where there is a folder."""
    limits: dict[str, Any] = {"ram_bytes": 31_000, "disk_bytes": 40_000, "folder": folder} if folder else {}
    return make_stream(seed=seed, lanes=3, stack=2, capacity=CAPACITY, limits=limits)


def save(run: Path, step: int, buffer: ReplayBuffer) -> None:
    """A generation of the replay alone, linked to the one before."""

    def write(folder: Path) -> None:
        buffer.save(folder / "replay", previous=[run / checkpoint.CHECKPOINTS / checkpoint.LAST / PART])

    checkpoint.save(run, step, {"training_state": write}, keep=2)


def play(run: Path, seed: int, on_disk: bool) -> None:
    stream = started(seed, run / "replay" if on_disk else None)
    for step in range(1, 1_000_000):
        stream.step()
        if step % EVERY == 0:
            save(run, step, stream.buffer)


def play_and_die(run: Path, seed: int, place: str) -> None:
    child = os.fork()
    if child == 0:
        die_at(int(np.random.default_rng((seed, PLACES.index(place))).integers(20, 500)))
        play(run, seed, place == "disk")
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), status
    assert os.WTERMSIG(status) == signal.SIGKILL, status


if __name__ == "__main__":
    for place in PLACES:
        for seed in SEEDS:
            play_and_die(Path(sys.argv[1]) / place / str(seed), seed, place)
