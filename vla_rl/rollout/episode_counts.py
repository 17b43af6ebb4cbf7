"""How many episodes of a training ended, and how many of them the environment spoilt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vla_rl.registry import FaultError

INVALID_IN_A_ROW = 10
"""So many episodes of each environment that all are invalid end a run."""


@dataclass
class EpisodeCounts:
    """episodes: valid ones that ended. invalid_episodes: those that the environment spoilt. invalid_in_a_row: of these,
    since the last valid one. last_error: what was said of the last of them, "" if nothing was."""

    episodes: int = 0
    invalid_episodes: int = 0
    invalid_in_a_row: int = 0
    last_error: str = ""

    def take(self, valid: int, invalid: int, error: str = "") -> None:
        """Count episodes that have ended together. error: what was said of an invalid one."""
        self.episodes += valid
        if valid:
            self.invalid_in_a_row = 0
        if invalid:
            self.invalid_episodes += invalid
            self.invalid_in_a_row += invalid
            self.last_error = error

    def check(self, lanes: int, over: bool = False) -> None:
        """Whether there is anything to learn from, in so many lanes.

        Raises:
            FaultError: many episodes in a row were invalid; or all of them, where the run is `over`.
        """
        none = over and self.invalid_episodes > 0 and not self.episodes
        if none or self.invalid_in_a_row >= INVALID_IN_A_ROW * lanes:
            raise FaultError(
                f"the last {self.invalid_in_a_row} episodes were all invalid, so that there is nothing to learn from; "
                f"the reason: {self.last_error or 'their infos tell none'}"
            )

    def statistics(self) -> dict[str, float]:
        """For the log; of those that the environment spoilt, their number alone."""
        return {"train/episodes": float(self.episodes), "train/invalid_episodes": float(self.invalid_episodes)}

    def state_dict(self) -> dict[str, Any]:
        """The counts, by name."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, among other things. Raises KeyError where a count is missing."""
        vars(self).update({name: state[name] for name in vars(self)})
