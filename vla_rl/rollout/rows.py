"""What is kept of each episode that an actor acts in, and observations and actions as environments have them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vla_rl.envs.history import History
from vla_rl.registry import nearest
from vla_rl.specs import IMAGES, STATE, TASK


class Row:
    """One episode under way: its last frames, what the policy remembers, and the actions of a chunk yet to be done.

    stack: frames that the policy sees at once.
    """

    def __init__(self, stack: int) -> None:
        self._stack = stack
        self.begin()

    def begin(self) -> None:
        """Forget all: a new episode begins."""
        self.history, self.waiting = History(self._stack), deque[Any]()
        self._fresh = True

    def look(self, observation: dict[str, Any]) -> dict[str, Any]:
        """What the policy is to see, of an observation in a batch of one."""
        fresh, self._fresh = self._fresh, False
        return self.history.push(observation, np.array([fresh]))


def as_batch(
    observation: Mapping[str, Any], cameras: Sequence[str], task: str | Sequence[str] | None = None
) -> tuple[dict[str, Any], bool]:
    """An environment's observation, one or a batch, as a batch; and whether it was one.

    Pictures uint8 [H, W, 3] make one, [B, H, W, 3] a batch. A single text is the instruction of all of a batch.
    What the policy does not read is left out.

    Raises:
        ValueError: a camera or the instruction is missing, or pictures are of another dtype or shape; names the key.
    """
    keys = [IMAGES + camera for camera in cameras]
    missing = next((key for key in keys if key not in observation), None)
    if missing is not None:
        raise ValueError(f"observation: lacks {missing!r}, which the policy sees by; {nearest(missing, observation)}")
    pictures = {key: np.asarray(observation[key]) for key in keys}
    single = pictures[keys[0]].ndim == 3
    for key, picture in pictures.items():
        if picture.dtype != np.uint8 or picture.ndim != (3 if single else 4) or picture.shape[-1] != 3:
            raise ValueError(
                f"{key}: pictures are uint8 [height, width, 3] from 0 to 255, or a batch of them; got {picture.dtype} "
                f"{list(picture.shape)}"
            )
    count = 1 if single else len(pictures[keys[0]])
    batch: dict[str, Any] = {key: picture[None] if single else picture for key, picture in pictures.items()}
    if STATE in observation:
        state = np.asarray(observation[STATE], np.float32)
        batch[STATE] = state[None] if single else state
    texts = observation.get(TASK) if task is None else task
    if texts is None:
        raise ValueError(f"observation: lacks {TASK!r}, the instruction; put it there, or give act(..., task='...')")
    batch[TASK] = [texts] * count if isinstance(texts, str) else [str(text) for text in texts]
    lengths = {key: len(value) for key, value in batch.items()}
    if set(lengths.values()) != {count}:
        raise ValueError(f"observation: the parts of a batch are equally many; got {lengths}")
    return batch, single


def as_actions(actions: Sequence[Any]) -> Any:
    """Actions of several environments as `gymnasium.vector` takes them: arrays [B, ...], a dict of such, or a tuple."""
    first = actions[0]
    if isinstance(first, Mapping) and all(each.keys() == first.keys() for each in actions):
        return {key: as_actions([each[key] for each in actions]) for key in first}
    if isinstance(first, np.ndarray | np.generic | int | float):
        return np.stack([np.asarray(each) for each in actions])
    return tuple(actions)
