"""Holds what a run remembers against the ledger: nothing lost, nothing doubled, nothing in disorder.

A life begins with what its first checkpoint holds. A checkpoint of it must hold that, and every step that the ledger
tells of this life up to the checkpoint's time, each once; but for the last episode of an environment that went wrong,
which must be left out, or whose process ended, which may be; and where a life that was told to stop had to be
interrupted, that of any. What came after its last checkpoint is done anew by the
next life, and never comes back.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from chaos import ledger
from chaos.ledger import COLUMN, FAULT, STEP
from chaos.world import ENDS_PROCESS
from vla_rl.replay import journal
from vla_rl.replay.columns import SIGNAL
from vla_rl.replay.journal import Journal
from vla_rl.runtime import checkpoint
from vla_rl.runtime.generations import CHECKPOINTS, MANIFEST, Generation, generations
from vla_rl.runtime.signals import Interrupted

REPLAY, LANES = Path("training_state", "replay"), Path("training_state", "lanes")
INTERRUPTION = f"{Interrupted.__name__}: told to stop"
"""Said where a process was at work for too long, which has taken steps that nobody heard of."""
OUTCOME = ("reward", "terminated", "truncated")


@dataclass(frozen=True)
class Held:
    """What a checkpoint remembers. ids: of the steps, as the ledger numbers them. waiting: of those, the ones that are
    not in replay yet, since their turn had not come. untold: steps that will be counted then, and are none of these,
    since they went wrong. spoilt: the ones of episodes that went wrong, which are forgotten
    when the turn comes of what went wrong. problems: what is wrong in itself."""

    ids: np.ndarray
    waiting: np.ndarray
    untold: int = 0
    spoilt: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    problems: tuple[str, ...] = ()


@dataclass
class Balance:
    """What all lives amount to, in steps. redone: after the checkpoint that the next life began with, and so done anew.
    left_out: of episodes that something spoilt. salvaged: that damaged files held, and that were said to be lost."""

    lives: int = 0
    checkpoints: int = 0
    steps: int = 0
    remembered: int = 0
    redone: int = 0
    left_out: int = 0
    salvaged: int = 0
    lost: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)


class Accountant:
    """Looks through a run's checkpoints after each of its lives. workers: processes that step its environments."""

    def __init__(self, run: Path, book: Path, workers: int) -> None:
        self.balance = Balance()
        self._workers = workers
        self._run, self._book = run, book
        self._known: dict[int, Held] = {}
        self._base = self._gone = self._waited = self._doomed = np.empty(0, np.int64)
        self._step, self._untold, self._salvages = 0, 0, False

    def begin(self, generation: Generation | None) -> None:
        """A life begins with a generation that was looked through before, whatever has come to it since."""
        none = np.empty(0, np.int64)
        found = self._known[generation.step] if generation else Held(none, none)
        before, self._base, self._waited, self._doomed = self._base, found.ids, found.waiting, found.spoilt
        self._step = generation.step if generation else 0
        self._untold = 0
        if not (generation and generation.damaged):  # else nothing that waits is taken in
            self._step, self._untold = self._step + len(found.waiting), found.untold
        self.balance.redone += len(np.setdiff1d(before, self._base))
        self._salvages = bool(generation and generation.damaged)

    def close(self, life: int, since: float, ended: Collection[int], said: str) -> dict[str, int]:
        """Look through what a life has left, which began at time `since` and said so much.

        ended: the processes of environments that were ended from outside.
        """
        lines = ledger.read(self._book)
        own = lines[lines["life"] == life]
        steps = own[own["kind"] == STEP]
        interrupted = own["pid"].tolist() if INTERRUPTION in said else ()
        spoilt, causes = _spoilt(own, {*ended, *_replaced(own, self._workers), *interrupted})
        made = {at: each for each in reversed(generations(self._run / CHECKPOINTS)) if (at := _time(each)) > since}
        until = 0.0
        for until, generation in made.items():
            self._hold(life, generation, lines, steps[steps["time"] < until], spoilt, causes)
            if self._salvages:
                self._check_salvage(life, said)
        before = steps["time"] < until
        counts = {
            "steps": len(steps),
            "checkpoints": len(made),
            "redone": int((~before).sum()),
            "left_out": int((before & np.isin(steps["id"], self._base, invert=True)).sum()),
        }
        for name, count in counts.items():
            setattr(self.balance, name, getattr(self.balance, name) + count)
        self.balance.lives += 1
        self.balance.remembered = len(self._base)
        return counts

    def _hold(
        self, life: int, generation: Generation, lines: np.ndarray, steps: np.ndarray, spoilt: np.ndarray, causes: int
    ) -> None:
        """Hold a generation of a life against the steps that the ledger tells of until then."""
        found = held(generation.folder, lines)
        ids, counts = np.unique(found.ids, return_counts=True)
        allowed = np.union1d(self._base, steps["id"])
        lacks = np.setdiff1d(np.setdiff1d(allowed, np.union1d(spoilt, self._doomed)), ids)
        wrong = list(found.problems)
        if self._salvages:
            self._gone = np.intersect1d(lacks, self._base)
            lacks = np.setdiff1d(lacks, self._gone)
        doubled = int((counts - 1).sum()) + len(np.setdiff1d(ids, allowed))
        told = generation.step + len(found.waiting) - self._step
        if abs(told - len(steps)) > causes + self._untold:
            wrong.append(
                f"the counter went on by {told}, the ledger by {len(steps)}, and {causes} lanes lost an episode"
            )
        self.balance.lost += len(lacks)
        self.balance.doubled += doubled
        wrong += [f"{len(lacks)} steps lost"] * bool(len(lacks)) + [f"{doubled} steps doubled"] * bool(doubled)
        self.balance.problems += [f"life {life}, checkpoint {generation.step}: {each}" for each in wrong]
        self._known[generation.step] = replace(found, ids=ids, spoilt=np.intersect1d(ids, spoilt))
        self._base = ids

    def _check_salvage(self, life: int, said: str) -> None:
        """Hold what damaged files have cost against what the run said of it."""
        told = sum(int(rows) for rows in re.findall(r"replay: (\d+) of \d+ rows are lost", said))
        everything = "replay begins empty" in said
        self.balance.salvaged += len(self._gone)
        # What waits for its turn is left out where replay is damaged.
        if len(np.setdiff1d(self._gone, self._waited)) > told and not everything:
            self.balance.problems.append(f"life {life}: {len(self._gone)} steps gone with damaged files, {told} told")
        self._salvages = False


