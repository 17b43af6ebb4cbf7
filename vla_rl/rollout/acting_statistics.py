"""How the latest episodes went, by how their decisions were taken."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from vla_rl.replay import EndedEpisode, EpisodeListener
from vla_rl.specs import ACTING, BY_CRITIC, EPISODE_TASK, VERIFIED

RECENT = 400
"""Episodes that count, of all ways of acting together: all of one time, since the policy changes meanwhile."""


class ActingStatistics(EpisodeListener):
    """Counts the latest episodes of a run some of whose lanes act by the critic; see `specs.ACTING`.

    tasks: of the run. recent: episodes that count.
    """

    def __init__(self, tasks: int = 1, recent: int = RECENT) -> None:
        self._tasks, self._latest = tasks, deque[tuple[int, int, bool]](maxlen=recent)

    def on_episode(self, episode: EndedEpisode) -> dict[str, np.ndarray]:
        """Count it, unless the way changed within it, or was not told."""
        ways = episode.signals.get(ACTING)
        if ways is not None and not episode.demo and ways[0] == ways[-1] > 0:
            task, won = int(episode.signals[EPISODE_TASK][0]), bool(episode.signals[VERIFIED][-1])
            self._latest.append((task, int(ways[0]), won))
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The latest episodes: task, way, and whether it was a success."""
        return {"latest": list(self._latest)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._latest = deque(state["latest"], self._latest.maxlen)

    @property
    def counts(self) -> np.ndarray:
        """Successes and episodes of each task, by the way of acting: int64 [tasks, ways, 2]."""
        found = np.zeros((self._tasks, BY_CRITIC + 1, 2), np.int64)
        for task, way, won in self._latest:
            found[task, way] += won, 1
        return found
