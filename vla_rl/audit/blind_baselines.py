"""Policies that see no picture: fitted to what the expert does, from everything else that is observed.

F features of an observation: its vectors, one after the other, and a 0 or 1 for each word that instructions use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from vla_rl.specs import IMAGES, TASK

NEIGHBOURS = 5
RIDGE = 1e-2
"""The penalty on a linear policy's weights, as a share of the number of examples."""


@dataclass(frozen=True)
class Reader:
    """From observations to features.

    words: those that instructions use. mean, scale: float64 [F], of the vectors' entries; 0 and 1 for words.
    """

    words: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, observations: Sequence[Any]) -> Reader:
        """Normalises as these observations spread, and knows their words."""
        words = tuple(sorted({word for seen in observations for word in _words(seen)}))
        vectors = np.stack([_vector(seen) for seen in observations])
        spread = vectors.std(0)
        fixed = np.zeros(len(words))
        return cls(
            words,
            mean=np.concatenate([vectors.mean(0), fixed]),
            scale=np.concatenate([np.where(spread > 1e-6, spread, 1.0), fixed + 1]),
        )

    def __call__(self, observation: Any) -> np.ndarray:
        """The features of one observation, float64 [F]."""
        said = _words(observation)
        raw = np.concatenate([_vector(observation), [float(word in said) for word in self.words]])
        return (raw - self.mean) / self.scale


@dataclass(frozen=True)
class Nearest:
    """Does on average what the expert did in the `NEIGHBOURS` most similar of N examples."""

    features: np.ndarray
    labels: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray) -> Nearest:
        """Remembers features [N, F] and labels [N, A]."""
        return cls(features, labels)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The action [A] for features [F]."""
        distances = ((self.features - features) ** 2).sum(1)
        most = min(NEIGHBOURS, len(distances))
        return self.labels[np.argpartition(distances, most - 1)[:most]].mean(0)


@dataclass(frozen=True)
class Linear:
    """A ridge regression of what the expert did."""

    weights: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray) -> Linear:
        """Fits features [N, F] to labels [N, A]."""
        x = np.column_stack([features, np.ones(len(features))])
        penalty = RIDGE * len(x) * np.eye(x.shape[1])
        penalty[-1, -1] = 0.0
        return cls(np.linalg.lstsq(x.T @ x + penalty, x.T @ labels, rcond=None)[0])

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The action [A] for features [F]."""
        return np.append(features, 1.0) @ self.weights


def to_action(space: gymnasium.Space, vector: np.ndarray) -> Any:
    """The action of `space` nearest to `vector` [A], which is laid out as `gymnasium.spaces.flatten` does it.

    Raises:
        ValueError: a space whose actions are no vectors of a fixed length.
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Box):
        return np.clip(vector.reshape(space.shape), space.low, space.high).astype(space.dtype)
    if isinstance(space, spaces.Discrete):
        return space.dtype.type(space.start + np.argmax(vector))
    if isinstance(space, spaces.MultiBinary):
        return (vector.reshape(space.shape) > 0.5).astype(space.dtype)
    if isinstance(space, spaces.MultiDiscrete):
        pieces = np.split(vector, np.cumsum(space.nvec.ravel())[:-1])
        return (np.array([np.argmax(piece) for piece in pieces]).reshape(space.shape) + space.start).astype(space.dtype)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = list(space.values() if isinstance(space, spaces.Dict) else space.spaces)
        ends = np.cumsum([spaces.flatdim(part) for part in parts])[:-1]
        found = [to_action(part, piece) for part, piece in zip(parts, np.split(vector, ends), strict=True)]
        return dict(zip(space.keys(), found, strict=True)) if isinstance(space, spaces.Dict) else tuple(found)
    raise ValueError(f"actions of {space} are no vectors of a fixed length")


def _vector(observation: Any) -> np.ndarray:
    """Everything observed that is neither a picture nor a text, float64."""
    parts = observation.items() if isinstance(observation, Mapping) else [("", observation)]
    arrays = [np.asarray(value) for key, value in parts if not key.startswith(IMAGES) and key != TASK]
    plain = [array.ravel() for array in arrays if array.dtype.kind in "biuf" and array.ndim < 2]
    return np.concatenate([np.zeros(0), *plain])


def _words(observation: Any) -> set[str]:
    return (
        set(str(observation[TASK]).lower().split())
        if isinstance(observation, Mapping) and TASK in observation
        else set()
    )
