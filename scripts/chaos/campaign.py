"""One run, and all that befalls it, by a seed: lives that follow one another, with faults, and what came of them."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from chaos import ledger
from chaos.account import Accountant
from chaos.faults import AT_REST, BROWSERS, DURING, ENDS, QUICK, Disk, End, Unable, Working
from chaos.life import PATIENCE, Life, left_behind
from vla_rl.fault_points import VARIABLE
from vla_rl.paths import METRICS_FILE
from vla_rl.runtime import checkpoint
from vla_rl.runtime.generations import Generation

WORKERS = 2
"""That step the run's environments."""
MOVES = 24
"""Steps that a run takes until it counts as going on."""


@dataclass(frozen=True)
class Fault:
    """What befell a life. seconds: until the run went on, or had ended. wrong: with what came of it; "" if nothing."""

    kind: str
    life: int
    outcome: str
    seconds: float
    wrong: str = ""


@dataclass
class Record:
    """All that befell a run."""

    faults: list[Fault] = field(default_factory=list)
    hung: int = 0
    orphans: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, kind: str, life: int, outcome: str, since: float, wrong: str = "") -> None:
        fault = Fault(kind, life, outcome, round(time.monotonic() - since, 1), wrong)
        self.faults.append(fault)
        print(
            f"life {life:3d}  {kind:32s} {outcome}, {fault.seconds:.0f} s{'  WRONG: ' + wrong if wrong else ''}",
            flush=True,
        )


