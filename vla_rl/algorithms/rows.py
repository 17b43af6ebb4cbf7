"""A batch of replay on the device, with the frozen features that critic and actor read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_rl.augment import Augment
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.replay.batch import Batch


@dataclass
class Rows:
    """B rows. tokens, labels int64 [B, K]; reward, discount, returns, weight float32 [B]; demo bool [B].

    The observations' images stay uint8. `returns` is NaN where the episode's end is not known.
    """

    observation: dict[str, Any]
    next_observation: dict[str, Any]
    tokens: Tensor
    labels: Tensor
    reward: Tensor
    discount: Tensor
    returns: Tensor
    weight: Tensor
    demo: Tensor
    grounded: Features
    next_grounded: Features

    def __len__(self) -> int:
        return len(self.reward)

    @classmethod
    def of(cls, batch: Batch, policy: Policy, device: torch.device, augment: Augment | None = None) -> Rows:
        """One copy of the batch to `device`; features that it lacks are computed, of augmented pictures."""
        observation = on_device(batch.observation, device)
        next_observation = on_device(batch.next_observation, device)
        decisions = [batch.tokens, batch.labels]
        if augment:
            observation, decisions = augment(observation, decisions, policy.action_space)
            next_observation, _ = augment(next_observation)
        columns = {"tokens": decisions[0], "labels": decisions[1]}
        columns |= {name: getattr(batch, name) for name in ("reward", "discount", "returns", "weight", "demo")}
        return cls(
            observation=observation,
            next_observation=next_observation,
            **{name: torch.from_numpy(value).to(device, non_blocking=True) for name, value in columns.items()},
            grounded=_grounded(batch.features, observation, policy),
            next_grounded=_grounded(batch.next_features, next_observation, policy),
        )

    def thin(self, rows: int) -> Rows:
        """`rows` of these, evenly spaced, so that every source in the batch keeps its share."""
        index = torch.arange(0, len(self), max(len(self) // rows, 1), device=self.reward.device)[:rows]
        return Rows(**{field.name: _pick(getattr(self, field.name), index) for field in fields(self)})


def on_device(observation: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The arrays of a batched observation as tensors on `device`, in their own dtype; texts as they are."""
    return {
        key: torch.from_numpy(value).to(device, non_blocking=True) if isinstance(value, np.ndarray) else value
        for key, value in observation.items()
    }


def _grounded(cached: dict[str, np.ndarray], observation: dict[str, Any], policy: Policy) -> Features:
    if not cached:
        return policy.ground(observation)
    return Features.unpack(cached, observation)


def _pick(value: Any, index: Tensor) -> Any:
    if isinstance(value, dict):
        return {key: _pick(item, index) for key, item in value.items()}
    if isinstance(value, Features):
        return value.rows(index)
    return [value[i] for i in index.tolist()] if isinstance(value, (list, tuple)) else value[index]
