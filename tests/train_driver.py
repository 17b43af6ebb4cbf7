"""Run by tests in several processes: a run on the line, whose processes tell what is their own.

TOLD OVERRIDE...: train; each process tells in TOLD/<rank>.json what it saved last, what it took up again before, the
seeds that it was validated on, and how the run ended. With BREAK=<rank> in the environment that one's breaks down.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import torch

from vla_rl import config, resume, train, train_state
from vla_rl.evaluation.episodes import Evaluator


def own(state: train_state.TrainState) -> dict[str, Any]:
    """What a process has for itself."""
    replay, weights = state.replay, state.learner.weights(state.policy)
    return {
        "weights": sum(float(value.double().sum()) for value in weights.values() if state.learner.rank == 0),
        "generator": str(state.rng.bit_generator.state["state"]["state"]),
        "torch": float(torch.get_rng_state().double().sum()),
        "rows": len(replay),
        "places": float(replay.observations(np.arange(replay.added))["observation.state"].sum()),
        "episodes": state.collector.episodes,
    }


def tell(folder: Path, overrides: list[str]) -> None:
    told: dict[str, Any] = {"validated": []}
    save, restore, evaluate = resume.save, resume.restore, Evaluator.tasks

    def saving(run_dir: Path, step: int, state: train_state.TrainState, *lanes: Any) -> Path:
        told["saved"] = own(state)
        return save(run_dir, step, state, *lanes)

    def restoring(run_dir: Path, state: train_state.TrainState) -> int:
        step = restore(run_dir, state)
        told["restored"] = own(state)
        return step

    def evaluating(self: Evaluator, actor: Any, seeds: Any, *rest: Any, **further: Any) -> Any:
        told["validated"] += list(seeds)
        return evaluate(self, actor, seeds, *rest, **further)

    train.save, train.restore, Evaluator.tasks = saving, restoring, evaluating  # type: ignore[method-assign]
    try:
        train.train(config.load(overrides))
        told["ended"] = "well"
    except Exception as error:
        told["ended"] = f"{type(error).__name__}: {error}"
    folder.mkdir(exist_ok=True)
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    fakes.Breaks.left = 30 if os.environ.get("BREAK") == os.environ["RANK"] else 10**9
    tell(Path(sys.argv[1]), sys.argv[2:])
