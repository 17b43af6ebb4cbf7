"""What may it cost, and what must be kept? Success against cost, a budget kept, KL within its budget, forgetting.

`python scripts/studies/cost.py [--quick] [--worlds skip_checks] [--seeds 1]`; settings: cost.yaml; numbers:
docs/studies/cost.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parts import Parts, interval
from study import Slice, evaluated, late, main, run

LATE = "train/cost", "cost/multiplier", "policy/kl", "policy/held_kl"
MARKS = "budget_error", "kl_error", "forgetting"


def study(part: Slice) -> Iterator[tuple[str, dict[str, Any]]]:
    """All settings of one world from one supervised start, which clones the world and the held task."""
    task, held, limit = part.world["env"], part.world["held"], str(part.world["limit"])
    both = [*part.common, f"env=[{task},{held}]"]
    demos = run("demos", part.out / "demos", *both, f"demos.seed={1000 * part.seed}")
    start = run("sft", part.out / "sft", *both, f"demos.path={demos}")
    cloned = evaluated(run("eval", part.out / "sft_eval", *both, f"eval.checkpoint={start}"))
    yield "cloned", {"success": cloned[0]["pc_success"], "cost": cloned[0]["avg_cost"], "forgetting": 0.0}
    given = [f"demos.path={demos / part.world['demos']}", f"train.checkpoint={start}", f"train.held=[{held}]"]
    for name, chosen in part.settings.items():
        overrides = [each.replace("LIMIT", limit) for each in chosen]
        last = run("train", part.out / name, *part.common, *given, *overrides)
        after = evaluated(run("eval", part.out / f"{name}_eval", *both, f"eval.checkpoint={last}"))
        row = {"success": after[0]["pc_success"], "cost": after[0]["avg_cost"]}
        row["forgetting"] = cloned[1]["pc_success"] - after[1]["pc_success"]
        yield name, row | {metric: late(part.out / name, metric) for metric in LATE}


def summary(parts: Parts) -> dict[str, Any]:
    """Of each world by how much budgets were missed, as a share of them, and how many points the held task lost."""
    found, kl = dict[str, Any](), parts.yaml["kl_budget"]
    for world in parts.worlds():
        rows, limit = list(parts.seeds(world).values()), parts.yaml["worlds"][world]["limit"]
        spent = [row["budget"]["train/cost"] for row in rows if "budget" in row]
        strayed = [row["kl_budget"]["policy/kl"] for row in rows if "kl_budget" in row]
        lost = {name: [row[name]["forgetting"] for row in rows if name in row] for name in ("held_budget", "nothing")}
        found[world] = {
            "budget_error": interval([abs(each - limit) / limit for each in spent if each is not None]),
            "kl_error": interval([max(each / kl - 1, 0.0) for each in strayed if each is not None]),
            "forgetting": interval(lost["held_budget"]),
            "forgetting_without": interval(lost["nothing"]),
        }
    means = {mark: [each[mark]["mean"] for each in found.values()] for mark in MARKS}
    worst = {mark: max((each for each in means[mark] if each is not None), default=None) for mark in MARKS}
    return {**worst, "of_worlds": found, "tables": parts.tables()}


if __name__ == "__main__":
    main("cost", __doc__ or "", study, summary)
