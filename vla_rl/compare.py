"""`vla-rl compare`: several runs beside one another, on one page."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vla_rl.report import comparison
from vla_rl.report.groups import Estimate, Group, difference, grouped, success, summary
from vla_rl.report.runs import read_runs

PAGE = "compare.html"


def compare(
    folders: Sequence[Path], out: Path | None = None, metrics: Sequence[str] = (), as_json: bool = False
) -> Path:
    """Write the page and print a table, or one JSON object; returns the page's path.

    Args:
        folders: of runs, of evaluations, of sweeps.
        out: the page, or a folder for it. Default: `outputs/compare/<date>/<time>-<4 letters>/compare.html`.
        metrics: further keys of `metrics.jsonl` to draw.

    Raises:
        ValueError: a folder holds no run; there are none.
    """
    runs = read_runs(folders)
    if not runs:
        raise ValueError("compare: none of these runs has begun; give the folders of runs, evaluations or sweeps")
    groups = grouped(runs)
    target = _target(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(comparison.page(groups, _title(groups), metrics, target.parent), "utf-8")
    if as_json:
        keys = [shown[0] for shown in comparison.SHOWN]
        print(json.dumps(summary(groups, [*keys, *metrics]) | {"page": str(target)}, default=str))
    else:
        _print(groups)
        print(f"page: {target}")
    return target


def _target(out: Path | None) -> Path:
    if out is None:
        moment = f"{time.strftime('%H-%M-%S')}-{secrets.token_hex(2)}"
        return Path("outputs", "compare", time.strftime("%Y-%m-%d"), moment, PAGE)
    return out if out.suffix == ".html" else out / PAGE


def _title(groups: Sequence[Group]) -> str:
    names = sorted({str(group.settings.get("env.id", "")) for group in groups} - {""})
    return f"Runs on {', '.join(names)}" if names else "Runs"


def _print(groups: Sequence[Group]) -> None:
    """Success of each group, and its difference to the first."""
    table = Table(title="runs by settings", title_justify="left")
    table.add_column("settings", overflow="fold", min_width=20)
    for name in ("seeds", "success, % (95% interval)", "difference", "over"):
        table.add_column(name, justify="right")
    for group in groups:
        seeds = ", ".join("?" if seed is None else str(seed) for seed in group.seeds)
        found, beside = success(group), difference(groups[0], group) if group.number else None
        table.add_row(group.name, seeds, _cell(found, ""), _cell(beside, "+"), found.by if found else "")
    Console().print(table)


def _cell(found: Estimate | None, sign: str) -> str:
    """A value and its interval as they are printed; nothing of none."""
    return f"{found.value:{sign}.1f} ({found.low:{sign}.1f} to {found.high:{sign}.1f})" if found else ""
