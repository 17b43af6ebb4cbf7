"""One policy, many tasks: success of a run of many tasks beside single runs at the same steps a task.

`python scripts/studies/many.py [--quick] [--worlds screens] [--seeds 1]`; settings: many.yaml; numbers:
docs/studies/many.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parts import Parts, mean
from study import Slice, evaluated, main, run

TOGETHER, SOLVED = "together", 80.0
"""The setting of one run of all tasks; and the success in percent of single runs that solve a task."""


def scaled(part: Slice, tasks: int) -> list[str]:
    """Steps of cloning and of training for so many tasks, as many for each."""
    steps = {key: tasks * part.world[key] for key in ("sft.steps", "train.steps")}
    return [] if part.more else [f"{key}={value}" for key, value in steps.items()]


def study(part: Slice) -> Iterator[tuple[str, dict[str, Any]]]:
    """One run of all tasks, and single runs, all from the same demonstrations; of each task its success."""
    tasks = part.world["tasks"]
    every = [*part.common, f"env=[{','.join(tasks)}]"]
    demos = run("demos", part.out / "demos", *every, f"demos.seed={1000 * part.seed}")
    for name in part.settings:
        chosen = {name: tasks[name]} if name in tasks else tasks
        given = [*every, *scaled(part, len(chosen)), f"demos.path={demos}"]
        if name in tasks:
            given += [f"env={name}", f"demos.path={demos / tasks[name]}"]
        start = run("sft", part.out / f"{name}_sft", *given)
        last = run("train", part.out / name, *given, f"train.checkpoint={start}")
        row = {}
        for key, folder, policy in (("cloned", f"{name}_sft_eval", start), ("success", f"{name}_eval", last)):
            rates = evaluated(run("eval", part.out / folder, *given, f"eval.checkpoint={policy}"))
            row[key] = {task: told["pc_success"] for task, told in zip(chosen, rates, strict=True)}
        yield name, row


def summary(parts: Parts) -> dict[str, Any]:
    """By how many points single runs are better at each task that they solve, and where that is worst."""
    gaps = dict[str, dict[str, float | None]]()
    for world in parts.worlds():
        rows = [rows for rows in parts.seeds(world).values() if TOGETHER in rows]
        for task in parts.yaml["worlds"][world]["tasks"]:
            pairs = [(r[task]["success"][task], r[TOGETHER]["success"][task]) for r in rows if task in r]
            if (mean([alone for alone, _ in pairs]) or 0.0) >= SOLVED:
                gaps.setdefault(world, {})[task] = mean([alone - both for alone, both in pairs])
    counted = [gap for world in gaps if parts.yaml["worlds"][world]["counts"] for gap in gaps[world].values()]
    return {"worst_gap": max(counted, default=None), "gaps": gaps, "tables": parts.tables()}


if __name__ == "__main__":
    main("many", __doc__ or "", study, summary)
