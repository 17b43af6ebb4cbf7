"""Ours, by the commands that a person would type: a supervised start, then `vla-rl train`; checkpoints are measured.

`filtered_bc` is the same with imitation of what succeeded in place of `pa_rl`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.agents import course as courses
from scripts.agents.course import Curve, Plan
from vla_rl import config
from vla_rl.actions import horizon
from vla_rl.eval import evaluate_checkpoint

CONFIGS = Path(__file__).parent / "configs"
"""Experiments that are here and not among ours: `toy`."""
PLUGINS = {"toy": ["plugins=[scripts.agents.toy]"]}
"""What a task needs beside its experiment."""


def train(
    name: str, task: str, seed: int, plan: Plan, path: Path, about: dict[str, Any], changes: Sequence[str]
) -> None:
    """Make the demonstrations, start, train, and measure each checkpoint on the held-out seeds.

    Where a task has no demonstrations, training starts from scratch. Of chunks, a decision counts as all of its steps.
    """
    folder = path.with_suffix("")
    if folder.exists():
        raise FileExistsError(f"{folder}: holds a run already; name another --out, or remove it")
    common = [*courses.settings(task, seed, None, path.parent / "demos"), *PLUGINS.get(task, []), *changes]
    run = config.load(common, config_dir=CONFIGS, command="demos")
    if run.demos.episodes and not run.demos.folder.exists():
        vla_rl("demos", *common)
    source = f"the experiment {task}" + ("" if name == "pa_rl" else f" with algorithm={name}")
    curve = Curve(path, about | {"settings": {"overrides": common}, "changed": list(changes), "source": source})
    start, started = folder / "sft/checkpoints/last", (0.0, 0.0)
    if run.demos.episodes:
        vla_rl("sft", *common, f"run_dir={folder}/sft")
        started = curve.took
        with curve.pause():
            found = success(start, common, folder / "eval_0", plan)
        curve.add(0, found, started)
    stride = horizon(run.action_space)
    steps, every = plan.steps // stride, plan.every // stride
    settings = [
        f"train.checkpoint={start if run.demos.episodes else 'null'}",
        f"train.steps={steps}",
        f"train.save_every={every}",
        f"train.keep={-(-steps // every) + 1}",
        "train.eval_every=0",  # which would count as training
        f"run_dir={folder}/rl",
    ]
    if plan.minutes < float("inf"):
        settings.append(f"train.minutes={plan.minutes}")
    vla_rl("train", *common, *([] if name == "pa_rl" else [f"algorithm={name}"]), *settings)
    clock, cpu = (now - before for now, before in zip(curve.took, started, strict=True))
    share = shares(folder / "rl/metrics.jsonl")
    for checkpoint in sorted((folder / "rl/checkpoints").glob("[0-9]*")):
        step = int(checkpoint.name)
        found = success(checkpoint, common, folder / f"eval_{step}", plan)
        curve.add(step * stride, found, (started[0] + share(step) * clock, started[1] + share(step) * cpu))


def vla_rl(command: str, *overrides: str) -> None:
    """Run one command; its failure is ours."""
    called = [sys.executable, "-m", "vla_rl.cli", command, *overrides, "--config-dir", str(CONFIGS)]
    subprocess.run(called, check=True)


def success(checkpoint: Path, common: Sequence[str], out: Path, plan: Plan) -> float:
    """Share of greedy successes on the held-out seeds."""
    wanted = [f"eval.checkpoint={checkpoint}", f"eval.episodes={plan.episodes}", "eval.videos=0", f"run_dir={out}"]
    run = config.load([*common, *wanted], config_dir=CONFIGS, command="eval")
    return evaluate_checkpoint(run).pc_success / 100


def shares(metrics: Path) -> Callable[[int], float]:
    """Which share of its time the training had taken by a step: its own clock, between the lines of its log."""
    lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    took = np.cumsum([0.0, *(line.get("time/seconds", 0.0) for line in lines)])
    return lambda step: float(np.interp(step, [0, *(line["step"] for line in lines)], took / took[-1]))