def _replaced(lines: np.ndarray, workers: int) -> list[int]:
    """The processes of a life's environments that others have taken the place of: all but the last ones heard of."""
    latest = {int(pid): at for at, pid in enumerate(lines["pid"].tolist())}
    return sorted(latest, key=lambda pid: -latest[pid])[workers:]


def _spoilt(lines: np.ndarray, ended: Collection[int]) -> tuple[np.ndarray, int]:
    """The ids of steps of a life that need not be remembered; and how many environments lost an episode.

    They are the last episodes of environments that went wrong, or whose process ended; and those that said so.
    """
    ends = np.isin(lines["fault"], [name.encode() for name in ENDS_PROCESS])
    gone = {*ended, *lines["pid"][ends].tolist()}
    env = lines["id"] >> 32
    went_wrong = np.isin(env, env[lines["kind"] == FAULT]) | np.isin(lines["pid"], list(gone))
    last = np.zeros(len(lines), bool)
    for each in np.unique(env[went_wrong]):
        mine = env == each
        last |= mine & (lines["episode"] == lines["episode"][mine].max())
    itself = np.unique(np.stack([env, lines["episode"]])[:, lines["spoilt"]], axis=1)
    for each, episode in itself.T:
        last |= (env == each) & (lines["episode"] == episode)
    causes = len(np.unique(env[went_wrong])) + itself.shape[1]
    return np.unique(lines["id"][last & (lines["kind"] == STEP)]), causes


def _time(generation: Generation) -> float:
    """When a generation was made, while no environment was at work; 0 where somebody has damaged it."""
    manifest = generation.folder / MANIFEST
    return manifest.stat().st_mtime if manifest.exists() else 0.0


def held(folder: Path, lines: np.ndarray) -> Held:
    """What the checkpoint in `folder` remembers, and whether each row follows the one before as the ledger tells."""
    saved = folder / REPLAY
    state = journal.read_state(saved, journal.read_settings(saved))
    oldest, head = state["oldest"], state["head"]
    specs = {
        name: (tuple(shape), np.dtype(kind))
        for name, (shape, kind) in state["settings"]["columns"].items()
        if name in ("prev", "final", *OUTCOME, SIGNAL + COLUMN)
    }
    parts = [rows for _, rows, _ in Journal.open(saved, state["rows"], oldest, head, specs).parts(oldest)]
    columns = {name: np.concatenate([rows[name] for rows in parts]) for name in specs}
    alive = journal.unpacked(state["alive"], head - oldest)
    numbers = columns[SIGNAL + COLUMN]
    steps = alive & ~columns["final"]
    problems = []
    told = lines[lines["kind"] == STEP]
    told = told[np.argsort(told["id"])]
    at = np.searchsorted(told["id"], numbers[steps]).clip(max=max(len(told) - 1, 0))
    if not len(told) or (told["id"][at] != numbers[steps]).any():
        problems.append("rows of steps that the ledger does not tell of")
    else:
        differ = [name for name in OUTCOME if (told[name][at] != columns[name][steps]).any()]
        problems += [f"rows whose {name} is not what the ledger tells" for name in differ]
    before = np.flatnonzero(steps & (columns["prev"] >= oldest))
    before = before[alive[columns["prev"][before] - oldest]]
    previous, own = numbers[columns["prev"][before] - oldest], numbers[before]
    same = previous >> 32 == own >> 32  # an episode may go on in another process
    if (own[same] != previous[same] + 1).any():
        problems.append("rows of an episode that do not follow one another")
    waiting, untold = waiting_in(folder)
    return Held(np.concatenate([numbers[steps], waiting]), waiting, untold, problems=tuple(problems))


def waiting_in(folder: Path) -> tuple[np.ndarray, int]:
    """The steps whose outcome a checkpoint keeps with its lanes, since it is not yet in replay: int64 [N]; and how many
    more will be counted with them."""
    lanes = checkpoint.load_state(folder / LANES) if (folder / LANES).is_dir() else {"groups": []}
    found, counted = [], 0
    for group in lanes["groups"]:
        if not group["steps"]:
            continue
        acted = ~np.asarray(group["turn"]["rests"]) & ~group["final"]
        counted += int(acted.sum())
        infos = zip(group["steps"]["infos"], acted & ~group["spoilt"], strict=True)
        found += [info[COLUMN] for info, remembered in infos if remembered and COLUMN in info]
    return np.array(found, np.int64), counted - len(found)
