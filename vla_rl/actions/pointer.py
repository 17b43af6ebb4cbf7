"""A 2-D Box as a place in a camera's image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from vla_rl.actions.tokens import as_numbers, check_tokens, evenly, nearest_index, unbound
from vla_rl.specs import MOST_CHOICES, Slot


@dataclass(frozen=True)
class Pointer:
    """A 2-D Box (x, y) as one of the cells laid over the image of a camera: the policy points there.

    The frame is the image's: x grows to the right, y grows downwards. The image's top left corner is the
    Box's low, its bottom right corner the Box's high, and a token means the centre of its cell. Set the
    corners where the image shows something else, or an axis runs the other way.

    Args:
        camera: the name of a camera among the sensors.
        grid: rows and columns of cells.
        top_left: the action (x, y) of the image's top left corner, in the action's unit. Default: low.
        bottom_right: likewise. Default: the Box's high.
        dtype: the action's dtype; set by `bind`.
    """

    camera: str
    grid: tuple[int, int] = (32, 32)
    top_left: tuple[float, float] | None = None
    bottom_right: tuple[float, float] | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if min(self.grid) < 1:
            raise ValueError(f"grid: at least one row and one column; got {self.grid}")
        if self.grid[0] * self.grid[1] > MOST_CHOICES:
            raise ValueError(f"grid: at most {MOST_CHOICES} cells; got {self.grid}")

    def bind(self, space: Any) -> Self:
        """The same, fitted to a Box of shape (2,).

        Raises:
            ValueError: not such a Box; unbounded without corners; corners outside it, or on one line;
                cells too small for its dtype to tell apart.
        """
        if not isinstance(space, spaces.Box) or space.shape != (2,):
            raise ValueError(f"action dimension: pointer needs a Box of shape (2,), x and y; got {space}")
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        first = np.asarray(low if self.top_left is None else self.top_left, np.float64)
        last = np.asarray(high if self.bottom_right is None else self.bottom_right, np.float64)
        for name, corner in (("top_left", first), ("bottom_right", last)):
            if not np.isfinite(corner).all():
                raise ValueError(f"the action space {space} is unbounded: give `{name}`")
            if (corner < low).any() or (corner > high).any():
                raise ValueError(f"{name} {corner.tolist()} lies outside the action space {space}")
        if (first == last).any():
            raise ValueError(f"top_left {first.tolist()} and bottom_right {last.tolist()} enclose no area")
        bound = replace(
            self,
            top_left=(float(first[0]), float(first[1])),
            bottom_right=(float(last[0]), float(last[1])),
            dtype=str(space.dtype),
        )
        for centres in bound._centres:
            if len(np.unique(centres)) < len(centres):
                raise ValueError(f"grid: {self.grid} cells are too small for {space.dtype} to tell apart")
        return bound

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """One `place` slot of rows * columns choices."""
        if self.dtype is None:
            raise unbound(self)
        rows, columns = self.grid
        return (Slot(rows * columns, "place", (rows, columns), self.camera),)

    def mask(self, prefix: np.ndarray) -> None:
        """Every cell is open."""

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """The place (x, y) at the cell's centre, of the Box's dtype."""
        row, column = divmod(int(check_tokens(tokens, self.slots)[0]), self.grid[1])
        x, y = self._centres
        return np.asarray([x[column], y[row]]).astype(self.dtype)

    def encode(self, action: Any) -> np.ndarray:
        """The cell whose centre is nearest. Raises ValueError unless the action is a pair of numbers."""
        slots, found = self.slots, as_numbers(action)
        if found.shape != (2,):
            raise ValueError(f"action dimension: expected shape (2,); got {found.shape}")
        column, row = (nearest_index(centres, value) for centres, value in zip(self._centres, found, strict=True))
        token = int(row) * self.grid[1] + int(column)
        assert token < slots[0].choices
        return np.asarray([token], np.int64)

    @cached_property
    def _centres(self) -> tuple[np.ndarray, np.ndarray]:
        """The cells' x, float64 [columns], and y, float64 [rows]."""
        assert self.top_left is not None, self
        assert self.bottom_right is not None, self
        rows, columns = self.grid
        x, y = (
            evenly(self.top_left[axis], self.bottom_right[axis], (np.arange(n) + 0.5) / n, np.dtype(self.dtype))
            for axis, n in ((0, columns), (1, rows))
        )
        return x, y
