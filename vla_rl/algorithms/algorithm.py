"""The contract of an algorithm: what it gives to those who act, and to the loop that has it learn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.replay import EpisodeListener
from vla_rl.replay.batch import Batch


@dataclass(frozen=True)
class Decision:
    """What acting gives: tokens int64 [B, K], the frozen features for replay, by name the arrays [B, ...] of the
    signals that the algorithm's needs declare, and what the next observation is to be remembered with, if anything.

    Where replay keeps no features, they are those that the decision was taken from.
    """

    tokens: np.ndarray
    features: dict[str, np.ndarray]
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    remembered: np.ndarray | None = None


class Explores(Protocol):
    """Decides while collecting."""

    def __call__(self, observation: dict[str, Any], lanes: slice | None = None) -> Decision:
        """Decide for a batch of observations; lanes: which of all lanes they are of."""


class Scorer(Protocol):
    """Says what decisions are worth."""

    def __call__(self, grounded: Features, tokens_BNK: Tensor) -> Tensor:
        """Q float32 [B, N] of decisions int64 [B, N, K], from the frozen features of B observations."""


class ActsByScorer(Protocol):
    """What an algorithm has besides, some of whose lanes act by its scorer (`Needs.best_of`).

    falls_back: whether it does without its scorer, for now.
    """

    @property
    def falls_back(self) -> bool: ...

    def trust(self, critic: bool) -> None:
        """Take note that acting by the scorer is known to be worse than acting without it (False), or no longer is."""


class Listens(Protocol):
    """What an algorithm has besides that hears of episodes (`Needs.listens`)."""

    @property
    def listeners(self) -> list[EpisodeListener]:
        """Each hears of every one that ends while collecting, and has no columns."""


class Adapts(Protocol):
    """What an algorithm has besides that adapts to a world that shifts (`Needs.adapts`)."""

    @property
    def recent(self) -> tuple[int, float]:
        """The first row of replay of after the last shift, and which share of own experience is drawn from there on."""


class Algorithm(Protocol):
    """Explores, and learns from batches of replay; its config says what it needs (`AlgorithmConfig`).

    settings: its config. policy: what it trains.
    """

    settings: Any
    policy: Policy

    @property
    def scorer(self) -> Scorer | None:
        """What ranks decisions; None where nothing does."""

    def explore(self, observation: dict[str, Any], lanes: slice | None = None) -> Decision:
        """Decide while collecting; lanes: which of all lanes the observations are of."""

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from a batch; returns metrics."""

    def priorities(self) -> Tensor:
        """How much each row of the last batch is to be learnt from again, float32 [B]: |Q - target|, or the like."""

    def anneal(self, done: float) -> None:
        """Take note that the share `done` in [0, 1] of the run is over."""

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the policy's own weights that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
