"""Arrays that are used again once nobody refers to them: fresh pages cost more than the gather into them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Allocate = Callable[[int], Any]
"""So many bytes of memory, with Python's buffer interface; not as a numpy array itself, which views would skip over."""

SHELF = 16
"""Arrays kept of one size; beyond it (a caller that hoards batches) they are made afresh and not kept."""

SPLIT_BYTES = 4 << 20
"""A gather of so many bytes or more is done by two threads."""


class Recycler:
    """Hands out uninitialised arrays, and takes memory back when the last view of it is gone.

    For one thread at a time. allocate: where the memory comes from.
    """

    def __init__(self, allocate: Allocate = bytearray) -> None:
        self._allocate = allocate
        self._shelves: dict[int, list[tuple[Any, weakref.ref[np.ndarray]]]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of `shape` and `dtype` with arbitrary content."""
        size = math.prod(shape) * dtype.itemsize
        if size == 0:
            return np.empty(shape, dtype)
        shelf = self._shelves.setdefault(size, [])
        free = next((i for i, (_, user) in enumerate(shelf) if user() is None), None)
        memory = self._allocate(size) if free is None else shelf[free][0]
        # Every view of `flat`, a tensor's too, keeps `flat` itself alive: its base is no array, so
        # numpy does not let views skip over it.
        flat = np.frombuffer(memory, dtype)
        if free is not None:
            shelf[free] = (memory, weakref.ref(flat))
        elif len(shelf) < SHELF:
            shelf.append((memory, weakref.ref(flat)))
        return flat.reshape(shape)

    def take(self, column: np.ndarray, at: np.ndarray) -> np.ndarray:
        """`column[at]`, for indices that are known to be in range."""
        out = self.empty((*at.shape, *column.shape[1:]), column.dtype)
        if out.nbytes < SPLIT_BYTES:
            return _gather(column, at, out)
        self._thread = self._thread or ThreadPoolExecutor(1, "gather")
        flat, rows, half = out.reshape(-1, *column.shape[1:]), at.ravel(), at.size // 2
        other = self._thread.submit(_gather, column, rows[half:], flat[half:])
        _gather(column, rows[:half], flat[:half])
        other.result()
        return out


def _gather(column: np.ndarray, at: np.ndarray, out: np.ndarray) -> np.ndarray:
    # mode="clip" writes into `out` directly; the checking mode goes through a copy.
    return np.take(column, at, axis=0, out=out, mode="clip")
