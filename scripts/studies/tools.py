"""When to call which tool? One policy that reads the prices: regret beside the exact rule, at every price.

`python scripts/studies/tools.py [--quick] [--settings value] [--seeds 1]`; settings: tools.yaml; numbers:
docs/studies/tools.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parts import Parts
from study import Slice, evaluated, main, run

from sims.gui.decisions import RULES
from sims.gui.tasks.desk import Desk, best_rule, rule_regrets

GOAL, JUDGED = 0.05, "value"
TOLD = {"success": "pc_success"} | {name: f"avg_{name}" for name in ("regret", "calls", "over_calls", "under_calls")}


def conditions(yaml: dict[str, Any], quick: bool = False) -> dict[str, tuple[list[str], Desk]]:
    """What policies are evaluated in, by name: overrides, and the task."""
    tasks = {"budget": Desk(budgeted=1.0), "unseen": Desk()}
    found = {name: (overrides, tasks[name]) for name, overrides in yaml["conditions"].items()}
    for price in yaml["prices"][: 1 if quick else None]:
        found[f"price_{price}"] = [f"env.kwargs.prices=[{price}]"], Desk(prices=(price,))
    return found


def study(part: Slice) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each setting's policy, and the clone that it begins with, does in all conditions."""
    common, asked = part.common, conditions(part.yaml, bool(part.more))
    common.append(f"demos.path={run('demos', part.out / 'demos', *common, f'demos.seed={1000 * part.seed}')}")
    for name, each in part.settings.items():
        reads = part.yaml["starts"][each["start"]]
        start = run("sft", part.out / each["start"], *common, *reads)
        last = run("train", part.out / name, *common, *reads, f"train.checkpoint={start}", *each["train"])
        for row, checkpoint in ((each["start"], start), (name, last)):
            numbers = {}
            for where, (overrides, _) in asked.items():
                given = [*common, *overrides, f"eval.checkpoint={checkpoint}"]
                told = evaluated(run("eval", part.out / f"{row}_{where}", *given))[0]
                numbers[where] = {key: told[of] for key, of in TOLD.items()}
            yield row, numbers


def summary(parts: Parts) -> dict[str, Any]:
    """The regret of the policy that learns what calls are worth, where it is worst, beside that of fixed rules."""
    tables, tasks = parts.tables(), {name: task for name, (_, task) in conditions(dict(parts.yaml)).items()}
    named = {"never_call": RULES[0], "always_call": RULES[-1], "fixed_rule": best_rule(Desk())}
    rules = {name: {where: rule_regrets(task)[rule] for where, task in tasks.items()} for name, rule in named.items()}
    goals = {where: GOAL if lost <= GOAL else min(GOAL, lost / 2) for where, lost in rules["fixed_rule"].items()}
    regret = {where: told["regret"]["mean"] for where, told in tables.get("desk", {}).get(JUDGED, {}).items()}
    told = {"worst_regret": max(regret.values(), default=None), "regret": regret, "goals": goals, "rules": rules}
    return {**told, "reached": {where: regret[where] <= goals[where] for where in regret}, "tables": tables}


if __name__ == "__main__":
    main("tools", __doc__ or "", study, summary)
