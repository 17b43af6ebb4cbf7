"""The table of whatever runs there are. Usage: python -m scripts.agents.table [FOLDER] [--steps N]

A row a run: success by N environment steps (95% Wilson interval), the best of the run and where, where 90% was first
reached, and how far the run went. Minutes are of training alone, by the clock and (cpu) of the processor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scripts.agents.run import OUT
from vla_rl.evaluation.outcome import wilson

REACHED = 90.0
"""Percent of success that count as having learned the task."""
LATE = 1.01
"""So many times as many steps still count as as many: several environments together overshoot a little."""
HEAD = "| task | agent | seed | by {steps:,} steps | best | 90% | went to |"


def table(runs: Iterable[dict[str, Any]], steps: int) -> str:
    """Markdown; runs are what `run.py` writes, of any order; those without a measurement are left out."""
    known = sorted((run for run in runs if run["curve"]), key=lambda run: (run["task"], run["agent"], run["label"]))
    rows = [_row(run, steps) for run in sorted(known, key=lambda run: run["seed"])]
    rows.sort(key=lambda row: row[:2])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    head = HEAD.format(steps=steps)
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *lines])


def _row(run: dict[str, Any], steps: int) -> list[str]:
    curve, episodes = run["curve"], run["episodes"]
    early = [point for point in curve if point["env_steps"] <= LATE * steps]
    best = max(curve, key=lambda point: point["pc_success"])
    reached = next((point for point in curve if point["pc_success"] >= REACHED), None)
    name = run["agent"] + (f" ({run['label']})" if run["label"] else "")
    return [
        run["task"],
        name,
        str(run["seed"]),
        _success(early[-1], episodes) + _short_of(early[-1], steps) if early else "-",
        f"{_success(best, episodes)} at {_where(best)}",
        _where(reached) if reached else "not reached",
        _where(curve[-1]),
    ]


def _success(point: dict[str, Any], episodes: int) -> str:
    low, high = wilson(round(point["pc_success"] * episodes / 100), episodes)
    return f"{point['pc_success']:.0f}% ({low:.0f} to {high:.0f})"


def _short_of(point: dict[str, Any], steps: int) -> str:
    """Where a run, or what was measured of it, ends before."""
    return "" if steps <= point["env_steps"] else f" at {point['env_steps']:,.0f}"


def _where(point: dict[str, Any]) -> str:
    return f"{point['env_steps']:,.0f} steps, {point['minutes']:.1f} min (cpu {point['cpu_minutes']:.1f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=OUT, help=f"default: {OUT}")
    parser.add_argument("--steps", type=int, default=40_000, help="that ours takes; default: 40000")
    options = parser.parse_args(arguments)
    files = sorted(options.folder.glob("*.json"))
    if not files:
        raise SystemExit(f"{options.folder}: no runs; bash scripts/bench_agents.sh NAME TASK SEED makes them")
    print(table((json.loads(file.read_text("utf-8")) for file in files), options.steps))


if __name__ == "__main__":
    main()
