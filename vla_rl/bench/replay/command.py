"""The race: a process for every buffer, all alive at once, told in turn and in another order each round; medians."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.bench.replay import record
from vla_rl.bench.replay.course import Setting
from vla_rl.bench.replay.record import Scene
from vla_rl.registry import ConfigError, nearest

ROOT = Path(__file__).resolve().parents[3]
RIVALS = ("sb3", "torchrl", "cpprb", "lerobot")
VARIANTS = {"ours": ("raw", "coded")} | {name: ("default", "best") for name in RIVALS}
ROUNDS = 5
TIMED = ("add", "sample", "save")
Found = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Heat:
    """One scene and its setting; see `Setting`. roof: whether `sample_share_of_roof` is about this one."""

    scene: Scene
    capacity: int
    stack: int = 1
    marked: bool = True
    batches: int = 20
    roof: bool = False


def _cameras(size: int, *names: str) -> str:
    cameras = [f"{{type: camera, name: {name}, width: {size}, height: {size}}}" for name in names]
    return f"env.sensors=[{', '.join([*cameras, '{type: instruction}'])}]"


SMALL = Scene(("env=reach", _cameras(64, "front")), 1000)
LARGE = Scene(("env=reach", _cameras(224, "front", "side")), 200)
SCREEN = Scene(("env=gui_type_and_submit",), 500)
HEATS = {
    "64x64": Heat(SMALL, 8192),
    "64x64, stack 3": Heat(SMALL, 8192, stack=3),
    "2 x 224x224": Heat(LARGE, 512, batches=8, roof=True),
    "2 x 224x224, stack 3": Heat(LARGE, 512, stack=3, batches=4, roof=True),
    "screen 96x96": Heat(SCREEN, 8192, marked=False),
}


def bench_replay(names: Sequence[str] = (), as_json: bool = False) -> None:
    """Print what `measure` finds, as one JSON object or as tables; `names`: the rivals raced with, all by default.

    Raises:
        ConfigError: a rival that does not exist.
    """
    for name in names:
        if name not in RIVALS:
            raise ConfigError(f"bench replay: no rival {name!r}; {nearest(name, RIVALS)}")
    found = measure(HEATS, names or RIVALS)
    print(json.dumps(found, indent=2) if as_json else to_text(found))


def measure(heats: Mapping[str, Heat], rivals: Sequence[str]) -> dict[str, Any]:
    """All heats, and what they come to.

    `bytes_ratio_raw`: bytes of RAM and disk a transition of the best rival without wrong next observations over ours,
    raw; `bytes_ratio_coded`: of the best rival of all over ours, coded. `sample_ratio_best_rival`: sampled
    transitions/s, ours raw over the fastest rival's. `sample_share_of_roof`: ours raw over a bare gather, where the
    heat is about that. Each at its worst among the heats; null without a rival. `wrong_next`: the largest of ours.
    `heats`: by heat and buffer, what `course` answers. `not_raced`: rivals that are not installed or failed, and why.
    """
    with tempfile.TemporaryDirectory(prefix="vla_rl_bench_") as folder:
        recordings: dict[Scene, Path] = {}
        for heat in heats.values():
            if heat.scene not in recordings:
                recordings[heat.scene] = Path(folder) / f"{len(recordings)}.npz"
                record.write(heat.scene, recordings[heat.scene])
        missing = {name: "not installed: bash scripts/bench_rivals.sh" for name in rivals if not _python(name).exists()}
        racing = ["ours", *(name for name in rivals if name not in missing)]
        tables: dict[str, Found] = {}
        for name, heat in heats.items():
            tables[name] = race(heat, recordings[heat.scene], racing)
            print(f"{name}: done", file=sys.stderr)
    failed = {
        f"{buffer}, {heat}": found["failed"]
        for heat, table in tables.items()
        for buffer, found in table.items()
        if "failed" in found
    }
    return summary(heats, tables) | {"heats": tables, "not_raced": missing | failed}


def race(heat: Heat, recording: Path, names: Sequence[str]) -> Found:
    """Every variant of every buffer, by `<name> <variant>`."""
    setting = Setting(str(recording), heat.capacity, heat.stack, heat.marked, heat.batches)
    with ExitStack() as stack:
        runners = [stack.enter_context(Runner(name, variant, setting)) for name in names for variant in VARIANTS[name]]
        for runner in runners:
            runner.tell("fill")
        for command in TIMED[:2]:
            for turn in range(ROUNDS):
                for runner in runners[turn % len(runners) :] + runners[: turn % len(runners)]:
                    runner.tell(command)
        for runner in runners:
            runner.tell("wrong")
        for turn in range(ROUNDS):
            for runner in runners[turn % len(runners) :] + runners[: turn % len(runners)]:
                runner.tell(TIMED[2])
        return {runner.name: runner.found() for runner in runners}


class Runner:
    """A buffer's process."""

    def __init__(self, name: str, variant: str, setting: Setting) -> None:
        self.name = f"{name} {variant}"
        module = ["-m", "vla_rl.bench.replay.ours"] if name == "ours" else ["-P", str(_script(name))]
        arguments = [str(_python(name)), *module, variant, json.dumps(dataclasses.asdict(setting))]
        places = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed by __exit__
        self._process = subprocess.Popen(
            arguments, stdin=-1, stdout=-1, stderr=self._errors, text=True, env={**os.environ, **places}
        )
        self._answers: dict[str, list[dict[str, Any]]] = {}
        self._failed: str | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def tell(self, command: str) -> None:
        """Have the process do `command`, and wait for it; nothing once it failed."""
        if self._failed:
            return
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            self._answers.setdefault(command, []).append(json.loads(answer))
            return
        self._errors.seek(0)
        self._failed = f"{command}: {(self._errors.read().strip().splitlines() or ['no answer'])[-1]}"

    def found(self) -> dict[str, Any]:
        """The medians of all rounds, and `p99_ms` of all batches of all rounds."""
        found: dict[str, Any] = {"failed": self._failed} if self._failed else {}
        for answers in self._answers.values():
            for name in answers[0]:
                values = [answer[name] for answer in answers]
                if name == "latencies":
                    found["p99_ms"] = 1e3 * float(np.percentile(np.concatenate(values), 99))
                else:
                    found[name] = None if None in values else float(np.median(values))
        return found


