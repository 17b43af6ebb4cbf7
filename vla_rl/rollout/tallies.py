"""What the latest episodes of a training told of themselves beside success and cost."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vla_rl.envs import tallied


class Tallies:
    """Means over the latest episodes of what their last `info` said, see `specs.TALLIES`; of no others.

    recent: episodes.
    """

    def __init__(self, recent: int = 100) -> None:
        self._told = defaultdict[str, deque[float]](lambda: deque(maxlen=recent))

    def take(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """Count episodes by their last infos."""
        for info in infos:
            for name, value in tallied(info).items():
                self._told[name].append(value)

    def state_dict(self) -> dict[str, list[float]]:
        """What the latest episodes told."""
        return {name: list(values) for name, values in self._told.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on from what `state_dict` gave."""
        self._told.clear()
        self.extend(state)

    def extend(self, state: Mapping[str, Sequence[float]]) -> None:
        """Take in what others have told, as their `state_dict` gives it."""
        for name, values in state.items():
            self._told[name].extend(values)

    def drain(self) -> dict[str, list[float]]:
        """What was told since the last time."""
        told = self.state_dict()
        self._told.clear()
        return told

    def statistics(self) -> dict[str, float]:
        """The means, as `train/calls`."""
        return {f"train/{name}": float(np.mean(values)) for name, values in self._told.items()}
