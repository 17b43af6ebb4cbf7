"""What is kept of each lane while acting: its last frames, which replay stores once and stacks on sampling, and what
the policy remembers of its episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from vla_rl.specs import IMAGES, REMEMBERED, TASK


class History:
    """The last `stack` frames of every camera and lane, older ones first, an episode's first frame filling its start;
    and what the policy remembers, which is nothing at an episode's beginning."""

    def __init__(self, stack: int) -> None:
        assert stack >= 1, stack
        self._stack = stack
        self._frames: dict[str, np.ndarray] = {}
        self._remembered: np.ndarray | None = None

    def push(
        self, observation: Mapping[str, Any], fresh: np.ndarray, again: np.ndarray | None = None
    ) -> dict[str, Any]:
        """The batched observation with images [B, stack, H, W, 3], as they are where `stack` is 1; and with what is
        remembered, where there is anything.

        fresh: bool [B], lanes whose episode begins with this observation. again: bool [B], lanes that show what they
        showed the last time; None for none.
        """
        stacked = dict(observation)
        if self._remembered is not None:
            none = fresh.reshape(-1, *[1] * (self._remembered.ndim - 1))
            stacked[REMEMBERED] = np.where(none, np.float32(0), self._remembered)
        if self._stack == 1:
            return stacked
        for key, newest in observation.items():
            if not key.startswith(IMAGES):
                continue
            if key not in self._frames:
                self._frames[key] = np.repeat(newest[:, None], self._stack, axis=1)
            frames = self._frames[key]
            before = None if again is None else frames[again]
            frames[:, :-1] = frames[:, 1:]
            frames[:, -1] = newest
            if before is not None:
                frames[again] = before
            frames[fresh] = newest[fresh][:, None]
            stacked[key] = frames.copy()  # whoever acts may change what it is given
        return stacked

    def remember(self, remembered: np.ndarray | None, again: np.ndarray | None = None) -> None:
        """Keep what the policy made of the last observation, float32 [B, ...], for the next one.

        again: bool [B], lanes that will show the same once more, and so are not to be remembered twice; None for none.
        """
        if remembered is not None and again is not None:
            before = np.zeros_like(remembered) if self._remembered is None else self._remembered
            remembered = np.where(again.reshape(-1, *[1] * (remembered.ndim - 1)), before, remembered)
        self._remembered = remembered

    def state_dict(self) -> dict[str, Any]:
        """What is kept."""
        return {"frames": self._frames, "remembered": self._remembered}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._frames, self._remembered = state["frames"], state["remembered"]


def stacked_times(times: np.ndarray, stack: int) -> np.ndarray:
    """The times int64 [B, stack] of the frames that an observation at each of `times` [B] shows, oldest first."""
    return np.maximum(times[:, None] - np.arange(stack - 1, -1, -1), 0)


def joined(observations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Batches of one as one batch: arrays [B, ...], instructions a list of B; nothing is remembered where an episode
    has just begun."""
    noted = next((each[REMEMBERED] for each in observations if REMEMBERED in each), None)
    if noted is not None:
        observations = [{REMEMBERED: np.zeros_like(noted), **each} for each in observations]
    keys = observations[0].keys()
    columns = {key: [observation[key] for observation in observations] for key in keys}
    return {key: list(chain(*column)) if key == TASK else np.concatenate(column) for key, column in columns.items()}
