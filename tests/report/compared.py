"""Folders of runs and evaluations such as `compare` reads, without the hours that making real ones takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vla_rl import config
from vla_rl.evaluation import eval_info
from vla_rl.evaluation.outcome import EvalResult, Outcome
from vla_rl.specs import HELD_OUT_SEEDS

TASK = "reach the red cube"


def write_run(folder: Path, rates: list[float], *overrides: str, every: int = 500) -> Path:
    """A run's folder whose validations, of 40 episodes each, found these successes (percent)."""
    config.load([f"run_dir={folder}", *overrides]).save(folder)
    lines = [
        {
            "step": every * i,
            "time": 0.0,
            "eval/pc_success": rate,
            "eval/episodes": 40.0,
            "train/success_rate": rate / 120,
        }
        for i, rate in enumerate(rates)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_evaluation(folder: Path, run: Path, won: int, episodes: int = 20, *overrides: str) -> Path:
    """The folder of an evaluation of a run's last checkpoint, with a film of its first episode."""
    outcomes = tuple(
        Outcome(
            HELD_OUT_SEEDS[i], TASK, i < won, float(i < won), float(i < won), 3, False, np.zeros((3, 1), np.int64),
            frames=tuple(np.full((16, 16, 3), 60 * t, np.uint8) for t in range(4)) if i == 0 else None,
        )
        for i in range(episodes)
    )  # fmt: skip
    eval_info.write(EvalResult("reach", outcomes, 1.0), folder, {"checkpoint": str(run), "acting": "greedy"})
    config.load([f"eval.checkpoint={run}", f"run_dir={folder}", *overrides], command="eval").save(folder)
    return folder
