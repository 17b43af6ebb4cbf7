"""What if the world shifts in mid-run? Steps to recover with adaptation and without it, beside training anew.

`python scripts/studies/adaptation.py [--quick]`; settings: adaptation.yaml; numbers: docs/studies/adaptation.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from study import interval, logged, options, run, validations, write

BACK, LATEST = 0.9, 3
"""Success is back once the mean of the latest so many validations has this share of the former one."""


def recovery(told: np.ndarray, after: int, former: float) -> dict[str, float]:
    """The steps from the shift until success was back; all that followed it, where it never was (`back` is 0 then)."""
    steps, episodes, success = told
    later = np.flatnonzero(episodes >= after)
    means = [success[max(at - LATEST + 1, later[0]) : at + 1].mean() for at in later]
    back = [steps[at] for at, mean in zip(later, means, strict=True) if mean >= BACK * former]
    begin, end = max(steps[episodes < after], default=0.0), (back or [steps[-1]])[0]
    return {"steps": float(end - begin), "back": float(bool(back)), "lowest": float(min(means))}


def study(world: dict[str, Any], settings: dict[str, Any], seed: int, out: Path, more: list[str]) -> dict[str, Any]:
    """A shift in mid-run with each of the settings, and a training in the shifted world, from one supervised start."""
    common = [f"experiment={world['experiment']}", f"env={world['env']}", f"seed={seed}", *world["overrides"], *more]
    common.append(f"demos.path={run('demos', out / 'demos', *common, f'demos.seed={1000 * seed}')}")
    common.append(f"train.checkpoint={run('sft', out / 'sft', *common)}")
    stage, told = "env.kwargs.randomise=[{%s, from_episode: %d}]", dict[str, np.ndarray]()
    for name, chosen in {**settings, "anew": []}.items():
        after = 0 if name == "anew" else world["after"]
        run("train", out / name, *common, stage % (world["shift"], after), *chosen)
        told[name] = validations(out / name)
    before = told["nothing"][2][told["nothing"][1] < world["after"]]
    former = float(before[-LATEST:].mean()) if len(before) else float("nan")
    rows = {name: recovery(each, 0 if name == "anew" else world["after"], former) for name, each in told.items()}
    alarms = [line["train/episodes"] - world["after"] for line in logged(out / "adapts") if line.get("shift/alarms")]
    return {**rows, "shift": {"former": former, "noticed_after": float(alarms[0]) if alarms else float("nan")}}


def main() -> None:
    given, settings = options("adaptation", __doc__ or "")
    tables, shares, more = dict[str, Any](), dict[str, list[float]](), [*settings["common"], *given.more]
    for name in given.worlds:
        world = settings["worlds"][name] | ({"after": settings["quick_after"]} if given.quick else {})
        seeds = [study(world, settings["settings"], s, given.out / name / str(s), more) for s in given.seeds]
        rows = seeds[0].items()
        tables[name] = {row: {key: interval([s[row][key] for s in seeds]) for key in keys} for row, keys in rows}
        fell = [each for each in seeds if each["nothing"]["lowest"] < BACK * each["shift"]["former"]]
        shares[name] = [each["adapts"]["steps"] / max(each["anew"]["steps"], 1.0) for each in fell]
    found = {"steps_share": interval([share for each in shares.values() for share in each]), "of_worlds": shares}
    print(write("adaptation", given, {**found, "tables": tables}))


if __name__ == "__main__":
    main()
