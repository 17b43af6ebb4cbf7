"""The arrays behind a replay: one slot a row, and what each slot costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_rl.specs import IMAGES

FeatureSpecs = Mapping[str, tuple[tuple[int, ...], str]]
"""Name -> (shape, dtype) of a cached feature of one row."""

ColumnSpecs = Mapping[str, tuple[tuple[int, ...], np.dtype]]
"""Name -> (shape, dtype) of one row's entry in a column."""

LINKS = ("next", "prev", "history", "episode")
FRAME, FEATURE = "frame.", "feature."


def camera_key(name: str) -> str:
    """The observation key of a camera that is given by its name or by its whole key."""
    return name if name.startswith(IMAGES) else IMAGES + name


def column_specs(
    images: Mapping[str, tuple[int, ...]], state_dim: int, slots: int, choices: int, features: FeatureSpecs
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Every column of one row: name -> (shape, dtype).

    Raises:
        ValueError: an image that is not [height, width, 3], a size below its minimum, a feature
            of a dtype that is not a number.
    """
    if state_dim < 0 or slots < 1 or choices < 2:
        raise ValueError(f"need state_dim >= 0, slots >= 1, choices >= 2; got {state_dim}, {slots}, {choices}")
    specs: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
    for camera, shape in images.items():
        if len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
            raise ValueError(f"{camera_key(camera)}: expected a shape [height, width, 3], got {list(shape)}")
        specs[FRAME + camera_key(camera)] = (tuple(shape), np.dtype(np.uint8))
    token = np.min_scalar_type(choices - 1)
    specs |= {
        "state": ((state_dim,), np.dtype(np.float32)),
        "instruction": ((), np.dtype(np.int32)),
        "tokens": ((slots,), token),
        "labels": ((slots,), token),
        "reward": ((), np.dtype(np.float32)),
        "returns": ((), np.dtype(np.float32)),
    }
    specs |= {name: ((), np.dtype(bool)) for name in ("terminated", "truncated", "final", "demo")}
    specs |= {name: ((), np.dtype(np.int64)) for name in LINKS}
    for name, (shape, kind) in features.items():
        dtype = np.dtype(kind)
        if dtype.kind not in "fiub":
            raise ValueError(f"features.{name}: expected a dtype of numbers, got {kind!r}")
        specs[FEATURE + name] = (tuple(shape), dtype)
    return specs


def memory_plan(specs: ColumnSpecs, capacity: int) -> dict[str, Any]:
    """What `capacity` rows cost.

    `rows`; `bytes` in all; `row_bytes` of one row, by column in `columns`; `frame_bytes` and
    `feature_bytes` of one row; `overhead`: a row without its cached features over its raw frames.
    """
    columns = {name: int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for name, (shape, dtype) in specs.items()}
    frames = sum(size for name, size in columns.items() if name.startswith(FRAME))
    features = sum(size for name, size in columns.items() if name.startswith(FEATURE))
    row = sum(columns.values())
    return {
        "rows": capacity,
        "bytes": capacity * row,
        "row_bytes": row,
        "frame_bytes": frames,
        "feature_bytes": features,
        "overhead": (row - features) / frames if frames else float("nan"),
        "columns": columns,
    }
