"""The contract of an algorithm: what it gives to those who act, and to the loop that has it learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from vla_rl.models.policy import Policy
from vla_rl.replay.batch import Batch


@dataclass(frozen=True)
class Decision:
    """What acting gives: tokens int64 [B, K], the frozen features for replay, and Q of each (float32 [B]) where the
    critic was asked."""

    tokens: np.ndarray
    features: dict[str, np.ndarray]
    q: np.ndarray | None = None


class Algorithm(Protocol):
    """Acts, and learns from batches of replay. settings: its config. policy: what it trains."""

    settings: Any
    policy: Policy

    @property
    def td_error(self) -> Tensor:
        """|Q - target| of each row of the last batch, float32 [B]."""

    def act(self, observation: dict[str, Any], best_of: int = 1, greedy: bool = False) -> Decision:
        """Decide for a batch of observations: greedily, or by the highest Q of `best_of` samples."""

    def explore(self, observation: dict[str, Any], lanes: slice | None = None) -> Decision:
        """Decide while collecting; lanes: which of all lanes the observations are of."""

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from a batch; returns metrics."""

    def anneal(self, done: float) -> None:
        """Take note that the share `done` in [0, 1] of the run is over."""

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the policy's own weights that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""

    def load_critic(self, state: dict[str, Any]) -> None:
        """Take what deciding by Q needs of `state_dict`."""
