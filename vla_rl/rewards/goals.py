"""Goals in hindsight, for `replay.hindsight`: what was reached later in an episode becomes what it was to reach.

A component has `share`, `horizon` (see `vla_rl.replay.Hindsight`) and `check`, and is called as `vla_rl.replay.Relabel`
says. One of your own is named by `replay.hindsight='{type: "my_module:MyGoals"}'`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rl.replay.batch import Batch
from vla_rl.specs import STATE


@dataclass(frozen=True)
class StateGoal:
    """Goals that stand in the state, as Gymnasium's goal environments have them (`desired_goal`, `achieved_goal`).

    achieved, goal: first entry of `observation.state` and the one after the last, of what is reached and of what shall
        be.
    within: how near is near enough, in the state's units; the reward is 1 then, and the episode over.
    share, horizon: of the rows, those that get such a goal; it lies at most so many steps ahead.
    """

    achieved: tuple[int, int]
    goal: tuple[int, int]
    within: float
    share: float = 0.8
    horizon: int = 50

    def __post_init__(self) -> None:
        lengths = [end - begin for begin, end in (self.achieved, self.goal)]
        if min(*lengths, *self.achieved, *self.goal) < 0 or lengths[0] != lengths[1] or lengths[0] == 0:
            raise ValueError(
                f"achieved and goal must be as many entries of the state, got {self.achieved}, {self.goal}"
            )
        if self.within <= 0 or not 0 <= self.share <= 1 or self.horizon < 1:
            raise ValueError(f"need within > 0, share in [0, 1], horizon >= 1; got {self}")

    def check(self, state: int, n_step: int) -> None:
        """Raises ValueError where the state has fewer entries, or transitions are of several steps."""
        if max(self.achieved[1], self.goal[1]) > state:
            raise ValueError(f"the state has {state} entries; got achieved {self.achieved} and goal {self.goal}")
        if n_step != 1:
            raise ValueError(f"goals in the state are looked at after every step, but replay.n_step is {n_step}; use 1")

    def __call__(self, batch: Batch, later: dict[str, Any], steps: np.ndarray) -> Batch:
        """Rows of one step each, with what `later` achieved as their goal."""
        wanted = later[STATE][:, slice(*self.achieved)]
        seen, following = (
            {**each, STATE: self._aimed(each[STATE], wanted)} for each in (batch.observation, batch.next_observation)
        )
        gap = following[STATE][:, slice(*self.achieved)] - wanted
        reached = np.linalg.norm(gap, axis=1) <= self.within
        return dataclasses.replace(
            batch,
            observation=seen,
            next_observation=following,
            reward=reached.astype(np.float32),
            discount=np.where(reached, np.float32(0), batch.discount),
        )

    def _aimed(self, state: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        state = state.copy()
        state[:, slice(*self.goal)] = wanted
        return state
