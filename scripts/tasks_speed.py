"""Decisions a second of one training over several tasks, against a training in each of them alone.

Usage: .venv/bin/python scripts/tasks_speed.py [table_top | screens] [KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from statistics import fmean, harmonic_mean

from vla_rl import config
from vla_rl.config import RunConfig
from vla_rl.train import train

RECIPES = {"table_top": "experiment=reach", "screens": "experiment=gui"}
PLAIN = (
    "demos.episodes=0",
    "algorithm.demo_share=0",
    "train.num_envs=20",
    "train.learning_starts=200",
    "train.log_every=200",
    "train.eval_every=0",
    "train.save_every=0",
    "train.steps=1600",
    "algorithm.warmup_updates=0",  # the actor learns from the start, and not earlier in one run than in another
    "env.kwargs.horizon=16",  # so that every task has episodes to learn from as soon as the others have
    "tracker=null",
)
EVERY = 3
"""The training over all runs before every so many of the others: a machine's speed changes with the minutes."""
FROM = 600
"""Decisions after which the clock runs: learning has begun."""


def rate(run: RunConfig) -> float:
    """Decisions a second of a training."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        train(run.model_copy(update={"run_dir": Path(folder, "run")}))
        lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    counted = [(line["time"], line["step"]) for line in lines if line["step"] >= FROM]
    (begun, first), (ended, last) = counted[0], counted[-1]
    return (last - first) / (ended - begun)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("group", nargs="?", choices=[*RECIPES], default="table_top")
    arguments.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = arguments.parse_intermixed_args()
    run = config.load([RECIPES[options.group], *PLAIN, *options.overrides, f"env={options.group}"])
    alone, together = [], []
    for number, one in enumerate(run.each()):
        if number % EVERY == 0:
            together.append(rate(run))
            print(f"{options.group:20} {together[-1]:8.1f}", flush=True)
        alone.append(rate(one))
        print(f"{one.env.name:20} {alone[-1]:8.1f}", flush=True)
    both = fmean(together)
    for name, mean in (("mean", fmean(alone)), ("harmonic mean", harmonic_mean(alone))):
        print(f"{name:20} {mean:8.1f}, of which one run over {options.group} ({both:.1f}) has {both / mean:.2f}")


if __name__ == "__main__":
    main()
