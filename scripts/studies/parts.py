"""The parts of a study: what one world and one seed gave, made on any machine and day, and put together here.

`docs/studies/<study>/<world>_<seed>.json` is a part: a row of numbers for each setting. Each row says the commit, the
date, the machine, the seconds that it took (by the clock, and of processors), and a digest of the settings that it was
made with. Rows of other settings than those of the YAML file are never mixed with new ones: they are refused, or left
out and named.
"""

from __future__ import annotations

import datetime
import fcntl
import functools
import hashlib
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.evaluation.eval_info import finite
from vla_rl.report.bootstrap import mean_interval

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "docs" / "studies"
APART = ("seeds", "worlds", "settings", "headline", "quick")
"""Keys of a YAML file that say which rows there are, not what a row is. So do all that begin with `quick_`."""


class OtherSettingsError(ValueError):
    """A part holds rows that were made with other settings."""


@dataclass(frozen=True)
class Parts:
    """All parts of a study.

    folder: where they lie, in a folder of the study's name. yaml: the study's file. more: overrides of a quick look.
    """

    name: str
    folder: Path
    yaml: Mapping[str, Any]
    more: Sequence[str] = ()

    def settings(self, world: str) -> list[str]:
        """The settings that a world is studied with: all, unless it lists some."""
        return list(self.yaml["worlds"][world].get("settings", self.yaml["settings"]))

    def digest(self, world: str, row: str) -> str:
        """A short hash of all that the YAML file says of a row: nothing of comments, other worlds and other rows."""
        rest = {key: value for key, value in self.yaml.items() if key not in APART and not key.startswith("quick_")}
        own = {key: value for key, value in self.yaml["worlds"][world].items() if key != "settings"}
        told = json.dumps([own, self.yaml["settings"].get(row), rest, list(self.more)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:10]

    def file(self, world: str, seed: int) -> Path:
        return self.folder / self.name / f"{world}_{seed}.json"

    def read(self, world: str, seed: int) -> dict[str, dict[str, Any]]:
        """A part's rows by name, `numbers` and how they were `made`; none where there is no part."""
        file = self.file(world, seed)
        return json.loads(file.read_text("utf-8"))["rows"] if file.exists() else {}

    def others(self, world: str, seed: int) -> dict[str, dict[str, Any]]:
        """The rows of a part that were made with other settings."""
        rows = self.read(world, seed).items()
        return {row: told for row, told in rows if told["made"]["settings"] != self.digest(world, row)}

    def wanted(self, world: str, seed: int, asked: Collection[str], replace: bool = False) -> list[str]:
        """Those of the settings that are still to be made, in the order of the YAML file.

        Raises:
            OtherSettingsError: the part holds rows of other settings, and they are not to be replaced.
        """
        for row, told in {} if replace else self.others(world, seed).items():
            made = told["made"]
            raise OtherSettingsError(
                f"{self.file(world, seed)}: {row} was made with other settings ({made['settings']} at commit "
                f"{made['commit']}; {self.name}.yaml now gives {self.digest(world, row)}). Use the YAML file of that "
                "commit; or --replace, which drops all rows of other settings and makes what you ask for anew"
            )
        rows = self.read(world, seed)
        return [row for row in self.settings(world) if row in asked and (replace or row not in rows)]

    def add(self, world: str, seed: int, row: str, numbers: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        """Write a row into its part, as a whole or not at all. Rows of other settings are dropped from the part.

        Several processes of a machine may do so at once.
        """
        made: dict[str, Any] = {"settings": self.digest(world, row), **made_by()}
        made |= {key: round(each, 1) for key, each in seconds.items()}
        file = self.file(world, seed)
        with Path(tempfile.gettempdir(), f"{os.getuid()}_{file.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            others = self.others(world, seed)
            rows = {name: told for name, told in self.read(world, seed).items() if name not in others}
            rows[row] = {"numbers": finite(numbers), "made": made}
            lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(told)}" for name, told in rows.items())
            head = f' "study": {json.dumps(self.name)}, "world": {json.dumps(world)}, "seed": {seed},\n "rows": '
            write_whole(file, "{\n" + head + "{\n" + lines + "\n }\n}\n")

    def seeds(self, world: str) -> dict[int, dict[str, Any]]:
        """The numbers of a world's rows by name, by seed: all that there is of the settings of the YAML file."""
        found = {}
        for file in (self.folder / self.name).glob(f"{world}_*.json"):
            seed = file.stem.removeprefix(f"{world}_")
            if seed.isdecimal() and (rows := self.read(world, int(seed))):
                others = self.others(world, int(seed))
                found[int(seed)] = {row: told["numbers"] for row, told in rows.items() if row not in others}
        return {seed: found[seed] for seed in sorted(found) if found[seed]}

    def worlds(self) -> list[str]:
        """The worlds of which there is something, in the order of the YAML file."""
        return [world for world in self.yaml["worlds"] if self.seeds(world)]

    def table(self, world: str) -> dict[str, Any]:
        """Of each row and each of its numbers: the mean over seeds with its interval (`interval`)."""
        return summed(list(self.seeds(world).values()))

    def tables(self) -> dict[str, Any]:
        return {world: self.table(world) for world in self.worlds()}

    def missing(self) -> list[str]:
        """What the YAML file asks for that is not there, in words: whole parts, and rows of parts."""
        whole, told = dict[str, list[str]](), list[str]()
        for world in self.yaml["worlds"]:
            there, seeds = self.seeds(world), self.yaml["seeds"]
            if lacking := [str(seed) for seed in seeds if seed not in there]:
                whole.setdefault(", ".join(lacking), []).append(world)
            for seed in (seed for seed in seeds if seed in there):
                rows = [row for row in self.settings(world) if row not in there[seed]]
                named = "every setting" if len(rows) == len(self.settings(world)) else ", ".join(rows)
                told += [f"{world}, seed {seed}: {named}"] if rows else []
        return [f"{', '.join(worlds)}: seed {lacking}" for lacking, worlds in whole.items()] + told

    def about(self) -> dict[str, Any]:
        """Of the summary: which parts it is of, how they were made, and what is missing."""
        parts, old = [], []
        for world in self.yaml["worlds"]:
            for file in sorted((self.folder / self.name).glob(f"{world}_*.json")):
                if (seed := file.stem.removeprefix(f"{world}_")).isdecimal():
                    others = self.others(world, int(seed))
                    old += [f"{world}, seed {seed}: {', '.join(others)}"] if others else []
                    rows = [told["made"] for row, told in self.read(world, int(seed)).items() if row not in others]
                    parts += [_part(world, int(seed), rows)] if rows else []
        return {"parts": parts, "missing": self.missing(), "other_settings": old}


def _part(world: str, seed: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where and when a part was made; seconds are those of all its rows."""
    told: dict[str, Any] = {key: sorted({made[key] for made in rows}) for key in ("commit", "date", "machine")}
    told |= {key: round(sum(made[key] for made in rows), 1) for key in ("seconds", "cpu_seconds")}
    return {"world": world, "seed": seed, "rows": len(rows), **told}


def summed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Intervals of all numbers, in the shape of the rows; of what is no number, nothing."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if key in row]
        if all(isinstance(value, Mapping) for value in values):
            found[key] = summed(values)
        elif all(value is None or isinstance(value, int | float) for value in values):
            found[key] = interval(values)
    return found


def interval(values: Sequence[float | None]) -> dict[str, Any]:
    """The mean over seeds with its 95% bootstrap interval, and the values; those that are not known do not count."""
    known = np.array([value for value in values if value is not None and math.isfinite(value)], float)
    if not len(known):
        return {"mean": None, "ci95": None, "values": []}
    mean, low, high = (float(f"{each:.6g}") for each in mean_interval(known))  # alike on all machines
    return {"mean": mean, "ci95": [low, high], "values": known.tolist()}


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    return interval(values)["mean"]


@functools.cache
def made_by() -> dict[str, str]:
    """The commit, `-dirty` where code differs from it, the date, and the machine: when this was asked first."""

    def git(*command: str) -> str:
        return subprocess.run(["git", *command], capture_output=True, text=True, cwd=ROOT).stdout.strip()

    dirty = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    cpuinfo = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return {
        "commit": git("rev-parse", "--short=8", "HEAD") + ("-dirty" if dirty else ""),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{(names or ['unknown processor'])[0]}, {os.cpu_count()} cores",
    }


def write_whole(file: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    draft.write_text(text, "utf-8")
    draft.replace(file)
