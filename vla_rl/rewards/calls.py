"""What a call of a tool is worth: the return with it, less the return without (TACO, arXiv 2606.30251)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CallValue:
    """How the value of calls is found, and how much the actor goes by it.

    A call is a decision of one of the `kinds` of commands. In a share of the states, a call and another decision of the
    policy are each carried out from a snapshot of the environment, and the policy acts on, with the same random
    numbers. The difference of the returns is the value, exact but for luck. The critic's difference learns it, and the
    actor prefers the better one of the two. In all other states, and everywhere if the environment has no snapshots,
    the value is learned: Q(s, call) less the most that Q says of other decisions.

    share: of a run's decisions, so many states are followed up, with 2 x `rollouts` episodes from there on each; 0: the
        learned value alone.
    keep: so many of the latest are learned from. batch: of them at once.
    weight: of this preference in the actor's loss. temperature: of the preference, in units of value.
    """

    kinds: tuple[str, ...] = ("call",)
    share: float = 0.02
    rollouts: int = 2
    keep: int = 1024
    batch: int = 32
    weight: float = 0.3
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not self.kinds or not 0 <= self.share <= 1:
            raise ValueError(f"kinds: at least one; share: in [0, 1]; got {self.kinds} and {self.share}")
        if min(self.rollouts, self.keep, self.batch) < 1 or self.weight < 0 or self.temperature <= 0:
            raise ValueError(f"rollouts, keep, batch: at least 1; weight: at least 0; temperature: above 0; got {self}")
