"""What all studies do: the commands of a run as functions, settings from a YAML file, means with intervals."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vla_rl import config
from vla_rl.data.record import record
from vla_rl.eval import evaluate_tasks
from vla_rl.evaluation.eval_info import INFO_FILE
from vla_rl.paths import METRICS_FILE
from vla_rl.report.bootstrap import mean_interval
from vla_rl.report.report import read_metrics
from vla_rl.sft import sft
from vla_rl.train import train

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]


def options(name: str, about: str) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The command line of a study, and its settings, `<name>.yaml` beside this file."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="default: those of the YAML file")
    parser.add_argument("--worlds", nargs="+", default=None, help="default: all of the YAML file")
    parser.add_argument("--out", type=Path, default=Path("outputs", "studies", name))
    parser.add_argument("--quick", action="store_true", help="see in minutes that it runs; its numbers mean nothing")
    given = parser.parse_args()
    settings = yaml.safe_load((HERE / f"{name}.yaml").read_text())
    given.seeds = given.seeds or (settings["seeds"][:1] if given.quick else settings["seeds"])
    given.worlds = given.worlds or list(settings["worlds"])[: 1 if given.quick else None]
    given.more = settings["quick"] if given.quick else []
    return given, settings


def run(command: str, folder: Path, *overrides: str) -> Path:
    """`vla-rl demos | sft | train | eval`, unless that was done before; returns its checkpoint, or its folder."""
    last = folder / "checkpoints" / "last"
    done = {"demos": folder, "eval": folder / INFO_FILE}.get(command, folder / "done")
    if not done.exists():
        where = f"demos.path={folder}" if command == "demos" else f"run_dir={folder}"
        loaded = config.load([*overrides, where], command=command)
        {"demos": record, "sft": sft, "train": train, "eval": evaluate_tasks}[command](loaded)
        if command in ("sft", "train"):
            done.touch()
    return last if command in ("sft", "train") else folder


def evaluated(folder: Path) -> list[dict[str, Any]]:
    """What `eval` found of each task, in the order of the run's."""
    return list(json.loads((folder / INFO_FILE).read_text())["per_group"].values())


def paid_and_done(folder: Path) -> dict[str, float]:
    """Of an evaluation: what was paid, and success by the verifier, in percent."""
    rows = [each for each in json.loads((folder / INFO_FILE).read_text())["per_episode"] if not each["invalid"]]
    paid, done = [min(each["sum_reward"], 1.0) for each in rows], [each["success"] for each in rows]
    return {"success": 100 * float(np.mean(done)), "paid": 100 * float(np.mean(paid))}


def auc(truth: Sequence[bool], score: Sequence[float]) -> float | None:
    """How often the score of a true one is above that of a false one, ties counting half; None where one kind lacks."""
    which, scores = np.array(truth, bool), np.array(score)
    pairs = np.sign(scores[which][:, None] - scores[~which])
    return float((pairs + 1).mean() / 2) if pairs.size else None


def logged(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's log."""
    return read_metrics(folder / METRICS_FILE)


def late(folder: Path, key: str, share: float = 0.25) -> float:
    """The mean of a metric over the last share of a training; NaN where it was never told."""
    rows = logged(folder)
    told = [row[key] for row in rows if row["step"] > (1 - share) * rows[-1]["step"] and row.get(key) is not None]
    return float(np.mean(told)) if told else float("nan")


def validations(folder: Path) -> np.ndarray:
    """Of each validation of a training: the step, the episodes so far, and success in percent, float [3, V]."""
    rows, episodes = [], 0.0
    for line in logged(folder):
        episodes = line.get("train/episodes") or episodes
        if line.get("eval/pc_success") is not None:
            rows.append((line["step"], episodes, line["eval/pc_success"]))
    return np.array(rows, float).reshape(-1, 3).T


def interval(values: Sequence[float]) -> dict[str, Any]:
    """The mean over seeds with its 95% bootstrap interval, and the values."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return {"mean": None, "ci95": None, "values": []}
    mean, low, high = mean_interval(known)
    return {"mean": float(mean), "ci95": [float(low), float(high)], "values": known.tolist()}


def write(name: str, given: argparse.Namespace, found: dict[str, Any]) -> Path:
    """`docs/studies/<name>.json`; of a quick look, beside its runs instead."""
    target = given.out / f"{name}.json" if given.quick else ROOT / "docs" / "studies" / f"{name}.json"
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT)
    about = {"seeds": given.seeds, "worlds": given.worlds, "commit": commit.stdout.strip()}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(about | found, indent=2) + "\n")
    return target
