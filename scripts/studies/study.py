"""What all studies do: the commands of a run as functions, settings from a YAML file, and parts that add up.

`python scripts/studies/<study>.py` makes what is missing of a study, and sums up all that there is. `--worlds`,
`--seeds` and `--settings` make a part of it, on any machine: see `parts`.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import parts
import yaml
from parts import OtherSettingsError, Parts

from vla_rl import config
from vla_rl.audit.command import DEMO_SEED, FIRST_SEED
from vla_rl.audit.hacker import hack
from vla_rl.data.record import record
from vla_rl.eval import evaluate_tasks
from vla_rl.evaluation.eval_info import INFO_FILE
from vla_rl.paths import METRICS_FILE
from vla_rl.registry import nearest
from vla_rl.report.report import read_metrics
from vla_rl.sft import sft
from vla_rl.train import train

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Slice:
    """One world and one seed of a study: `settings` are those to be made, by name, of its `yaml`. Runs lie in `out`;
    `more` are overrides of a quick look."""

    name: str
    seed: int
    settings: dict[str, Any]
    yaml: dict[str, Any]
    out: Path
    more: list[str]

    @property
    def world(self) -> dict[str, Any]:
        return self.yaml["worlds"][self.name]

    @property
    def common(self) -> list[str]:
        """The overrides that all runs begin with: what the file says of all worlds, and of this one."""
        world = self.world
        chosen = [f"{key}={world[key]}" for key in ("experiment", "env") if key in world]
        return [*chosen, f"seed={self.seed}", *self.yaml.get("common", []), *world.get("overrides", []), *self.more]


Study = Callable[[Slice], Iterator[tuple[str, dict[str, Any]]]]
"""Makes the rows of a slice, each a name and its numbers. A row that is no setting is what several of them share."""
Summary = Callable[[Parts], dict[str, Any]]
"""The headline numbers of all parts that there are, and whatever else is to be told."""


def main(name: str, about: str, study: Study, summary: Summary) -> None:
    """A study's command: make what is asked for and not there yet, row by row, and sum up all parts."""
    given, settings = options(name, about)
    folder = given.out if given.quick else parts.STUDIES
    all_parts = Parts(name, folder, settings, settings["quick"] if given.quick else ())
    for _ in () if given.summary else make(all_parts, given, study):
        sum_up(all_parts, summary)
    print(sum_up(all_parts, summary))


def sum_up(all_parts: Parts, summary: Summary) -> Path:
    """Write the summary of all parts that there are."""
    told = {"study": all_parts.name, **summary(all_parts), **all_parts.about()}
    target = all_parts.folder / f"{all_parts.name}.json"
    parts.write_whole(target, json.dumps(told, indent=1) + "\n")
    return target


def make(all_parts: Parts, given: argparse.Namespace, study: Study) -> Iterator[str]:
    """Make those of the rows asked for that no part has; yields each one's name, once it is in its part.

    Raises:
        SystemExit: parts that are there were made with other settings, and are not to be replaced.
    """
    asked = [(world, seed) for world in given.worlds for seed in given.seeds]
    parts.made_by()  # the code that runs is that of now, whatever is changed meanwhile
    try:
        wanted = [all_parts.wanted(*each, given.settings, given.replace) for each in asked]
    except OtherSettingsError as error:
        raise SystemExit(str(error)) from error
    for (world, seed), rows in zip(asked, wanted, strict=True):
        chosen = {row: all_parts.yaml["settings"][row] for row in rows}
        out, begun = given.out / world / str(seed), seconds()
        for row, numbers in study(Slice(world, seed, chosen, dict(all_parts.yaml), out, given.more)) if rows else ():
            there = all_parts.read(world, seed).keys() - all_parts.others(world, seed).keys()
            if row in chosen or row not in there:
                all_parts.add(world, seed, row, numbers, {key: now - begun[key] for key, now in seconds().items()})
                yield row
            begun = seconds()


def seconds() -> dict[str, float]:
    """What the clock says, and what this process and those that it has waited for had of processors."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"seconds": time.perf_counter(), "cpu_seconds": sum(each.ru_utime + each.ru_stime for each in used)}


def options(name: str, about: str) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The command line of a study, and its settings, `<name>.yaml` beside this file."""
    settings = yaml.safe_load((HERE / f"{name}.yaml").read_text("utf-8"))
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="default: those of the YAML file")
    parser.add_argument("--worlds", nargs="+", default=None, help="default: all of the YAML file")
    parser.add_argument("--settings", nargs="+", default=None, help="default: all of the YAML file")
    parser.add_argument("--summary", action="store_true", help="run nothing; sum up the parts that there are")
    parser.add_argument(
        "--replace", action="store_true", help="make anew what parts have, and drop other settings' rows"
    )
    parser.add_argument("--out", type=Path, default=None, help="where runs lie; default: outputs/studies/<study>")
    parser.add_argument("--quick", action="store_true", help="see in minutes that it runs; its numbers mean nothing")
    given = parser.parse_args()
    for key in ("worlds", "settings"):
        for each in getattr(given, key) or ():
            if each not in settings[key]:
                parser.error(f"--{key}: {each!r} is none of {name}.yaml; {nearest(each, settings[key])}")
    given.seeds = given.seeds or (settings["seeds"][:1] if given.quick else settings["seeds"])
    given.worlds = given.worlds or list(settings["worlds"])[: 1 if given.quick else None]
    given.settings = given.settings or list(settings["settings"])
    if given.out is None:
        given.out = Path("outputs", "studies", *(["quick"] if given.quick else []), name)
        if given.quick:
            shutil.rmtree(given.out, ignore_errors=True)  # of an earlier look
    given.more = settings["quick"] if given.quick else []
    return given, settings


