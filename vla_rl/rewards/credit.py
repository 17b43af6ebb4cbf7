"""Which decisions of an episode its return is due to: credit estimators, for `algorithm.credit`. Imports no torch.

All have one interface, `Credit`. Some say how the critic's target looks ahead (`Backup`), and nothing else. Others work
something out when an episode has ended, in columns of replay: what its rewards count for (`REWARD`), or by how much a
decision was better than usual (`CREDIT`). See `credit_tables` for those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from vla_rl.replay import EpisodeListener
from vla_rl.specs import CREDIT, Signal, Truncation


@dataclass(frozen=True)
class Backup:
    """How the critic's target looks ahead; None: as the other settings say.

    n_step: steps, instead of `replay.n_step`. mc_weight: instead of `algorithm.mc_weight`. going_on: the chance that
    it is of one more step than it is, see `ReplayBuffer.sample`.
    """

    n_step: int | None = None
    mc_weight: float | None = None
    going_on: float = 0.0


@runtime_checkable
class Credit(Protocol):
    """A frozen dataclass whose fields are its config."""

    @property
    def backup(self) -> Backup:
        """How the critic's target looks ahead."""

    @property
    def columns(self) -> tuple[Signal, ...]:
        """What it works out of each decision of an episode that has ended: `REWARD`, `CREDIT`, or nothing."""

    @property
    def acted(self) -> tuple[Signal, ...]:
        """What is told of a decision as it is taken: `CREDIT`, by `rollout.resets`, or nothing."""

    def book(self, gamma: float, truncation: Truncation) -> CreditBook:
        """What it will know of a run, with this discount of a decision; asked only where it has columns."""


class CreditBook(Protocol):
    """What one run's estimator knows. One for all replays of a process, so that they count alike."""

    def listener(self) -> EpisodeListener:
        """What hears of one replay's episodes, and works out the columns."""


@dataclass(frozen=True)
class _Setting:
    """Those that only say how the target looks ahead."""

    @property
    def columns(self) -> tuple[Signal, ...]:
        """Nothing."""
        return ()

    @property
    def acted(self) -> tuple[Signal, ...]:
        """Nothing."""
        return ()

    def book(self, gamma: float, truncation: Truncation) -> Any:
        """Never asked for."""
        raise NotImplementedError(f"{type(self).__name__} works nothing out")


@dataclass(frozen=True)
class OneStep(_Setting):
    """r + gamma V(s'): credit wanders back by one decision at a time.

    With `action_space={type: chunk}` a decision is a chunk, and this is the chunked backup (Q-chunking, 2507.07969).
    """

    @property
    def backup(self) -> Backup:
        """One decision, and no observed return."""
        return Backup(n_step=1, mc_weight=0.0)


@dataclass(frozen=True)
class NStep(_Setting):
    """The rewards of n decisions, and V at what follows."""

    n: int = 3

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n: at least 1, got {self.n}")

    @property
    def backup(self) -> Backup:
        """So many decisions, and no observed return."""
        return Backup(n_step=self.n, mc_weight=0.0)


@dataclass(frozen=True)
class Lambda(_Setting):
    """The lambda-return: all n-step targets, that of n weighing (1 - decay) decay^(n - 1).

    n is drawn anew for each row of each batch, so that the mean over batches is the lambda-return of the present
    critic; no values are stored that would grow old.
    """

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 < self.decay < 1.0:
            raise ValueError(
                f"decay: in (0, 1), got {self.decay}; 0 is {{type: one_step}}, and 1 is {{type: monte_carlo}}"
            )

    @property
    def backup(self) -> Backup:
        """So many decisions as are drawn, and no observed return."""
        return Backup(mc_weight=0.0, going_on=self.decay)


@dataclass(frozen=True)
class MonteCarlo(_Setting):
    """The return that was observed: every decision of an episode is held to have brought it about."""

    @property
    def backup(self) -> Backup:
        """The observed return alone."""
        return Backup(mc_weight=1.0)


@dataclass(frozen=True)
class Resets(_Setting):
    """Counterfactual resets (arXiv 2605.25507): A(s, c) = mean return after (s, c) - mean return after s.

    Worked out while collecting, by going back to a state: for environments that can (`snapshot`, `restore`). Costs
    `share` * 2 * `rollouts` rest-of-episodes a decision.

    share: of the decisions, those whose credit is worked out. rollouts: of each of the two means.
    """

    share: float = 0.02
    rollouts: int = 8

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0 or not 1 <= self.rollouts <= 1024:
            raise ValueError(f"share: in (0, 1]; rollouts: in [1, 1024]; got {self.share} and {self.rollouts}")

    @property
    def backup(self) -> Backup:
        """As the other settings say."""
        return Backup()

    @property
    def acted(self) -> tuple[Signal, ...]:
        """By how much a decision was better than usual, and whether that was worked out."""
        return (CREDIT,)
