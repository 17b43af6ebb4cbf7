"""A batch of replay on the device, with the frozen features that critic and actor read."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_rl.algorithms.augment import Augment
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.models.transfer import sent
from vla_rl.replay.batch import Batch
from vla_rl.specs import CREDIT, TASK

PLAIN = ("reward", "discount", "returns", "rest", "weight", "demo", "steps")
"""Columns that are taken as they are."""


@dataclass
class LearnerBatch:
    """B rows. tokens, labels int64 [B, K]; reward, discount, returns, weight float32 [B]; demo bool [B]; steps int64
    [B].

    The observations' images stay uint8. `returns` is NaN where the episode's end is not known, and `rest` float32 [B]
    the discount of what would have followed it; see `Batch`. `next_grounded` is None where nobody asked for it.
    `next_observation`, `next_grounded`: of the rows `followed` int64 [C]; of all where that is None.
    `extra`, `extra_returns`: the signals, see `Batch`. `trust` float32 [B]: how far each row still tells how the world
    is, in [0, 1]; None where nobody doubts it.
    """

    observation: dict[str, Any]
    next_observation: dict[str, Any]
    tokens: Tensor
    labels: Tensor
    reward: Tensor
    discount: Tensor
    returns: Tensor
    rest: Tensor
    weight: Tensor
    demo: Tensor
    steps: Tensor
    grounded: Features
    next_grounded: Features | None
    followed: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)
    extra_returns: dict[str, Tensor] = field(default_factory=dict)
    trust: Tensor | None = None

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def credit(self) -> Tensor | None:
        """By how much each decision was better than usual, and how far that is to be believed, float32 [B, 2]."""
        return self.extra.get(CREDIT.name)

    @classmethod
    def of(
        cls,
        batch: Batch,
        policy: Policy,
        device: torch.device,
        augment: Augment | None = None,
        following: bool = True,
    ) -> LearnerBatch:
        """One copy of the batch to `device`; features that it lacks are computed, of augmented pictures.

        following: whether the features of the next observations are wanted too.
        """
        observation = on_device(batch.observation, device)
        next_observation = on_device(batch.next_observation, device)
        followed = None if batch.followed is None else np.flatnonzero(batch.followed)
        decisions = [batch.tokens, batch.labels]
        shown = None if batch.shown is None else list(np.swapaxes(batch.shown, 0, 1))
        if shown and followed is not None:
            shown[1] = shown[1][followed]
        if augment:
            assert not batch.features, "features of pictures as they are, for augmented ones"
            shown = None  # every row's pictures change in a way of their own
            observation, decisions = augment(observation, decisions, policy.action_space)
            next_observation, _ = augment(next_observation)
        columns = {"tokens": decisions[0], "labels": decisions[1]}
        seen = [(batch.features, observation), (batch.next_features, next_observation)][: 1 + following]
        grounded = _grounded(seen, shown, policy)
        columns |= {name: getattr(batch, name) for name in PLAIN}
        return cls(
            observation=observation,
            next_observation=next_observation,
            **{name: sent(value, device) for name, value in columns.items()},
            grounded=grounded[0],
            next_grounded=grounded[1] if following else None,
            followed=None if followed is None else sent(followed, device),
            extra=on_device(batch.extra, device),
            extra_returns=on_device(batch.extra_returns, device),
        )

    def trusted(self, weights: Tensor) -> Tensor:
        """Weights [B, ...] of the actor's loss, as far as the rows are trusted."""
        return weights if self.trust is None else weights * self.trust.view(-1, *[1] * (weights.dim() - 1))

    def of_followed(self, column: Tensor) -> Tensor:
        """Of a column [B, ...], the rows that have a next observation, [C, ...]."""
        return column if self.followed is None else column[self.followed]

    def subsample(self, rows: int) -> LearnerBatch:
        """`rows` of these, evenly spaced, so that every source in the batch keeps its share; without what follows."""
        step = max(len(self) // rows, 1)
        some = slice(0, rows * step, step)
        alone = replace(self, next_observation={}, next_grounded=None, followed=None)
        return LearnerBatch(**{each.name: _pick(getattr(alone, each.name), some) for each in fields(self)})


def on_device(observation: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The arrays of a batched observation as tensors on `device`, in their own dtype; texts as they are."""
    return {key: sent(value, device) if isinstance(value, np.ndarray) else value for key, value in observation.items()}


Seen = tuple[dict[str, np.ndarray], dict[str, Any]]
"""The cached features of a batch's observations, if any, and the observations."""


def _grounded(seen: list[Seen], shown: list[np.ndarray] | None, policy: Policy) -> list[Features]:
    """The features of each batch of observations, cached or computed."""
    if seen[0][0]:
        return [Features.unpack(cached, observation) for cached, observation in seen]
    observations = [observation for _, observation in seen]
    if shown is None:
        first, *later = observations
        found = [policy.ground(first)]
        # Of several processes, the rows of one may all be last ones.
        return found + [policy.ground(each) if len(each[TASK]) else found[0].rows(slice(0)) for each in later]
    return ground_once(observations, shown[: len(seen)], policy)


def ground_once(observations: list[dict[str, Any]], shown: list[np.ndarray], policy: Policy) -> list[Features]:
    """The features of several batches of observations, whose numbers are `shown`, int64 [B, F] of each batch; what is
    shown twice is encoded once."""
    _, first, where = np.unique(np.concatenate(shown), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # as they come, whatever their numbers are: these are others in a run that was resumed
    where = np.argsort(order)[where.reshape(-1)]
    joined = _joined(observations)
    unlike = policy.ground({key: _at(value, first[order]) for key, value in joined.items()})
    found = unlike.rows(sent(where, unlike.places.device))
    ends = np.cumsum([len(numbers) for numbers in shown]).tolist()
    parts = [found.rows(slice(end - len(numbers), end)) for end, numbers in zip(ends, shown, strict=True)]
    # State and what is remembered differ where pictures and instruction do not.
    return [part.beside(observation) for part, observation in zip(parts, observations, strict=True)]


def _joined(observations: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows of all, in order."""
    columns = {key: [observation[key] for observation in observations] for key in observations[0]}
    return {
        key: torch.cat(values) if isinstance(values[0], Tensor) else [text for value in values for text in value]
        for key, values in columns.items()
    }


def _at(value: Any, index: np.ndarray) -> Any:
    if isinstance(value, Tensor):
        return value[sent(index, value.device)]
    return [value[i] for i in index.tolist()]


def _pick(value: Any, some: slice) -> Any:
    if isinstance(value, dict):
        return {key: _pick(item, some) for key, item in value.items()}
    if isinstance(value, Features):
        return value.rows(some)
    return None if value is None else value[some]
