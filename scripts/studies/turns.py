"""How far is one? Cloned and trained policies on tasks of many turns, with and without a memory of them.

`python scripts/studies/turns.py [--quick]`; the settings are in turns.yaml, the numbers go to docs/studies/turns.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study import evaluated, interval, options, run, write


def study(world: dict[str, Any], settings: dict[str, Any], seed: int, out: Path, more: list[str]) -> dict[str, float]:
    """Success in percent of all settings on one world's demonstrations: as cloned, and after RL."""
    common = [f"experiment={world['experiment']}", f"env={world['env']}", f"seed={seed}", *world["overrides"], *more]
    common.append(f"demos.path={run('demos', out / 'demos', *common, f'demos.seed={1000 * seed}')}")
    found = {}
    for name, chosen in settings.items():
        start = run("sft", out / f"{name}_sft", *common, *chosen["policy"])
        last = {f"{name}_cloned": start}
        for way, keys in chosen["train"].items():
            trained = run(
                "train", out / f"{name}_{way}", *common, *chosen["policy"], f"train.checkpoint={start}", *keys
            )
            last[f"{name}_{way}"] = trained
        for each, checkpoint in last.items():
            told = run("eval", out / f"{each}_eval", *common, *chosen["policy"], f"eval.checkpoint={checkpoint}")
            found[each] = evaluated(told)[0]["pc_success"]
    return found


def main() -> None:
    given, settings = options("turns", __doc__ or "")
    tables = {}
    for name in given.worlds:
        world, out = settings["worlds"][name], given.out / name
        seeds = [study(world, settings["settings"], s, out / str(s), given.more) for s in given.seeds]
        tables[name] = {row: interval([each[row] for each in seeds]) for row in seeds[0]}
    best = {name: max(table.values(), key=lambda row: row["mean"] or 0.0) for name, table in tables.items()}
    print(write("turns", given, {**best, "tables": tables}))


if __name__ == "__main__":
    main()
