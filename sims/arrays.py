"""Observations for libraries that read nothing but arrays, such as Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

_LAST_CODE = 0x10FFFF
"""The highest number that a letter can have."""


class Numeric(gymnasium.ObservationWrapper):
    """An environment with a Dict of observations, as arrays only, under names without dots.

    `observation.images.front` becomes `observation_images_front`. Actions, rewards and `info` stay as they are.

    Args:
        env: one of ours, or another with a Dict of arrays and texts.
        letters: how many letters of each text to keep, as an int32 [letters] of their numbers, 0 after the end. With 0
            the texts are left out: then what is asked for should be the same in every episode, or be seen.

    Raises:
        ValueError: no Dict, or two names become one.
    """

    def __init__(self, env: gymnasium.Env, letters: int = 0) -> None:
        super().__init__(env)
        if not isinstance(env.observation_space, gymnasium.spaces.Dict):
            raise ValueError(f"expected a Dict of observations, got {env.observation_space}")
        if letters < 0:
            raise ValueError(f"letters: at least 0, got {letters}")
        parts = env.observation_space.items()
        self._texts = {key for key, part in parts if isinstance(part, gymnasium.spaces.Text)}
        self._letters = letters
        kept = {key: part for key, part in parts if letters or key not in self._texts}
        self._names = {key: key.replace(".", "_") for key in kept}
        if len(set(self._names.values())) < len(kept):
            raise ValueError(f"two of {sorted(kept)} have one name without dots")
        written = gymnasium.spaces.Box(0, _LAST_CODE, (letters,), np.int32)
        spaces = {name: written if key in self._texts else kept[key] for key, name in self._names.items()}
        self.observation_space = gymnasium.spaces.Dict(spaces)

    def observation(self, observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of an observation, and its texts if letters are kept."""
        return {
            name: self._numbers(observation[key]) if key in self._texts else observation[key]
            for key, name in self._names.items()
        }

    def _numbers(self, text: str) -> np.ndarray:
        codes = np.zeros(self._letters, np.int32)
        found = [ord(letter) for letter in text[: self._letters]]
        codes[: len(found)] = found
        return codes


def numeric(env: gymnasium.Env, letters: int = 0) -> Numeric:
    """`env` with observations that are arrays only, under names without dots; see `Numeric`."""
    return Numeric(env, letters)
