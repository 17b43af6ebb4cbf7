"""What the recipes that ship reach, task by task; and what parts of them are worth.

`python scripts/studies/recipes.py [--quick] [--worlds push] [--seeds 1] [--settings recipe]`; settings: recipes.yaml;
numbers: docs/studies/recipes.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parts import Parts, mean
from study import Slice, evaluated, logged, main, run

RECIPE = "recipe"


def study(part: Slice) -> Iterator[tuple[str, dict[str, Any]]]:
    """The commands of the quick start with each setting, from the same demonstrations where there are any: success in
    percent on held-out seeds as cloned, after RL acting greedily, and by the best of 16 by Q; minutes of training."""
    common = [*part.common, *([f"env.kwargs.name={part.world['page']}"] if "page" in part.world else [])]
    for name, chosen in part.settings.items():
        given = [*common, *chosen, demonstrations(part, common, chosen, name)]
        start = run("sft", part.out / f"{name}_sft", *given)
        last = run("train", part.out / name, *given, f"train.checkpoint={start}")
        asked = {"cloned": (start, 0), "success": (last, 0), "best_of_16": (last, 16)}
        row = {}
        for way, (policy, samples) in asked.items():
            of = [f"eval.checkpoint={policy}", f"eval.best_of={samples}"]
            row[way] = evaluated(run("eval", part.out / f"{name}_{way}_eval", *given, *of))[0]["pc_success"]
        lines = logged(part.out / name)
        yield name, row | {"steps": lines[-1]["step"], "minutes": (lines[-1]["time"] - lines[0]["time"]) / 60}


def demonstrations(part: Slice, common: list[str], chosen: list[str], name: str) -> str:
    """Those that all settings share, unless one changes what is seen; of a world that has none, that."""
    if not part.world.get("demos", True):
        return "demos.episodes=0"
    seen = [each for each in chosen if each.startswith("env.")]
    folder = part.out / (f"{name}_demos" if seen else "demos")
    return f"demos.path={run('demos', folder, *common, *seen, f'demos.seed={1000 * part.seed}')}"


def summary(parts: Parts) -> dict[str, Any]:
    """How many of the tasks reach their goals, and how far the others are from theirs."""
    found, goals = dict[str, float](), {name: world["goal"] for name, world in parts.yaml["worlds"].items()}
    for world in parts.worlds():
        success = mean([rows[RECIPE]["success"] for rows in parts.seeds(world).values() if RECIPE in rows])
        if success is not None:
            found[world] = success
    short = {world: goals[world] - success for world, success in found.items() if success < goals[world]}
    measured = len(found) or None
    reached = None if measured is None else measured - len(short)
    return {"measured": measured, "reached": reached, "short": short, "goals": goals, "tables": parts.tables()}


if __name__ == "__main__":
    main("recipes", __doc__ or "", study, summary)
