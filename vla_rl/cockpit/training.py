"""How a training lets people look on, and take over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from vla_rl.algorithms.algorithm import Decision, Scorer
from vla_rl.cockpit.desk import Attached, Desk, Worth
from vla_rl.models.features import Features
from vla_rl.rollout.collector import Collector
from vla_rl.specs import STATE
from vla_rl.train_state import TrainState


def attach(folder: Path, state: TrainState) -> Attached:
    """Open a run to `vla-rl cockpit RUN` until it is closed; that costs nothing while nobody looks."""
    scorer, collector = state.algorithm.scorer, cast("Collector", state.collector)
    desk = Desk(
        lanes=state.run.train.num_envs,
        tokens=state.spec.tokens,
        tasks=collector.lane_tasks,
        cameras=list(state.spec.observation.images),
        stack=state.run.replay.stack,
        worth=None if scorer is None else worth_by(scorer, state.policy.device),
    )
    collector.pilot = desk
    return Attached(folder, desk)


def worth_by(scorer: Scorer, device: torch.device) -> Worth:
    """What a scorer makes of one row of a decision, from the features that were worked out to take it."""

    def worth(observation: Mapping[str, Any], decision: Decision, row: int) -> float:
        packed = {name: torch.as_tensor(value[row : row + 1]).to(device) for name, value in decision.features.items()}
        numbers = torch.as_tensor(observation[STATE][row : row + 1]) if STATE in observation else torch.zeros(1, 0)
        grounded = Features.unpack(packed, {STATE: numbers.to(device)})
        tokens = torch.as_tensor(decision.tokens[row], device=device)[None, None]
        return float(scorer(grounded, tokens)[0, 0])

    return worth
