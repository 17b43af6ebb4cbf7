"""What may it cost, and what must be kept? Success against cost, a budget kept, KL within its budget, forgetting.

`python scripts/studies/cost.py [--quick]`; the settings are in cost.yaml, the numbers go to docs/studies/cost.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study import evaluated, interval, late, options, run, write

LATE = "train/cost", "cost/multiplier", "policy/kl", "policy/held_kl"


def study(world: dict[str, Any], settings: dict[str, Any], seed: int, out: Path, more: list[str]) -> dict[str, Any]:
    """All settings of one world from one supervised start, which clones the world and the held task."""
    task, held = world["env"], world["held"]
    common = [f"experiment={world['experiment']}", f"seed={seed}", *world["overrides"], *more]
    both = [*common, f"env=[{task},{held}]"]
    demos = run("demos", out / "demos", *both, f"demos.seed={1000 * seed}")
    start = run("sft", out / "sft", *both, f"demos.path={demos}")
    cloned = evaluated(run("eval", out / "sft_eval", *both, f"eval.checkpoint={start}"))
    alone = [*common, f"env={task}", f"train.held=[{held}]", f"train.checkpoint={start}"]
    alone.append(f"demos.path={demos / world['demos']}")
    rows = {"cloned": {"success": cloned[0]["pc_success"], "cost": cloned[0]["avg_cost"], "forgetting": 0.0}}
    for name, chosen in settings.items():
        last = run("train", out / name, *alone, *[each.replace("LIMIT", str(world["limit"])) for each in chosen])
        after = evaluated(run("eval", out / f"{name}_eval", *both, f"eval.checkpoint={last}"))
        rows[name] = {
            "success": after[0]["pc_success"],
            "cost": after[0]["avg_cost"],
            "forgetting": cloned[1]["pc_success"] - after[1]["pc_success"],
            **{metric: late(out / name, metric) for metric in LATE},
        }
    return rows


def main() -> None:
    given, settings = options("cost", __doc__ or "")
    tables, found, kl = {}, dict[str, Any](), settings["kl_budget"]
    for name in given.worlds:
        world, limit = settings["worlds"][name], settings["worlds"][name]["limit"]
        seeds = [study(world, settings["settings"], s, given.out / name / str(s), given.more) for s in given.seeds]
        rows = seeds[0].items()
        tables[name] = {row: {key: interval([s[row][key] for s in seeds]) for key in keys} for row, keys in rows}
        found[name] = {
            "budget_error": interval([abs(each["budget"]["train/cost"] - limit) / limit for each in seeds]),
            "kl_error": interval([max(each["kl_budget"]["policy/kl"] / kl - 1, 0.0) for each in seeds]),
            "forgetting": tables[name]["held_budget"]["forgetting"],
            "forgetting_without": tables[name]["nothing"]["forgetting"],
        }
    marks = ("budget_error", "kl_error", "forgetting")  # of the world where it is worst
    worst = {key: max((each[key]["mean"] for each in found.values()), key=lambda x: x or 0.0) for key in marks}
    print(write("cost", given, {**worst, "of_worlds": found, "tables": tables}))


if __name__ == "__main__":
    main()
