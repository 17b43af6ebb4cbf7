"""When to call which tool? One policy that reads the prices: regret beside the exact rule, at every price.

`python scripts/studies/tools.py [--quick]`; settings: tools.yaml; numbers: docs/studies/tools.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study import evaluated, interval, options, run, write

from sims.gui.decisions import RULES
from sims.gui.tasks.desk import Desk, best_rule, rule_regrets

GOAL = 0.05
TOLD = {"success": "pc_success"} | {name: f"avg_{name}" for name in ("regret", "calls", "over_calls", "under_calls")}


def study(settings: dict[str, Any], asked: dict[str, list[str]], seed: int, out: Path, more: list[str]) -> Any:
    """What each setting's policy, and the clone that it begins with, does in all that is `asked`: overrides by name."""
    world, starts = settings["worlds"]["desk"], settings["starts"]
    common = [f"experiment={world['experiment']}", f"env={world['env']}", f"seed={seed}", *world["overrides"], *more]
    common.append(f"demos.path={run('demos', out / 'demos', *common, f'demos.seed={1000 * seed}')}")
    last = {start: run("sft", out / start, *common, *reads) for start, reads in starts.items()}
    for name, each in settings["settings"].items():
        begin = f"train.checkpoint={last[each['start']]}"
        last[name] = run("train", out / name, *common, *starts[each["start"]], begin, *each["train"])
    rows = dict[str, dict[str, dict[str, float]]]()
    for name, where in ((name, where) for name in last for where in asked):
        folder = run("eval", out / f"{name}_{where}", *common, *asked[where], f"eval.checkpoint={last[name]}")
        rows.setdefault(name, {})[where] = {key: evaluated(folder)[0][of] for key, of in TOLD.items()}
    return rows


def main() -> None:
    given, settings = options("tools", __doc__ or "")
    if given.quick:
        settings["prices"], settings["settings"] = settings["prices"][:1], {"value": settings["settings"]["value"]}
    asked, tasks = settings["conditions"], {"budget": Desk(budgeted=1.0), "unseen": Desk()}
    for price in settings["prices"]:
        asked[f"price_{price}"], tasks[f"price_{price}"] = [f"env.kwargs.prices=[{price}]"], Desk(prices=(price,))
    seeds = [study(settings, asked, seed, given.out / str(seed), given.more) for seed in given.seeds]
    tables = {
        name: {where: {key: interval([each[name][where][key] for each in seeds]) for key in TOLD} for where in asked}
        for name in seeds[0]
    }
    named = {"never_call": RULES[0], "always_call": RULES[-1], "fixed_rule": best_rule(Desk())}
    rules = {name: {where: rule_regrets(task)[rule] for where, task in tasks.items()} for name, rule in named.items()}
    goals = {where: GOAL if lost <= GOAL else min(GOAL, lost / 2) for where, lost in rules["fixed_rule"].items()}
    regret = {where: told["regret"]["mean"] for where, told in tables["value"].items()}
    reached = {where: regret[where] <= goals[where] for where in asked}
    told = {"worst_regret": max(regret.values()), "regret": regret, "goals": goals, "reached": reached}
    print(write("tools", given, {**told, "rules": rules, "tables": tables}))


if __name__ == "__main__":
    main()
