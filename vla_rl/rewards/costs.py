"""What costs are to an actor beside success: a price, a budget, or what decides between equals. Imports no torch.

Each ranks decisions by the success that they promise, Q, and by what they will cost. Shapes: B rows, N decisions a row.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from vla_rl.replay import EndedEpisode, EpisodeListener
from vla_rl.specs import COST

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class CostUse(Protocol):
    """A frozen dataclass whose fields are its config.

    start: the multiplier that a run begins with, in units of value for one unit of cost.
    """

    @property
    def start(self) -> float: ...

    def adjusted(self, multiplier: float, spent: float, risen: float) -> float:
        """The multiplier from now on, when the latest episodes `spent` so much each, which has `risen` since before."""

    def rank(self, q_BN: Tensor, cost_BN: Tensor, multiplier: float) -> Tensor:
        """What decisions are worth by success and cost, float32 [B, N]: the more, the rather they are taken."""


@dataclass(frozen=True)
class Price:
    """A fixed price: decisions are worth Q - c * cost.

    c: in units of value for one unit of cost.
    """

    c: float

    def __post_init__(self) -> None:
        if self.c < 0:
            raise ValueError(f"c: a price is at least 0, got {self.c}")

    @property
    def start(self) -> float:
        """The price."""
        return self.c

    def adjusted(self, multiplier: float, spent: float, risen: float) -> float:
        """The price, whatever was spent."""
        return multiplier

    def rank(self, q_BN: Tensor, cost_BN: Tensor, multiplier: float) -> Tensor:
        """See `CostUse`."""
        return q_BN - multiplier * cost_BN


@dataclass(frozen=True)
class Budget:
    """A mean cost of an episode that is not to be exceeded, by a price that follows what is spent (a Lagrangian).

    The price lambda begins at 0. At every update of the actor it becomes [lambda + rate * (C - limit) + damping * (C -
    C before)]_+, where C is the mean cost of the latest episodes while collecting, those of all processes together.

    limit: of an episode's cost, not discounted. rate: of the price. recent: episodes that C is the mean of, in each
    process; few, and it is noise; many, and it tells of an actor that is no more. most: of the price, so that a budget
    that cannot be kept does not drive it without end. damping: by how much the price follows a rise or fall of C at
    once; one that only adds up what was too much comes late, stays long, and swings (arXiv 2007.03964).
    """

    limit: float
    rate: float = 0.01
    recent: int = 50
    most: float = 10.0
    damping: float = 0.5

    def __post_init__(self) -> None:
        if min(self.limit, self.damping) < 0 or min(self.rate, self.most) <= 0 or self.recent < 1:
            raise ValueError(f"limit, damping: at least 0; rate, most: above 0; recent: at least 1; got {self}")

    @property
    def start(self) -> float:
        """Nothing: as if there were no costs."""
        return 0.0

    def adjusted(self, multiplier: float, spent: float, risen: float) -> float:
        """The price from now on."""
        change = self.rate * (spent - self.limit) + self.damping * risen
        return min(max(multiplier + change, 0.0), self.most)

    def rank(self, q_BN: Tensor, cost_BN: Tensor, multiplier: float) -> Tensor:
        """See `CostUse`."""
        return q_BN - multiplier * cost_BN


@dataclass(frozen=True)
class Lexicographic:
    """Success first: of the decisions whose Q is within epsilon of the best one's, the cheapest (arXiv 2604.08545).

    A price, however small, trades success for cost somewhere, and however large, is too small elsewhere; this one
    does neither. Of those that are about as cheap as the cheapest, the one of the highest Q comes first: what a policy
    can decide mostly differs by less than epsilon, so that without that it would not learn to succeed.

    epsilon: in units of value; more than what success in fewer steps is worth. apart: in units of cost; decisions whose
        costs are nearer together are alike: about what the cost critic errs by.
    """

    epsilon: float = 0.05
    apart: float = 0.05

    def __post_init__(self) -> None:
        if self.epsilon <= 0 or self.apart <= 0:
            raise ValueError(f"epsilon, apart: above 0, got {self}")

    @property
    def start(self) -> float:
        """There is no price."""
        return 0.0

    def adjusted(self, multiplier: float, spent: float, risen: float) -> float:
        """There is none."""
        return multiplier

    def rank(self, q_BN: Tensor, cost_BN: Tensor, multiplier: float) -> Tensor:
        """Q of the cheapest that are within epsilon of the best; below them the dearer ones that are, the cheapest of
        these first; and below those all others, by Q."""
        best_B1 = q_BN.amax(1, keepdim=True)
        near_BN = q_BN >= best_B1 - self.epsilon
        least_B1 = cost_BN.masked_fill(~near_BN, float("inf")).amin(1, keepdim=True)
        most_B1 = cost_BN.masked_fill(~near_BN, float("-inf")).amax(1, keepdim=True)
        dear_BN = (cost_BN - least_B1) / (most_B1 - least_B1).clamp_min(self.apart)
        cheap_BN = cost_BN <= least_B1 + self.apart
        within_BN = q_BN.where(cheap_BN, best_B1 - self.epsilon * (1 + dear_BN))
        return within_BN.where(near_BN, q_BN - self.epsilon)


class RealisedCosts(EpisodeListener):
    """What the latest episodes of a run cost, each in all; demonstrations do not count.

    recent: episodes.
    """

    def __init__(self, recent: int) -> None:
        self._spent = deque[float](maxlen=recent)

    def on_episode(self, episode: EndedEpisode) -> dict[str, np.ndarray]:
        """Keep its cost."""
        if not episode.demo:
            self._spent.append(float(episode.signals[COST].sum()))
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The costs."""
        return {"spent": list(self._spent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._spent = deque(state["spent"], self._spent.maxlen)

    @property
    def total(self) -> tuple[int, float]:
        """How many episodes that are, and what they cost together."""
        return len(self._spent), sum(self._spent)
