"""Noise for work that is recorded: drawn on the host at each replay, into places that the recording reads."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vla_rl.models.transfer import sent


class Draws(Protocol):
    """Who draws, such as a `Learner`."""

    device: torch.device

    def drawn(self, shape: tuple[int, ...]) -> Tensor:
        """Uniform noise in (0, 1), on the host."""


class Tape:
    """Which noise a piece of work asks for, in order; first noted while it works, then given from places that stay.

    So that what is replayed draws what it would have drawn, from the same generator.

    Attributes:
        recording: whether noise is given from those places now, without being drawn. steps: optimiser steps that were
            recorded; the learner counts them here.
    """

    def __init__(self) -> None:
        self.recording, self.steps = False, 0
        self._shapes: list[tuple[int, ...]] = []
        self._places: list[Tensor] = []
        self._next = 0

    def take(self, shape: tuple[int, ...], source: Draws) -> Tensor:
        """Noise of a shape on the source's device."""
        if not self.recording:
            self._shapes.append(shape)
            return sent(source.drawn(shape), source.device)
        place = self._places[self._next]
        assert place.shape == shape, f"noise of {shape}, where {tuple(place.shape)} was noted"
        self._next += 1
        return place

    def begin(self, device: torch.device) -> None:
        """Give what was noted from places from now on."""
        self._places = [torch.full(shape, 0.5, device=device) for shape in self._shapes]
        self.recording, self.steps, self._next = True, 0, 0

    def end(self) -> None:
        """The work has been recorded, or could not be."""
        self.recording = False

    def fill(self, source: Draws) -> None:
        """Draw anew."""
        for shape, place in zip(self._shapes, self._places, strict=True):
            place.copy_(sent(source.drawn(shape), source.device))
