"""How the latest episodes of each task went."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from vla_rl.replay import EndedEpisode, EpisodeListener
from vla_rl.specs import COST, EPISODE_TASK, VERIFIED


class TaskStatistics(EpisodeListener):
    """Success and cost of the latest episodes, of all tasks and of each; demonstrations do not count.

    tasks: their names, by number; none is told of where there is one. recent: episodes, of all and of each.
    """

    def __init__(self, tasks: Sequence[str] = (), recent: int = 100) -> None:
        self._won, self._costs = deque[bool](maxlen=recent), deque[float](maxlen=recent)
        self._by_task = {task: deque[bool](maxlen=recent) for task in (tasks if len(tasks) > 1 else ())}

    def on_episode(self, episode: EndedEpisode) -> dict[str, np.ndarray]:
        """Count it."""
        if not episode.demo:
            won = bool(episode.signals[VERIFIED][-1])
            self._won.append(won)
            self._costs.append(float(episode.signals[COST].sum()))
            if self._by_task:
                list(self._by_task.values())[int(episode.signals[EPISODE_TASK][0])].append(won)
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The latest episodes."""
        by_task = {task: list(won) for task, won in self._by_task.items()}
        return {"won": list(self._won), "costs": list(self._costs), "by_task": by_task}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._won, self._costs = deque(state["won"], self._won.maxlen), deque(state["costs"], self._won.maxlen)
        self._by_task = {task: deque(state["by_task"].get(task, ()), self._won.maxlen) for task in self._by_task}

    @property
    def success_rate(self) -> float:
        """Share of successes; NaN before the first episode."""
        return _mean(self._won)

    def statistics(self) -> dict[str, float]:
        """`train/success_rate`, also of each task, `train/cost` and the share of episodes that cost anything; a task
        without an episode yet is left out."""
        by_task = {f"train/success_rate/{task}": _mean(won) for task, won in self._by_task.items() if won}
        costs = {"train/cost": _mean(self._costs), "train/costly": _mean([cost > 0 for cost in self._costs])}
        return {"train/success_rate": self.success_rate, **costs, **by_task}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
