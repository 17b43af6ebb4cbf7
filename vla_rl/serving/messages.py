"""The messages of openpi's protocol: msgpack, where an array is a map of its dtype, its shape and its bytes.

Nothing of a message is code, and reading one takes memory in proportion to its bytes: what holds more lists, maps or
entries than an observation has is not read to its end.
"""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import msgpack
import numpy as np

MOST_PARTS = 1024
"""Lists and maps in a message; and entries of one."""
MOST_AXES = 8
"""Of an array."""
_KINDS = "buif"
"""Of the numbers that arrays hold."""
_ARRAY, _NUMBER, _DATA, _DTYPE, _SHAPE = b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"


class MessageError(ValueError):
    """What was sent is no message, or no such one as is read here."""


def packed(said: Any) -> bytes:
    """Plain values, arrays and NumPy's numbers as bytes."""
    return msgpack.packb(said, default=_coded)


def unpacked(data: bytes) -> Any:
    """The values that `packed` was given; tuples are lists. Arrays are views of `data`, which nobody may change.

    Raises:
        MessageError: bytes of anything else, or more parts than MOST_PARTS.
    """
    parts = count(1)

    def counted(part: Any) -> Any:
        if next(parts) > MOST_PARTS:
            raise MessageError(f"a message has at most {MOST_PARTS} lists and maps")
        return _decoded(part) if isinstance(part, dict) else part

    try:
        return msgpack.unpackb(
            data,
            object_hook=counted,
            list_hook=counted,
            max_ext_len=0,
            max_array_len=MOST_PARTS,
            max_map_len=MOST_PARTS,
        )
    except MessageError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MessageError(f"no message of msgpack: {error or type(error).__name__}") from error


def _coded(value: Any) -> dict[bytes, Any]:
    """What msgpack has no word for. Raises TypeError for what is neither numbers nor an array of them."""
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in _KINDS:
        raise TypeError(f"cannot send {type(value).__name__}")
    if isinstance(value, np.ndarray):
        return {_ARRAY: True, _DATA: value.tobytes(), _DTYPE: value.dtype.str, _SHAPE: value.shape}
    return {_NUMBER: True, _DATA: value.item(), _DTYPE: value.dtype.str}


def _decoded(part: dict[Any, Any]) -> Any:
    if _ARRAY in part:
        return _array(part)
    if _NUMBER in part:
        value = part.get(_DATA)
        if not isinstance(value, int | float):
            raise MessageError(f"a number's data is a number, got {type(value).__name__}")
        return _dtype(part).type(value)
    return part


def _array(part: dict[Any, Any]) -> np.ndarray:
    dtype, data, shape = _dtype(part), part.get(_DATA), part.get(_SHAPE)
    sides: list[int] = shape if isinstance(shape, list) and len(shape) <= MOST_AXES else [-1]
    if not all(isinstance(side, int) and side >= 0 for side in sides):
        raise MessageError(f"an array's shape is a list of at most {MOST_AXES} numbers, got {str(shape)[:60]}")
    if not isinstance(data, bytes) or math.prod(sides) * dtype.itemsize != len(data):
        found = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise MessageError(f"an array of {dtype} {str(sides)[:60]} does not have {found}")
    return np.frombuffer(data, dtype).reshape(sides)


def _dtype(part: dict[Any, Any]) -> np.dtype:
    told = part.get(_DTYPE)
    try:
        dtype = np.dtype(told) if isinstance(told, str) else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.kind not in _KINDS or dtype.shape or len(str(told)) > 8:
        raise MessageError(f"arrays hold numbers, got dtype {str(told)[:60]!r}")
    return dtype
