"""What a viewer of the cockpit costs a training: its steps a second with one over those without, in turn.

`python scripts/bench_cockpit.py [PAIRS] [SECONDS]`: Reach in 16 environments of the trainer's own process. The viewer
reads whatever the page would be sent, and draws nothing. Told beside it: the trainer's steps a second of its own CPU
time, which what else runs on the machine does not change, and the page's server's share of a core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from websockets.sync.client import connect

RUN = "env=reach device=cpu demos.episodes=8 train.num_envs=16 train.workers=0 train.steps=10000000 tracker=null"
LEARNS = "train.learning_starts=200 train.log_every=1 train.eval_every=0 train.save_every=0 replay.capacity=20000"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("pairs", nargs="?", type=int, default=20)
    options.add_argument("seconds", nargs="?", type=float, default=8.0)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, demos = Path(folder, "run"), f"demos.path={folder}/demos"
        command = [sys.executable, "-u", "-m", "vla_rl.cli"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*command, "demos", "env=reach", "demos.episodes=8", demos], check=True, **quiet)
        trains = subprocess.Popen([*command, "train", *RUN.split(), *LEARNS.split(), demos, f"run_dir={run}"], **quiet)
        while len(lines(run)) < 60:
            assert trains.poll() is None, "the training ended"
            time.sleep(0.5)
        serves = subprocess.Popen([*command, "cockpit", str(run), "--port=0"], stdout=subprocess.PIPE, text=True)
        assert serves.stdout is not None
        address = serves.stdout.readline().split("cockpit: ")[1].strip()
        try:
            report([measured(run, trains.pid, serves.pid, address, chosen.seconds) for _ in range(chosen.pairs)])
        finally:
            for process in (serves, trains):
                process.kill()
                process.wait()


def measured(run: Path, trainer: int, server: int, address: str, seconds: float) -> tuple[list[float], list[float]]:
    """Steps a second, steps a second of the trainer's CPU, and the server's share of a core: without, and with one."""
    without = window(run, trainer, server, seconds)
    with connect(address.replace("http", "ws").replace("/?", "/socket?")) as talk:
        talk.send(json.dumps({"do": "here", "who": "bench"}))
        talk.recv()
        watched = window(run, trainer, server, seconds, talk)
    return without, watched


def window(run: Path, trainer: int, server: int, seconds: float, talk: object = None) -> list[float]:
    """What happens in so many seconds, while whatever is sent is read."""
    begun, used, served, until = len(lines(run)), cpu(trainer), cpu(server), time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if talk is None:
            time.sleep(left)
            continue
        try:
            talk.recv(timeout=left)  # type: ignore[attr-defined]
        except TimeoutError:
            break
    used, served, within = cpu(trainer) - used, cpu(server) - served, lines(run)[begun - 1 :]
    steps, took = (within[-1][key] - within[0][key] for key in ("step", "time"))
    return [steps / took, steps / used, served / seconds]


def cpu(process: int) -> float:
    """Seconds of CPU that a process has used."""
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


def lines(run: Path) -> list[dict[str, float]]:
    """What the training has logged."""
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def report(pairs: list[tuple[list[float], list[float]]]) -> None:
    """Medians over the pairs, and the middle half of them."""
    found = np.array(pairs)  # [pairs, without and with, what]
    ratios = found[:, 1, :2] / found[:, 0, :2]
    print(f"without: {np.median(found[:, 0, 0]):.1f} steps/s; with one viewer: {np.median(found[:, 1, 0]):.1f}")
    for name, column in zip(("steps/s", "steps a second of the trainer's CPU"), ratios.T, strict=True):
        low, middle, high = np.quantile(column, [0.25, 0.5, 0.75])
        print(f"{name}, with over without: {middle:.3f} (middle half {low:.3f} to {high:.3f}, {len(column)} pairs)")
    print(
        f"the page's server: {100 * np.median(found[:, 1, 2]):.1f}% of a core, {np.median(found[:, 0, 2]):.1%} without"
    )


if __name__ == "__main__":
    main()
