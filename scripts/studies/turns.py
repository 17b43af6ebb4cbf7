"""How far is one? Cloned and trained policies on tasks of many turns, with and without a memory of them.

`python scripts/studies/turns.py [--quick] [--worlds flow] [--seeds 1]`; settings: turns.yaml; numbers:
docs/studies/turns.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parts import Parts
from study import Slice, evaluated, main, run


def study(part: Slice) -> Iterator[tuple[str, dict[str, Any]]]:
    """Success in percent of each kind of policy on one world's demonstrations: as cloned, and after each way of RL."""
    demos = run("demos", part.out / "demos", *part.common, f"demos.seed={1000 * part.seed}")
    for name, chosen in part.settings.items():
        given = [*part.common, f"demos.path={demos}", *chosen["policy"]]
        start = run("sft", part.out / f"{name}_sft", *given)
        last = {"cloned": start}
        for way, keys in chosen["train"].items():
            last[way] = run("train", part.out / f"{name}_{way}", *given, f"train.checkpoint={start}", *keys)
        row = {}
        for way, checkpoint in last.items():
            told = run("eval", part.out / f"{name}_{way}_eval", *given, f"eval.checkpoint={checkpoint}")
            row[way] = evaluated(told)[0]["pc_success"]
        yield name, row


def summary(parts: Parts) -> dict[str, Any]:
    """The success of the best policy of each world, and which that is."""
    tables, found, best = parts.tables(), dict[str, Any](), dict[str, Any]()
    for world in parts.yaml["worlds"]:
        rows = tables.get(world, {}).items()
        means = {f"{row}, {way}": each["mean"] or 0.0 for row, ways in rows for way, each in ways.items()}
        best[world] = max(means, key=means.__getitem__, default=None)
        found[world] = means.get(best[world])
    return {**found, "best": best, "tables": tables}


if __name__ == "__main__":
    main("turns", __doc__ or "", study, summary)
