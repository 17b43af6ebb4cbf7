"""How long a checkpoint of the replay takes, with N rows there and with ten times as many: only what is new is written;
and how long one without rows takes that says where lanes stand, and one that does not.

    python scripts/bench_checkpoint.py [--rows 2000] [--new 500] [--rounds 9] [--lanes 8]

Both of each kind in turn, in one process; medians. One JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from vla_rl import build, resume
from vla_rl.algorithms.algorithm import Decision
from vla_rl.config import load
from vla_rl.envs.vector import VectorEnvs
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout.collector import Collector
from vla_rl.runtime import checkpoint
from vla_rl.runtime.logger import Log
from vla_rl.specs import IMAGES, SIGNALS, STATE, TASK

PART = "training_state/replay"
LANES, EPISODE = 8, 50


def add(buffer: ReplayBuffer, rows: int, rng: np.random.Generator) -> None:
    """Play `rows` rows of scenes in which a square moves."""
    scene = rng.integers(0, 256, (16, 16, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    for t in range(rows // LANES):
        frames = np.repeat(scene[None], LANES, axis=0)
        for frame, (y, x) in zip(frames, rng.integers(0, 56, (LANES, 2)), strict=True):
            frame[y : y + 8, x : x + 8] = rng.integers(0, 256, 3)
        final = np.full(LANES, t % EPISODE == EPISODE - 1)
        ends = np.full(LANES, t % EPISODE == EPISODE - 2)
        seen = {IMAGES + "front": frames, STATE: rng.normal(size=(LANES, 9)), TASK: ["reach the red thing"] * LANES}
        buffer.add(seen, rng.integers(0, 7, (LANES, 3)), ends.astype(np.float32), ends, ends & False, final)


def save(run: Path, step: int, buffer: ReplayBuffer) -> float:
    """Seconds of one checkpoint."""
    previous = [run / checkpoint.CHECKPOINTS / checkpoint.LAST / PART]
    parts = {"training_state": lambda folder: buffer.save(folder / "replay", previous)}
    start = time.perf_counter()
    checkpoint.save(run, step, parts, keep=2)
    return time.perf_counter() - start


def lanes(run: Path, count: int, rounds: int) -> tuple[float, float]:
    """Seconds of a checkpoint of an empty replay, without and with what `count` lanes of Push go on from."""
    config = load(["env=push", "demos.episodes=0", f"replay.capacity={10 * count}"])
    spec = build.env_spec(config)
    buffer = ReplayBuffer(10 * count, spec.observation.images, spec.observation.state, 3, lanes=count, signals=SIGNALS)
    envs, log = VectorEnvs(build.env_factory(config, spec), count), Log(run, None, 1, "", show=False)
    collector = Collector(envs, buffer, 100_000)
    still = Decision(np.zeros((count, len(spec.tokens.slots)), np.int64), {})
    seconds = np.zeros((rounds, 2))
    for step in range(rounds):
        collector.step(lambda observation: still, log)
        collector.state_dict(log)  # which waits for the environments, as an ordinary turn does
        for known in (False, True):
            start = time.perf_counter()
            standing = collector.state_dict(log) if known else None
            write = partial(resume.save_lanes, lanes=standing) if standing else Path.exists
            checkpoint.save(run, 2 * step + known, {"lanes": write}, keep=2)
            seconds[step, int(known)] = time.perf_counter() - start
    collector.close()
    without, with_them = np.median(seconds, axis=0).tolist()
    return without, with_them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rows", 2000), ("new", 400), ("rounds", 9), ("lanes", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    replays = [ReplayBuffer(20 * given.rows, {"front": (64, 64, 3)}, 9, 3, lanes=LANES) for _ in range(2)]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        runs = [Path(folder) / name for name in ("small", "large")]
        for run, replay, times in zip(runs, replays, (1, 10), strict=True):
            add(replay, times * given.rows, rng)
            save(run, 1, replay)
        seconds = np.zeros((given.rounds, 2))
        for step in range(given.rounds):
            for i, (run, replay) in enumerate(zip(runs, replays, strict=True)):
                add(replay, given.new, rng)
                seconds[step, i] = save(run, step + 2, replay)
        without, with_lanes = lanes(Path(folder) / "lanes", given.lanes, given.rounds)
    small, large = np.median(seconds, axis=0)
    ratio = float(np.median(seconds[:, 1] / seconds[:, 0]))
    told = {"rows": given.rows, "new": given.new, "save_s": small, "save_10x_s": large, "checkpoint_10x": ratio}
    print(json.dumps(told | {"lanes": given.lanes, "empty_s": without, "with_lanes_s": with_lanes}))


if __name__ == "__main__":
    main()
