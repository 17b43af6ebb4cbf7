"""What is seen, held against what the expert does: whether it knows more, and how far a mere glance goes.

An observation counts with its pictures, in full or as thumbnails, its vectors and its words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from vla_rl.audit.blind_baselines import Nearest, Reader, to_action
from vla_rl.specs import IMAGES, TASK

THUMBNAIL = 8
"""Pixels along each side of what a policy sees that hardly looks."""
SHARPNESS = 1e-3
"""What is nearer to each other than that, of the numbers that are observed, counts as the same."""
APART = 0.1
"""Actions are different that lie further apart than so much of the range that the expert uses."""


@dataclass(frozen=True)
class Twins:
    """Pairs of moments, of two episodes each, that look the same; in `torn` of them the expert acts differently."""

    pairs: int = 0
    torn: int = 0


def twins(episodes: Sequence[tuple[Sequence[Any], Sequence[Any]]], space: gymnasium.Space) -> Twins:
    """Compare what the expert did (actions of `space`) wherever it saw the same in different episodes.

    Raises:
        ValueError: actions that are no vectors of a fixed length.
    """
    alike: dict[tuple[Any, ...], list[np.ndarray]] = defaultdict(list)
    for observations, actions in episodes:
        moments = zip(reversed(observations), reversed(actions), strict=True)  # of several the first is kept
        for key, action in {_key(seen): action for seen, action in moments}.items():
            alike[key].append(_vector(space, action))
    every = np.stack([vector for vectors in alike.values() for vector in vectors])
    reach = np.maximum(np.ptp(every, axis=0), 1e-9)
    pairs = torn = 0
    for vectors in alike.values():
        one = vectors[0]
        pairs += len(vectors) - 1
        torn += sum(bool((np.abs(other - one) > APART * reach).any()) for other in vectors[1:])
    return Twins(pairs, torn)


@dataclass(frozen=True)
class Glance:
    """Does what the expert did where thumbnails, vectors and words were most alike."""

    reader: Reader
    policy: Nearest
    scale: float
    space: gymnasium.Space

    @classmethod
    def of(cls, observations: Sequence[Any], actions: Sequence[Any], space: gymnasium.Space) -> Glance:
        """Fitted to what an expert did. Raises ValueError for actions that are no vectors of a fixed length."""
        reader = Reader.of(observations)
        small = np.stack([_thumbnails(seen) for seen in observations])
        scale = 1 / max(float(small.std()) if small.size else 1.0, 1e-9)
        features = np.column_stack([small * scale, np.stack([reader(seen) for seen in observations])])
        return cls(reader, Nearest.fit(features, np.stack([_vector(space, each) for each in actions])), scale, space)

    def __call__(self, seen: Any) -> Any:
        """The action for an observation."""
        features = np.concatenate([_thumbnails(seen) * self.scale, self.reader(seen)])
        return to_action(self.space, self.policy(features))


def _vector(space: gymnasium.Space, action: Any) -> np.ndarray:
    vector = np.asarray(gymnasium.spaces.flatten(space, action), np.float64)
    to_action(space, vector)
    return vector


def _key(seen: Any) -> tuple[Any, ...]:
    """What is the same for observations that look the same."""
    parts = sorted(seen.items()) if isinstance(seen, Mapping) else [("", seen)]
    return tuple((key, value if key == TASK else _rounded(np.asarray(value)).tobytes()) for key, value in parts)


def _rounded(array: np.ndarray) -> np.ndarray:
    return np.rint(array / SHARPNESS).astype(np.int64) if array.dtype.kind == "f" else array


def _thumbnails(seen: Any) -> np.ndarray:
    """The pictures, float64 [cameras * THUMBNAIL * THUMBNAIL * 3]; empty where there are none."""
    parts = sorted(seen.items()) if isinstance(seen, Mapping) else []
    pictures = [value for key, value in parts if key.startswith(IMAGES)]
    return np.concatenate([np.zeros(0), *(_small(np.asarray(each, np.float64)).ravel() for each in pictures)])


def _small(picture: np.ndarray) -> np.ndarray:
    """The mean of each of THUMBNAIL x THUMBNAIL parts."""
    rows, columns = (np.array_split(np.arange(side), min(THUMBNAIL, side)) for side in picture.shape[:2])
    return np.stack([[picture[np.ix_(row, column)].mean((0, 1)) for column in columns] for row in rows])
