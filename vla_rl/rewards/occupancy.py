"""What strays from where a trusted policy goes costs: penalties for `algorithm.occupancy`. Imports no torch.

A reward is a proxy for what is wanted, and the two go together where a trusted policy, the reference, goes. The further
the occupancy mu of a policy (how often it takes which decision where) is from the reference's, the less that says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

LEAST = 0.01
"""A divergence counts as at least this much where its root is divided by."""


@runtime_checkable
class OccupancyPenalty(Protocol):
    """A frozen dataclass whose fields are its config.

    reference: whose occupancy counts as trusted: that of the demonstrations, that of the run's own episodes before its
    actor learns, or both alike. start: rows of those episodes that are kept. recent: so many of the latest rows of own
    experience tell where the policy goes. share: of a batch's rows, those with transitions of one step. most: the
    largest density ratio that is believed.
    """

    @property
    def reference(self) -> Literal["demos", "start", "both"]: ...

    @property
    def start(self) -> int: ...

    @property
    def recent(self) -> int: ...

    @property
    def share(self) -> float: ...

    @property
    def most(self) -> float: ...

    def divergence(self, excess: float) -> float:
        """What is penalised, where the mean of the density ratio less 1 over the policy's decisions is `excess`."""

    def price(self, excess: float) -> float:
        """What a decision loses, in units of reward, for each unit by which its density ratio is above 1."""


@dataclass(frozen=True)
class ChiSquared:
    """Maximises E[reward] - weight * chi(policy || reference), where chi^2 = E_mu[mu / mu_ref - 1] (ORPO, 2403.03185).

    The gradient of that is the one of a reward that is less by weight / chi * (mu / mu_ref - 1) at each decision.

    weight: in units of reward for one unit of chi; the paper's bound asks for the standard deviation of the reward,
        times sqrt(1 - r^2), where r is the reward's correlation with what is wanted under the reference.
    root: whether chi itself counts, as in the paper's bound, or its square, which asks hardly anything of a policy
        that is near; then a decision loses 2 * weight * (mu / mu_ref - 1).
    reference, start, recent, share, most: see `OccupancyPenalty`.
    """

    weight: float = 0.1
    root: bool = True
    reference: Literal["demos", "start", "both"] = "both"
    start: int = 512
    recent: int = 4000
    share: float = 0.5
    most: float = 20.0

    def __post_init__(self) -> None:
        if self.weight < 0 or not 0 < self.share <= 1 or self.most <= 1:
            raise ValueError(f"weight: at least 0; share: in (0, 1]; most: above 1; got {self}")
        if min(self.start, self.recent) < 1:
            raise ValueError(f"start, recent: at least 1; got {self.start} and {self.recent}")

    def divergence(self, excess: float) -> float:
        """See `OccupancyPenalty`."""
        return math.sqrt(max(excess, 0.0)) if self.root else max(excess, 0.0)

    def price(self, excess: float) -> float:
        """See `OccupancyPenalty`."""
        return self.weight / math.sqrt(max(excess, LEAST)) if self.root else 2.0 * self.weight
