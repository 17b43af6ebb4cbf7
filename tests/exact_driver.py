"""Run by tests in processes of their own: a training that is told to stop somewhere, and tells what it ended with.

TOLD STOP OVERRIDE...: train. Once the run is over, each process writes into TOLD/<rank>.json the digests of all that it
is made of; nothing where it was told to stop before. STOP is when it is sent a SIGTERM: `turn:<n>` as it acts for the
n-th time, `eval:<n>` at the n-th decision of its evaluations, or `never`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from vla_rl import config, resume, train
from vla_rl.rollout.actor import Actor
from vla_rl.rollout.collector import Collector
from vla_rl.train_state import TrainState


def digests(folder: Path, state: TrainState) -> dict[str, str]:
    """Of all that a run is made of."""
    replay = state.replay
    ring = replay._ring
    ids = np.arange(ring.oldest, ring.head)
    ids = ids[ring.alive(ids)]
    sampleable = replay.sampleable_ids()
    log = folder / "metrics.jsonl"
    metrics = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    told = [{key: value for key, value in line.items() if not key.startswith("time")} for line in metrics]
    progress = {**state.progress.state_dict(), "seconds": 0.0, "step": state.progress.step}
    progress["due"]["done"].pop("save", None)  # runs that save more often than others do all else alike
    parts: dict[str, Any] = {
        "weights": state.policy.state_dict(),
        "algorithm": state.algorithm.state_dict(),
        "rows": [ids, replay.recorded(ids), ring.columns["returns"][ids % ring.capacity]],
        "sampleable": [sampleable, replay.observations(sampleable), replay.state_dict()],
        "lanes": [ring.state()[name] for name in ("head", "oldest", "episodes", "phase", "recent", "episode")],
        "random": resume.own_state(state)["rng"],
        "progress": progress,
        "metrics": told,
    }
    return {name: digest(value) for name, value in parts.items()}


def digest(value: Any) -> str:
    found = hashlib.sha256()
    _add(value, found.update)
    return found.hexdigest()


def _add(value: Any, update: Callable[[bytes], None]) -> None:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            update(f"{key}:".encode())
            _add(value[key], update)
    elif isinstance(value, list | tuple):
        for each in value:
            _add(each, update)
    elif isinstance(value, DTensor):
        _add(value.to_local(), update)
    elif isinstance(value, torch.Tensor):
        _add(value.detach().cpu().numpy(), update)
    elif isinstance(value, np.ndarray):
        update(f"{value.dtype}{value.shape}".encode())
        update(np.ascontiguousarray(value).tobytes())
    else:
        update(f"{value!r};".encode())


def stop_at(kind: str, number: int) -> None:
    """Have the process be told to stop, once."""
    where: tuple[type, str] = {"turn": (Collector, "step"), "eval": (Actor, "__call__")}[kind]
    method = getattr(*where)
    calls = 0

    def counted(self: Any, *arguments: Any, **further: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return method(self, *arguments, **further)

    setattr(*where, counted)


def main(folder: Path, stop: str, overrides: list[str]) -> None:
    """Train; see above."""
    if stop != "never":
        kind, number = stop.split(":")
        stop_at(kind, int(number))
    told = dict[str, Any]()
    save = train.save

    def saving(run_dir: Path, step: int, state: TrainState, *lanes: Any) -> Path:
        told.update(digests(run_dir, state))
        return save(run_dir, step, state, *lanes)

    train.save = saving
    try:
        train.train(config.load(overrides))
    except SystemExit as end:
        if end.code != train.INTERRUPTED:
            raise
        told = {}
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
