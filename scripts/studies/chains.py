"""Credit in long chains: success against length and distractors, and credit against the true contribution.

`python scripts/studies/chains.py [--quick]`; settings: chains.yaml; numbers: docs/studies/chains.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from study import evaluated, interval, options, run, write

from vla_rl import config
from vla_rl.bench.credit import credited
from vla_rl.bench.critic import judge, summary


def study(world: dict[str, Any], settings: dict[str, Any], seed: int, out: Path, more: list[str]) -> dict[str, Any]:
    """All estimators from one supervised start. Training begins in few ways, so that states occur again; success is
    that of episodes that begin in any way."""
    kwargs = [f"env.kwargs.{key}={value}" for key, value in (settings["kwargs"] | world["kwargs"]).items()]
    common = [*settings["common"], *kwargs, *world.get("overrides", []), f"seed={seed}", *more]
    demos = run("demos", out / "demos", *common, f"demos.seed={1000 * seed}")
    start = run("sft", out / "sft", *common, f"demos.path={demos}")
    anywhere = [*common, "env.kwargs.starts=0"]
    first = evaluated(run("eval", out / "sft_eval", *anywhere, f"eval.checkpoint={start}"))
    rows = {"cloned": {"success": first[0]["pc_success"]}}
    for name, chosen in settings["settings"].items():
        last = run("train", out / name, *common, f"demos.path={demos}", f"train.checkpoint={start}", *chosen)
        after = evaluated(run("eval", out / f"{name}_eval", *anywhere, f"eval.checkpoint={last}"))
        rows[name] = {"success": after[0]["pc_success"], **credited(str(last))}
    asked = config.load([f"eval.checkpoint={out / settings['judged']}", *more], command="eval")
    rows["rollouts"] = {"credit": summary(judge(asked, **settings["rollouts"])).get("contribution", {}).get("resets")}
    return rows


def main() -> None:
    given, settings = options("chains", __doc__ or "")
    settings["rollouts"] = settings["rollouts"] | (settings["quick_rollouts"] if given.quick else {})
    tables, worlds = {}, settings["worlds"]
    for name in given.worlds:
        seeds = [study(worlds[name], settings, s, given.out / name / str(s), given.more) for s in given.seeds]
        rows = seeds[0].items()
        tables[name] = {row: {key: interval([s[row][key] for s in seeds]) for key in keys} for row, keys in rows}
    at = [name for name in given.worlds if name in settings["headline"]] or given.worlds[:1]
    of_all = {row: [tables[name][row] for name in at] for row in tables[at[0]] if row not in ("cloned", "rollouts")}
    success = {row: np.mean([each["success"]["mean"] for each in found]) for row, found in of_all.items()}
    best = max(success, key=lambda row: success[row])
    told = {"best_at_8": best, "success_at_8": success[best], "one_step_at_8": success["one_step"]}
    for mark in ("credit", "critic"):
        told[f"{mark}_correlation"] = {row: [each[mark] for each in found] for row, found in of_all.items()}
    told["credit_correlation"]["rollouts"] = [tables[name]["rollouts"]["credit"] for name in at]
    print(write("chains", given, {**told, "tables": tables}))


if __name__ == "__main__":
    main()
