"""What if the world shifts in mid-run? Steps to recover with adaptation and without it, beside training anew.

`python scripts/studies/adaptation.py [--quick] [--worlds camera] [--seeds 1]`; settings: adaptation.yaml; numbers:
docs/studies/adaptation.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from parts import Parts, interval, mean, summed
from study import Slice, logged, main, run, start, validations

BACK, LATEST = 0.9, 3
"""Success is back once the mean of the latest so many validations has this share of the former one."""


def study(part: Slice) -> Iterator[tuple[str, dict[str, Any]]]:
    """A shift in mid-run with each setting, and a training in the shifted world (`anew`), from one supervised start."""
    given, after = start(part), part.yaml["quick_after"] if part.more else part.world["after"]
    for name, chosen in part.settings.items():
        begins, shift = 0 if name == "anew" else after, part.world["shift"]
        run("train", part.out / name, *given, f"env.kwargs.randomise=[{{{shift}, from_episode: {begins}}}]", *chosen)
        alarms = [line["train/episodes"] - begins for line in logged(part.out / name) if line.get("shift/alarms")]
        row = {"begins": begins, "noticed_after": (alarms or [None])[0], "validations": validations(part.out / name)}
        yield name, row


def recovery(row: dict[str, Any], former: float) -> dict[str, float]:
    """The steps from the shift until success was back; all that followed it, where it never was (`back` is 0 then)."""
    steps, episodes, success = np.array(row["validations"], float).reshape(-1, 3).T
    later = np.flatnonzero(episodes >= row["begins"])
    means = [success[max(at - LATEST + 1, later[0]) : at + 1].mean() for at in later]
    back = [steps[at] for at, each in zip(later, means, strict=True) if each >= BACK * former]
    begin, end = max(steps[episodes < row["begins"]], default=0.0), (back or [steps[-1]])[0]
    return {"steps": float(end - begin), "back": float(bool(back)), "lowest": float(min(means, default=np.nan))}


def summary(parts: Parts) -> dict[str, Any]:
    """Steps to recover as a share of those of training anew, of the seeds whose success fell where nothing was done."""
    tables, shares = dict[str, Any](), dict[str, list[float]]()
    for world in parts.worlds():
        found = []
        for rows in (rows for rows in parts.seeds(world).values() if "nothing" in rows):
            before = [told[2] for told in rows["nothing"]["validations"] if told[1] < rows["nothing"]["begins"]]
            former = mean(before[-LATEST:]) or 0.0
            each = {name: recovery(row, former) | {"noticed_after": row["noticed_after"]} for name, row in rows.items()}
            found.append(each | {"former": {"success": former}})
        fell = [each for each in found if each["nothing"]["lowest"] < BACK * each["former"]["success"]]
        both = [each for each in fell if "adapts" in each and "anew" in each]
        shares[world] = [each["adapts"]["steps"] / max(each["anew"]["steps"], 1.0) for each in both]
        tables[world] = summed(found)
    told = interval([share for each in shares.values() for share in each])
    return {"steps_share": told["mean"], "ci95": told["ci95"], "of_worlds": shares, "tables": tables}


if __name__ == "__main__":
    main("adaptation", __doc__ or "", study, summary)
