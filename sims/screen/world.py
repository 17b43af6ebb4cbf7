"""What a screen shows to sensors, whoever draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sims.screen.interaction import Gesture


class ScreenWorld(Protocol):
    """A drawn screen or a page in a browser, in the present step of an episode.

    Attributes:
        size: width and height in pixels.
        instruction: what is to be done.
        cursor: where the mouse is, in pixels from the top left.
        focused: what takes the keyboard's input, by the name that a person would give it; "" for nothing.
        clipboard: what was copied last.
        kinds: the names of the gestures and tools that the environment takes, in the order of their choices.
        gestures: those of the episode so far, the latest last.
        answer: what the last tool that was called said; "" where none was called yet.
    """

    size: tuple[int, int]
    instruction: str
    cursor: tuple[float, float]
    focused: str
    clipboard: str
    kinds: tuple[str, ...]
    gestures: Sequence[Gesture]
    answer: str

    def screenshot(self) -> np.ndarray:
        """uint8 [height, width, 3]; the caller must not change it."""


class LegibleScreen(ScreenWorld, Protocol):
    """A screen on which can be read what is written, as a screen reader or character recognition would.

    Attributes:
        noted: what was written so far in the episode on things that a hand cannot change, such as titles and labels:
            each text once, the latest last.
    """

    noted: Sequence[str]

    def written(self) -> Sequence[tuple[str, tuple[float, float]]]:
        """What can be read on its picture now, line by line from the top, each text with the middle (x, y) of what it
        stands on, in pixels of the picture; not what has been put into fields."""

    def entered(self) -> Sequence[str]:
        """What has been put into the fields that are seen now, and what is chosen or ticked, from the top."""