def summary(heats: Mapping[str, Heat], tables: Mapping[str, Found]) -> dict[str, float | None]:
    """The numbers of `measure` over all heats."""
    ratios: dict[str, list[float]] = {name: [] for name in ("raw", "coded", "sample")}
    # Without marks a heat says nothing of wrongness; what was wrong in another one is so in this one too.
    wrong = {name for table in tables.values() for name, each in table.items() if each.get("wrong_next")}
    for table in tables.values():
        raw, coded = table["ours raw"], table["ours coded"]
        others = {name: each for name, each in table.items() if not name.startswith("ours") and "failed" not in each}
        rivals = list(others.values())
        right = [each["bytes"] for name, each in others.items() if name not in wrong]
        ratios["raw"] += [min(right) / raw["bytes"]] if right else []
        ratios["coded"] += [min(each["bytes"] for each in rivals) / coded["bytes"]] if rivals else []
        fastest = max((each["samples_per_s"] for each in rivals), default=None)
        ratios["sample"] += [raw["samples_per_s"] / fastest] if fastest else []
    ours = [each for table in tables.values() for name, each in table.items() if name.startswith("ours")]
    shares = [tables[name]["ours raw"]["share_of_roof"] for name, heat in heats.items() if heat.roof]
    return {
        "bytes_ratio_raw": min(ratios["raw"], default=None),
        "bytes_ratio_coded": min(ratios["coded"], default=None),
        "sample_ratio_best_rival": min(ratios["sample"], default=None),
        "sample_share_of_roof": min(shares, default=None),
        "wrong_next": max((each["wrong_next"] for each in ours if each["wrong_next"] is not None), default=None),
    }


COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "bytes": ("bytes/transition", lambda value: f"{value:,.0f}"),
    "adds_per_s": ("adds/s", lambda value: f"{value:,.0f}"),
    "samples_per_s": ("sampled/s", lambda value: f"{value:,.0f}"),
    "p99_ms": ("p99 ms", lambda value: f"{value:.1f}"),
    "wrong_next": ("wrong next", lambda value: f"{100 * value:.1f} %"),
    "save_s": ("save s", lambda value: f"{value:.2f}"),
    "restore_s": ("restore s", lambda value: f"{value:.2f}"),
}


def to_text(found: Mapping[str, Any]) -> str:
    """Markdown tables, one a heat, and the summary."""
    lines = []
    for heat, table in found["heats"].items():
        lines += [f"### {heat}", "", f"| | {' | '.join(title for title, _ in COLUMNS.values())} |"]
        lines += ["|---" * (len(COLUMNS) + 1) + "|"]
        for buffer, each in table.items():
            cells = [show(each[key]) if each.get(key) is not None else "-" for key, (_, show) in COLUMNS.items()]
            lines.append(f"| {buffer} | {' | '.join(cells)} |")
        roof = table["ours raw"].get("roof_per_s", 0)
        lines += [f"| roof: a bare gather | - | - | {roof:,.0f} |{' - |' * 4}", ""]
    lines += [f"{name:24} {value}" for name, value in found.items() if name not in ("heats", "not_raced")]
    return "\n".join(lines + [f"not raced: {name}: {why}" for name, why in found["not_raced"].items()])


def _python(name: str) -> Path:
    return Path(sys.executable) if name == "ours" else ROOT / f".venvs/rivals-{name}/bin/python"


def _script(name: str) -> Path:
    return ROOT / f"scripts/rivals/{name}.py"
