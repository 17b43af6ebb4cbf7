"""What the page shows: a training that runs somewhere else, or an environment that a person alone acts in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Picture:
    """What a lane shows, and what the policy makes of it.

    views: uint8 [H, W, 3] by camera. pointers: by camera, x, y (shares of the picture) and confidence. told: the
    policy's decision in words, and marks where it points at, as shares of the picture.
    """

    lane: int
    version: int
    text: str
    views: Mapping[str, np.ndarray]
    pointers: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    told: str = ""
    marks: Sequence[Sequence[float]] = ()


class Stage(Protocol):
    """Where the page looks, and acts. One thread calls it. A person is a text that their page has chosen."""

    def about(self) -> dict[str, Any]:
        """What does not change: title, lanes, the device that is acted with, and the help."""

    def look(self, lanes: Sequence[int], seen: Mapping[int, int], value: int) -> tuple[dict[str, Any], list[Picture]]:
        """How all lanes are, and pictures of some, where they have changed since a version `seen`.

        value: the lane whose Q is wanted.
        """

    def take(self, who: str, lane: int) -> None:
        """A person takes over. Raises RefusedError, as all that follow do."""

    def keep(self, who: str) -> None:
        """A person is still there."""

    def give(self, who: str) -> None:
        """A person hands back."""

    def act(self, who: str, asked: Mapping[str, Any]) -> str:
        """A person acts; what there is to say to it."""

    def label(self, who: str, lane: int, success: bool) -> str:
        """A person says how an episode ends."""

    def news(self, after: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """Lines of metrics from number `after` on, and warnings: {level, text}."""

    def rest(self) -> None:
        """Nobody looks on any more, for now."""

    def close(self) -> None:
        """End."""