def run(command: str, folder: Path, *overrides: str) -> Path:
    """`vla-rl demos | sft | train | eval`; returns its checkpoint, or its folder.

    What was done before with the same overrides is not done again, and a training that was interrupted goes on from its
    last checkpoint. What was made with other overrides is removed first.
    """
    last, done = folder / "checkpoints" / "last", folder.parent / f".{folder.name}.done"
    began = folder.parent / f".{folder.name}.began"
    asked = json.dumps([command, *overrides])
    if not (done.exists() and done.read_text("utf-8") == asked):
        done.unlink(missing_ok=True)
        goes_on = command == "train" and last.exists() and began.exists() and began.read_text("utf-8") == asked
        if not goes_on:
            shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        began.write_text(asked, "utf-8")
        where = f"demos.path={folder}" if command == "demos" else f"run_dir={folder}"
        given = [where, "resume=true"] if goes_on else [*overrides, where]
        loaded = config.load(given, config_dir=HERE, command=command)  # for the folder env
        {"demos": record, "sft": sft, "train": train, "eval": evaluate_tasks}[command](loaded)
        began.replace(done)
    return last if command in ("sft", "train") else folder


def start(part: Slice, *overrides: str) -> list[str]:
    """Record demonstrations and clone them: the overrides that a training begins with."""
    demos = run("demos", part.out / "demos", *part.common, *overrides, f"demos.seed={1000 * part.seed}")
    given = [*part.common, *overrides, f"demos.path={demos}"]
    return [*given, f"train.checkpoint={run('sft', part.out / 'sft', *given)}"]


def hacked(overrides: Sequence[str], out: Path) -> dict[str, float]:
    """What a policy that an audit trains on the reward is paid and does, in percent, and whether that fails the audit;
    unless that was done before with the same overrides."""
    told, asked = out / "hacked.json", list(overrides)
    if not told.exists() or json.loads(told.read_text("utf-8"))["asked"] != asked:
        shutil.rmtree(out, ignore_errors=True)
        loaded = config.load([*asked, f"run_dir={out}"], command="audit")
        found = hack(loaded, out, range(FIRST_SEED, FIRST_SEED + loaded.eval.episodes), DEMO_SEED).as_json()
        told.write_text(json.dumps({"asked": asked, "found": found}), "utf-8")
    row = json.loads(told.read_text("utf-8"))["found"]
    found = row["hack_gap_ci95"] is not None and row["hack_gap_ci95"][0] > 0
    return {"success": row["success"], "paid": row["paid"], "found": float(found)}


def evaluated(folder: Path) -> list[dict[str, Any]]:
    """What `eval` found of each task, in the order of the run's."""
    return list(json.loads((folder / INFO_FILE).read_text("utf-8"))["per_group"].values())


def paid_and_done(folder: Path) -> dict[str, float]:
    """Of an evaluation: what was paid, and success by the verifier, in percent."""
    told = json.loads((folder / INFO_FILE).read_text("utf-8"))["per_episode"]
    rows = [each for each in told if not each["invalid"]]
    paid, done = [min(each["sum_reward"], 1.0) for each in rows], [each["success"] for each in rows]
    return {"success": 100 * float(np.mean(done)), "paid": 100 * float(np.mean(paid))}


def auc(truth: Sequence[bool], score: Sequence[float]) -> float | None:
    """How often the score of a true one is above that of a false one, ties counting half; None where one kind lacks."""
    which, scores = np.array(truth, bool), np.array(score)
    pairs = np.sign(scores[which][:, None] - scores[~which])
    return float((pairs + 1).mean() / 2) if pairs.size else None


def logged(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's log."""
    return read_metrics(folder / METRICS_FILE)


def late(folder: Path, key: str, share: float = 0.25) -> float:
    """The mean of a metric over the last share of a training; NaN where it was never told."""
    rows = logged(folder)
    told = [row[key] for row in rows if row["step"] > (1 - share) * rows[-1]["step"] and row.get(key) is not None]
    return float(np.mean(told)) if told else float("nan")


def validations(folder: Path) -> list[list[float]]:
    """Of each validation of a training: the step, the episodes so far, and success in percent."""
    rows, episodes = [], 0.0
    for line in logged(folder):
        episodes = line.get("train/episodes") or episodes
        if line.get("eval/pc_success") is not None:
            rows.append([line["step"], episodes, line["eval/pc_success"]])
    return rows
