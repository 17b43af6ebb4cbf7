"""What a client asks: an observation, held against what the policy sees before anybody decides from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_rl.rollout.rows import as_batch
from vla_rl.serving.messages import MessageError, unpacked
from vla_rl.specs import IMAGES, STATE, TASK

EPISODE_START = "episode_start"
"""Beside the observation: whether it is the first of its episode. The first one of a connection always is."""
PROMPT = "prompt"
"""What openpi calls the instruction; taken for `TASK` where that is missing."""
MOST_SIDE = 8192
"""Pixels of a picture's side."""


@dataclass(frozen=True)
class Asked:
    """One decision is asked for.

    observation: a batch of one, see `rows.as_batch`. begins: whether its episode begins.
    """

    observation: dict[str, Any]
    begins: bool

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each array: those of one episode are the same."""
        return {key: value.shape for key, value in self.observation.items() if key != TASK}

    @property
    def text(self) -> str:
        """The instruction."""
        return str(self.observation[TASK][0])

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        return sum(value.nbytes for key, value in self.observation.items() if key != TASK)


def read(data: bytes | str, cameras: Sequence[str], state_dim: int) -> Asked:
    """What a message asks of a policy with these cameras and so many entries of state.

    Raises:
        ValueError: it is no observation, or not such a one as the policy sees; names the key.
    """
    if isinstance(data, str):
        raise MessageError("an observation is sent as bytes, got a text")
    said = unpacked(data)
    if not isinstance(said, dict):
        raise MessageError(f"an observation is a map, got {type(said).__name__}")
    begins = said.get(EPISODE_START, False)
    if not isinstance(begins, bool | np.bool_):
        raise MessageError(f"{EPISODE_START}: expected true or false, got {type(begins).__name__}")
    text = said.get(TASK, said.get(PROMPT))
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{TASK}: expected a text, got {type(text).__name__}")
    observation, single = as_batch({key: said[key] for key in said if key != TASK}, cameras, text)
    if not single:
        raise ValueError("an observation is of one environment; each environment has a connection of its own")
    for key in (IMAGES + camera for camera in cameras):
        height, width = observation[key].shape[1:3]
        if not (1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE):
            raise ValueError(f"{key}: a picture's sides have 1 to {MOST_SIDE} pixels, got {height} x {width}")
    observation[STATE] = _state(observation.get(STATE), state_dim)
    return Asked(observation, bool(begins))


def _state(state: np.ndarray | None, size: int) -> np.ndarray:
    """float32 [1, P]; whatever was sent to a policy without a state is left out."""
    if size == 0:
        return np.zeros((1, 0), np.float32)
    if state is None or state.shape != (1, size):
        raise ValueError(f"{STATE}: expected [{size}], got {'none' if state is None else list(state.shape[1:])}")
    if not np.isfinite(state).all():
        raise ValueError(f"{STATE}: holds a number that is not finite")
    return state
