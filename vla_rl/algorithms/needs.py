"""What an algorithm asks of the run, told before anything is built. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from vla_rl.replay.reader import Following
from vla_rl.rewards.credit import Credit
from vla_rl.specs import Signal, Truncation


@dataclass(frozen=True)
class Needs:
    """What an algorithm asks of replay, of the policy and of the environments.

    batch_size: rows of a batch. demo_share: of them from demonstrations, and from what people did
        who took over, in [0, 1].
    gamma, truncation: of the returns that replay works out; see `ReplayBuffer`. gamma is None where the config's own
        field `gamma` is to be worked out from demonstrations, see `build.with_gamma`.
    finished_only: whether only rows of episodes that have ended are learnt from.
    following: of which rows the next observation is wanted. to_end: the share of the rows whose n-step walk goes to
        the episode's end. one_step: the share whose transition is of one step; see `ReplayBuffer.sample`.
    n_step: steps of the transitions; None: as the run's replay says. going_on: the chance that one is of one more step
        than it is.
    value_range: what has to hold every discounted return; None where nothing has to.
    augments: whether pictures are changed before they are encoded, so that cached features are of no use.
    shifts: whether they are moved, so that what was found in those before is no longer where it was.
    reference: whether a frozen copy of the policy that the run starts from is wanted.
    held: whether observations of tasks that the run holds (`train.held`) are wanted.
    best_of: of how many samples lanes that act by what ranks decisions take the best; 0 where none do. If some do, the
        algorithm hears how that goes (`ActsByScorer`), and declares the column `ACTING`.
    listens: whether the algorithm hears of the episodes that end in its process (`Listens`).
    adapts: whether the algorithm says how own experience is drawn by now (`Adapts`).
    columns: signals that `Decision.extras` hold, for replay to keep.
    credit: works out further columns when an episode has ended, or credit as decisions are taken; None for nothing.
    """

    batch_size: int
    demo_share: float = 0.0
    gamma: float | None = 0.99
    truncation: Truncation = "bootstrap"
    finished_only: bool = False
    following: Following = True
    to_end: float = 0.0
    one_step: float = 0.0
    n_step: int | None = None
    going_on: float = 0.0
    value_range: tuple[float, float] | None = None
    augments: bool = False
    shifts: bool = False
    reference: bool = False
    held: bool = False
    best_of: int = 0
    listens: bool = False
    adapts: bool = False
    columns: tuple[Signal, ...] = ()
    credit: Credit | None = None
