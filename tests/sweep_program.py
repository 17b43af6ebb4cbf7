"""Stands in for `vla-rl train` in tests of sweeps: takes no time, and says in its folder what it was told.

Seed 13 fails. With HOLD in the environment a run waits for SIGTERM, as a training that is not over; it then keeps a
checkpoint, and goes on from it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

overrides = dict(text.split("=", 1) for text in sys.argv[2:])
folder = Path(overrides["run_dir"])
folder.mkdir(parents=True, exist_ok=True)
if overrides.get("resume") != "true":
    assert not any(folder.iterdir()), f"{folder} is not empty"
told = {
    "overrides": overrides,
    "cores": sorted(os.sched_getaffinity(0)),
    "threads": os.environ["OMP_NUM_THREADS"],
    "resumed": (folder / "checkpoint").exists(),
}
(folder / "config.yaml").write_text(
    f"seed: {overrides['seed']}\nalgorithm: {{gamma: {overrides['algorithm.gamma']}}}\n"
)
print(f"step 1 of {overrides['seed']}", flush=True)
if overrides["seed"] == "13":
    sys.exit("vla-rl: error: unlucky")
if "HOLD" in os.environ:
    signal.signal(signal.SIGTERM, lambda *_: ((folder / "checkpoint").touch(), sys.exit(143)))
    (folder / "waits").touch()
    while True:
        signal.pause()
line = {"step": 100, "eval/pc_success": 50.0, "eval/episodes": 10.0}
(folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
with (folder / "told.jsonl").open("a") as file:
    file.write(json.dumps(told) + "\n")