class Campaign:
    """A run in `folder`, of the settings `overrides` and so many `steps`, to be disturbed.

    env_id: whose environments keep the ledger. plugins: the run's, this one among them. browsers: whether it has any.
    """

    def __init__(
        self,
        folder: Path,
        overrides: Sequence[str],
        steps: int,
        env_id: str,
        seed: int,
        plugins: str,
        browsers: bool = False,
    ) -> None:
        self.folder, self._overrides, self._env_id = folder, list(overrides), env_id
        self.steps = self._more = steps
        self.rng = np.random.default_rng(seed)
        self.disk = Disk(folder / "disk")
        self.run, self.book, self._orders = folder / "disk" / "run", folder / "ledger", folder / "orders"
        self._orders.mkdir(parents=True)
        self._go_on = ["resume=true", f"run_dir={self.run}", plugins]
        self.record, self.accountant = Record(), Accountant(self.run, self.book, WORKERS)
        self._during = self._deck([*DURING, *QUICK, *QUICK, *(BROWSERS if browsers else ())])
        self._ends = self._deck([kind for kind, end in ENDS.items() if self.disk.own or not end.disk])
        self._at_rest = self._deck(list(AT_REST))
        self._does = {**DURING, **BROWSERS}
        self._number = 0
        self._named: list[tuple[str, str, float]] = []

    def go(self, seconds: float) -> None:
        """Disturb the run for so long; where it comes to its end before, it gets as many steps more."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._gave_up:
            if self._live(next(self._ends)) == 0:
                self.steps += self._more
            for _ in range(self.rng.integers(1, 4)):
                self._spoil(next(self._at_rest))

    def finish(self, patience: float) -> None:
        """Let the run come to its end undisturbed."""
        self._live(None, patience)

    def _deck(self, kinds: Sequence[str]) -> Iterator[str]:
        """All kinds in a random order, again and again."""
        while True:
            yield from self.rng.permutation(list(kinds)).tolist()

    def _start(self, rule: str) -> Life:
        self._number += 1
        environment = {
            VARIABLE: rule,
            ledger.LEDGER: str(self.book),
            ledger.LIFE: str(self._number),
            ledger.ORDERS: str(self._orders),
            ledger.ENV: self._env_id,
        }
        self.accountant.begin(self._newest())
        told = self._go_on if self.run.exists() else [*self._overrides, f"run_dir={self.run}"]
        log = self.folder / f"life-{self._number:03d}.log"
        return Life(log, "train", *told, f"train.steps={self.steps}", environment=environment)

    def _live(self, kind: str | None, patience: float = PATIENCE) -> int | None:
        """One life, which ends by `kind`, or by itself; its exit code."""
        end = ENDS[kind] if kind else End((0,))
        for path in self._orders.iterdir():
            path.unlink()
        life = self._start(end.rule.format(time=self.rng.integers(1, 3)))
        working = Working(life, self._go_on, self._orders, self.rng, set())
        goes = self._goes_on(life)
        self._check_named(life)
        if goes and kind:
            for _ in range(self.rng.integers(8, 15)):
                self._befall(next(self._during), working)
        since = time.monotonic()
        if kind and life.alive:
            if end.disk:
                self.disk.fill()
            elif end.does is not None:
                end.does(life)
        code = life.ended(patience)
        self._close(kind, end, life, code, since, working)
        return code

    @property
    def _gave_up(self) -> bool:
        """Whether the run cannot even begin any more."""
        return sum("does not begin" in each for each in self.record.problems) > 2

    def _befall(self, kind: str, working: Working) -> None:
        """Have something go wrong, and see the run go on."""
        if not working.life.alive:
            return
        time.sleep(self.rng.uniform(0.0, 1.0))
        since = time.monotonic()
        try:
            wrong = self._does[kind](working)
        except (Unable, psutil.NoSuchProcess):
            return
        if self._goes_on(working.life):
            self.record.add(kind, self._number, "went on", since, wrong)
        elif working.life.alive:
            self.record.add(kind, self._number, "stands still", since, wrong or "the run stands still")
        elif working.life.process.exitcode in (-9, 2, 0):  # what was to end it has, or it came to its last step
            self.record.add(kind, self._number, "ended meanwhile", since)
        else:
            self.record.add(kind, self._number, "ended", since, f"exit code {working.life.process.exitcode}")

    def _goes_on(self, life: Life) -> bool:
        """Whether its environments take further steps."""
        begun, end = self._steps(), time.monotonic() + PATIENCE
        while life.alive and time.monotonic() < end:
            if self._steps() >= begun + MOVES:
                return True
            time.sleep(0.1)
        return False

    def _steps(self) -> int:
        return self.book.stat().st_size // ledger.LINE.itemsize if self.book.exists() else 0

    def _close(self, kind: str | None, end: End, life: Life, code: int | None, since: float, working: Working) -> None:
        """See what a life has left."""
        told, wrong = f"exit code {code}", ""
        self.disk.empty()
        said = life.said()
        if code is None:
            self.record.hung += 1
            wrong = "hung"
        elif code == 0 and kind:
            told = "came to its end before"
        elif code not in end.codes or (end.says and end.says not in said):
            wrong = f"expected {end.codes}, {end.says!r}; it said {said[-300:]!r}"
        if kind:
            self.record.add(kind, self._number, told, since, wrong)
        elif wrong:
            self.record.problems.append(f"undisturbed, the run did not come to its end: {wrong}")
        left = left_behind()
        self.record.orphans += [f"life {self._number}: {each}" for each in left]
        counts = self.accountant.close(self._number, life.began, working.ended, said)
        newest = self._newest()
        finished = newest is not None and newest.step >= self.steps  # a life before may have taken the last step
        if kind and not counts["steps"] and not finished:
            self.record.problems.append(f"life {self._number}: does not begin: {said[-300:]!r}")
        self.record.problems += self._disorder()
        own = (f"life {self._number},", f"life {self._number}:")
        problems = [each for each in self.accountant.balance.problems if each.startswith(own)]
        print(f"life {self._number:3d}  {json.dumps(counts)}", *problems, sep="\n", flush=True)

    def _newest(self) -> Generation | None:
        """What the next life begins with."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run will say it, too
            return checkpoint.latest(self.run)

    def _disorder(self) -> list[str]:
        """What is wrong with the lines of the log, once a life has gone on in it."""
        path = self.run / METRICS_FILE
        lines = path.read_text().splitlines() if path.exists() else []
        try:
            steps = [json.loads(line)["step"] for line in lines]
        except ValueError:
            return [f"life {self._number}: {METRICS_FILE} has a torn line"]
        return [] if steps == sorted(steps) else [f"life {self._number}: {METRICS_FILE} tells of steps out of order"]

    def _spoil(self, kind: str) -> None:
        """Have something happen to the files while nobody is at work; the next life has to bear it."""
        if not checkpoint.last(self.run):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._named.append((kind, AT_REST[kind](self.run, self.rng), time.monotonic()))
            except Unable:
                return

    def _check_named(self, life: Life) -> None:
        """Whether a life that has begun has said what was done to its files."""
        said = life.said()
        for kind, name, since in self._named:
            wrong = "" if name in said else f"{name} is not named"
            self.record.add(kind, self._number, "named, went on" if name else "went on", since, wrong)
        self._named = []

    def close(self) -> None:
        """Keep the run, and give its disk back."""
        self.disk.give_back(self.folder / "kept")
