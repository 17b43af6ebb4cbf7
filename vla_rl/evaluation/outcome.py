"""What became of evaluation episodes: successes, and the interval that their share lies in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vla_rl.specs import TALLIES, Z


@dataclass(frozen=True)
class Sight:
    """What the policy of a filmed episode saw through one camera, over N decisions.

    pictures: N + 1 uint8 frames [H, W, 3] of the camera. texts: the task's text before each decision. pointers: float32
    [N, S, 3], where each named thing was thought to be, x and y in [-1, 1] and how surely it was seen, the own hand
    last; empty where nothing points. hand: N + 1 places (x, y) of the hand in the film; empty where the environment
    does not say. same_view: whether the film's frames show what the camera sees. action_names: of an action's numbers,
    where the environment tells them.
    """

    camera: str
    pictures: tuple[np.ndarray, ...]
    texts: tuple[str, ...] = ()
    pointers: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.float32))
    hand: tuple[tuple[float, float], ...] = ()
    same_view: bool = True
    action_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """One evaluation episode.

    `task`: the instruction. `success`: at the end of the episode. `length`: simulator steps.
    `invalid`: the environment, not the policy, failed; such an episode counts neither way.
    `tokens` int64 [N, K]: the N decisions. `q` [N]: the critic's value of each; empty without a critic.
    `frames`: N + 1 uint8 frames [H, W, 3], the last one after the end; None unless the episode was filmed.
    `cost`: the sum of `info["cost"]`. `error`: why it is invalid, by `info["error"]`; "" where nothing is said.
    `tallies`: what its last `info` told of it by name, see `specs.TALLIES`.
    `rewards` [N]: of each decision. `sight`: what the policy saw, of a filmed episode.
    `stage`: of a world that shifts in mid-run, by its `info["stage"]`; None where there is none, or before the first.
    """

    seed: int
    task: str
    success: bool
    sum_reward: float
    max_reward: float
    length: int
    invalid: bool
    tokens: np.ndarray
    q: tuple[float, ...] = ()
    frames: tuple[np.ndarray, ...] | None = None
    cost: float = 0.0
    tallies: Mapping[str, float] = field(default_factory=dict)
    stage: int | None = None
    error: str = ""
    rewards: tuple[float, ...] = ()
    sight: Sight | None = None

    @classmethod
    def lost(cls, seed: int, error: str) -> Outcome:
        """One that was never played to its end, because of `error`."""
        return cls(seed, "", False, 0.0, 0.0, 0, True, np.zeros((0, 0), np.int64), error=error)


@dataclass(frozen=True)
class EvalResult:
    """The episodes of one policy in one environment, in the order of their seeds, and the time they took."""

    env: str
    outcomes: tuple[Outcome, ...]
    seconds: float = 0.0

    @property
    def valid(self) -> tuple[Outcome, ...]:
        """The episodes that count."""
        return tuple(outcome for outcome in self.outcomes if not outcome.invalid)

    @property
    def n_invalid(self) -> int:
        """Episodes that the environment spoilt."""
        return len(self.outcomes) - len(self.valid)

    @property
    def successes(self) -> int:
        """Successful episodes."""
        return sum(outcome.success for outcome in self.valid)

    @property
    def pc_success(self) -> float:
        """Success in percent; NaN without a valid episode."""
        return percent(self.successes, len(self.valid))

    @property
    def ci95(self) -> tuple[float, float]:
        """The 95% Wilson interval of `pc_success`, in percent."""
        return wilson(self.successes, len(self.valid))

    @property
    def mean_cost(self) -> float:
        """Of a valid episode; 0 without one."""
        return sum(outcome.cost for outcome in self.valid) / max(len(self.valid), 1)

    @property
    def tallies(self) -> dict[str, float]:
        """The means of what valid episodes tell of themselves, by name."""
        return mean_tallies(self.valid)

    def films(self, success: bool) -> list[Outcome]:
        """The filmed successes, or the filmed failures."""
        return [outcome for outcome in self.valid if outcome.frames is not None and outcome.success == success]


def mean_tallies(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The mean of each of `specs.TALLIES` over the episodes that tell it; nothing of those that none tells."""
    told = {name: [each.tallies[name] for each in outcomes if name in each.tallies] for name in TALLIES}
    return {name: float(np.mean(values)) for name, values in told.items() if values}


@dataclass(frozen=True)
class Tally:
    """Successes of so many valid episodes."""

    won: int
    episodes: int

    @property
    def rate(self) -> float:
        """In percent; NaN of no episode."""
        return percent(self.won, self.episodes)


def percent(successes: int, episodes: int) -> float:
    """`successes` of `episodes` in percent; NaN of none."""
    return 100.0 * successes / episodes if episodes else math.nan


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a success rate, in percent; (0, 100) without an episode."""
    if episodes == 0:
        return 0.0, 100.0
    share, weight = successes / episodes, Z**2 / episodes
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / episodes + weight / (4 * episodes)) / (1 + weight)
    # 0 and 1 are exact but for rounding.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == episodes else middle + half
    return 100.0 * low, 100.0 * high
