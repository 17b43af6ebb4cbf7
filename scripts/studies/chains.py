"""Credit in long chains: success against length and distractors, and credit against the true contribution.

`python scripts/studies/chains.py [--quick] [--worlds k8] [--seeds 1]`; settings: chains.yaml; numbers:
docs/studies/chains.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parts import Parts, mean
from study import Slice, evaluated, main, run

from vla_rl import config
from vla_rl.bench.credit import credited
from vla_rl.bench.critic import judge
from vla_rl.bench.critic import summary as summed_up

CLONED, JUDGED, KEYS = "cloned", "one_step", ("success", "credit", "critic")
"""A row that is no setting; the setting whose decisions are rolled out, to see what resets tell; a row's numbers."""


def study(part: Slice) -> Iterator[tuple[str, dict[str, Any]]]:
    """All estimators from one supervised start. Demonstrations and the episodes whose success counts begin in any way,
    however training begins."""
    kwargs = part.yaml["kwargs"] | part.world["kwargs"]
    common = [*part.common, *(f"env.kwargs.{key}={value}" for key, value in kwargs.items())]
    anywhere = [*common, "env.kwargs.starts=0"]
    demos = run("demos", part.out / "demos", *anywhere, f"demos.seed={1000 * part.seed}")
    begin = run("sft", part.out / "sft", *anywhere, f"demos.path={demos}")
    first = evaluated(run("eval", part.out / "sft_eval", *anywhere, f"eval.checkpoint={begin}"))
    yield CLONED, {"success": first[0]["pc_success"]}
    for name, chosen in part.settings.items():
        last = run("train", part.out / name, *common, f"demos.path={demos}", f"train.checkpoint={begin}", *chosen)
        after = evaluated(run("eval", part.out / f"{name}_eval", *anywhere, f"eval.checkpoint={last}"))
        row = {"success": after[0]["pc_success"], **credited(str(last))}
        if name == JUDGED:
            asked = config.load([f"eval.checkpoint={last}", *part.more], command="eval")
            rollouts = part.yaml["quick_rollouts" if part.more else "rollouts"]
            row["rollouts"] = summed_up(judge(asked, **rollouts)).get("contribution", {}).get("resets")
        yield name, row


def summary(parts: Parts) -> dict[str, Any]:
    """Means over the worlds of eight steps that there are; of the critic, that of the setting that succeeds most."""
    tables = parts.tables()
    at = [tables[world] for world in tables if world in parts.yaml["headline"]]
    rows = dict.fromkeys(row for table in at for row in table if row != CLONED)
    of = {row: {key: mean([each[row][key]["mean"] for each in at if row in each]) for key in KEYS} for row in rows}
    best = max(of, key=lambda row: of[row]["success"] or 0.0, default="")
    told = {"success_at_8": of.get(best, {}).get("success"), "one_step_at_8": of.get(JUDGED, {}).get("success")}
    told["credit_correlation"] = mean([table[JUDGED]["rollouts"]["mean"] for table in at if JUDGED in table])
    told["critic_correlation"] = of.get(best, {}).get("critic")
    return {**told, "best": best or None, "at_8": of, "tables": tables}


if __name__ == "__main__":
    main("chains", __doc__ or "", study, summary)
