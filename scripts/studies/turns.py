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
    """Success in percent of each setting on one world's demonstrations, as cloned and after RL."""
    demos = run("demos", part.out / "demos", *part.common, f"demos.seed={1000 * part.seed}")
    for name, chosen in part.settings.items():
        given = [*part.common, f"demos.path={demos}", *part.yaml["starts"][chosen["start"]]]
        begin = run("sft", part.out / f"{chosen['start']}_sft", *given)
        last = run("train", part.out / name, *given, f"train.checkpoint={begin}", *chosen["train"])
        row = {}
        for way, checkpoint in {"cloned": begin, "success": last}.items():
            told = run("eval", part.out / f"{checkpoint.parents[1].name}_eval", *given, f"eval.checkpoint={checkpoint}")
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
