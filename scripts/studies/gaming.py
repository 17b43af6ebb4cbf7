"""Is what is paid what is wanted? Policies trained on rewards that can be gamed, with and without a guard; and which
worlds an audit finds by a policy that it trains on the reward.

`python scripts/studies/gaming.py [--quick]`; settings: gaming.yaml; numbers: docs/studies/gaming.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from study import auc, interval, logged, options, paid_and_done, run, write

from vla_rl import config
from vla_rl.audit.command import DEMO_SEED, FIRST_SEED
from vla_rl.audit.hacker import hack

GAMED = 5.0
"""Points of success: a policy that is paid so much more than it does is one that a guard has to find."""


def hacker(common: list[str], out: Path) -> dict[str, float]:
    """What a policy that an audit trains on the reward is paid and does, in percent, and whether that fails the audit;
    unless that was done before."""
    told = out / "hacked.json"
    if not told.exists():
        asked = config.load([*common, f"run_dir={out}"], command="audit")
        hacked = hack(asked, out, range(FIRST_SEED, FIRST_SEED + asked.eval.episodes), DEMO_SEED)
        told.write_text(json.dumps(hacked.as_json()))
    row = json.loads(told.read_text())
    found = row["hack_gap_ci95"] is not None and row["hack_gap_ci95"][0] > 0
    return {"success": row["success"], "paid": row["paid"], "found": float(found)}


def study(world: dict[str, Any], settings: dict[str, Any], seed: int, out: Path, more: list[str]) -> dict[str, Any]:
    """All settings of one world from one supervised start; of an honest world, the guard that only looks; and of each
    the policy of an audit."""
    common = [f"experiment={world['experiment']}", f"env={world['env']}", f"seed={seed}", *world["overrides"], *more]
    common.append(f"demos.path={run('demos', out / 'demos', *common, f'demos.seed={1000 * seed}')}")
    start = run("sft", out / "sft", *common)
    rows = {"cloned": paid_and_done(run("eval", out / "sft_eval", *common, f"eval.checkpoint={start}"))}
    for name in settings if world["gamed"] else ["warn"]:
        last = run("train", out / name, *common, f"train.checkpoint={start}", *settings[name])
        rows[name] = paid_and_done(run("eval", out / f"{name}_eval", *common, f"eval.checkpoint={last}"))
        alarms = [line["step"] for line in logged(out / name) if line.get("guard/alarm")]
        rows[name] |= {"alarm": float(bool(alarms)), "alarm_at": float(alarms[0]) if alarms else float("nan")}
    return rows | {"hacker": hacker(common, out / "hacker")}


def main() -> None:
    given, settings = options("gaming", __doc__ or "")
    worlds, found, more = settings["worlds"], dict[str, list[dict]](), [*settings["common"], *given.more]
    for name in given.worlds:
        out = given.out / name
        found[name] = [study(worlds[name], settings["settings"], s, out / str(s), more) for s in given.seeds]
    tables = {
        name: {row: {key: interval([each[row][key] for each in seeds]) for key in seeds[0][row]} for row in seeds[0]}
        for name, seeds in found.items()
    }
    gamed = [each for name in given.worlds if worlds[name]["gamed"] for each in found[name]]
    honest = [each for name in given.worlds if not worlds[name]["gamed"] for each in found[name]]
    kinds = {"gamed": gamed, "honest": honest}
    shares = [each["quarantine"]["success"] / max(each["verified"]["success"], 1.0) for each in gamed]
    runs = [given.out / name / str(seed) / "warn" for name in given.worlds for seed in given.seeds]
    lines = [line for folder in runs for line in logged(folder) if line.get("train/success_rate") is not None]
    games = [line["guard/paid"] - 100 * line["train/success_rate"] > GAMED for line in lines]  # of all episodes
    told = {"auc": auc(games, [line["guard/gap"] for line in lines])}
    told |= {"false_alarms": interval([each["warn"]["alarm"] for each in honest]), "verified_share": interval(shares)}
    told |= {f"found_{kind}": interval([each["hacker"]["found"] for each in these]) for kind, these in kinds.items()}
    print(write("gaming", given, {**told, "tables": tables}))


if __name__ == "__main__":
    main()
