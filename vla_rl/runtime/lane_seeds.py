"""The seeds that a run's lanes begin with: none twice, in whichever process and resumption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from vla_rl.runtime.learner import Learner
from vla_rl.specs import training_seeds

LANES_FILE = "lanes.json"
"""Of a run's folder: how many lanes it has begun with a seed."""
SPARE = 100
"""Further lanes that are counted with each start of a process, whose seeds are for those that lose an episode."""


def lane_seeds(seed: int, lanes: int, learner: Learner, folder: Path) -> tuple[list[int], Iterator[int]]:
    """The seeds that this process's lanes begin with, and those that they begin anew with after a loss.

    None is one that a lane of the run has begun with before, up to `SPARE` losses.
    """
    begun = int(learner.total(lanes_begun(folder) if learner.rank == 0 else 0)[0])
    own = lanes + SPARE
    seeds = training_seeds(seed, begun + learner.rank * own, own)
    return seeds[:lanes], cycle(seeds[lanes:])


def lanes_begun(folder: Path) -> int:
    """How many lanes the run ever began, in all of its processes and resumptions."""
    path = folder / LANES_FILE
    return json.loads(path.read_text("utf-8"))["begun"] if path.exists() else 0


def count_lanes(folder: Path, processes: int, lanes: int) -> None:
    """Count a start of so many processes, each with so many lanes, in a file of the run and in none of its checkpoints.

    A run that goes back to an older checkpoint has begun lanes since.
    """
    draft = folder / f".{LANES_FILE}.part"
    draft.write_text(json.dumps({"begun": lanes_begun(folder) + processes * (lanes + SPARE)}), "utf-8")
    draft.replace(folder / LANES_FILE)
