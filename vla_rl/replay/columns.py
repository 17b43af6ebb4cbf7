"""The arrays behind a replay: one slot a row, and what each slot costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vla_rl.specs import IMAGES, REWARD, Signal

FeatureSpecs = Mapping[str, tuple[tuple[int, ...], str]]
"""Name -> (shape, dtype) of a cached feature of one row."""

ColumnSpecs = Mapping[str, tuple[tuple[int, ...], np.dtype]]
"""Name -> (shape, dtype) of one row's entry in a column."""

LINKS = ("next", "prev", "history", "episode", "last")
FRAME, FEATURE, SIGNAL, RETURN, DERIVED = "frame.", "feature.", "signal.", "return.", "derived."
"""How columns of a name of their own begin; `RETURN` of those that sum up a signal to the episode's end, `DERIVED` of
those that are worked out when it has ended."""
COUNTED = DERIVED + REWARD
"""What rewards count for, where a listener has a column `REWARD`: what was paid, until it tells otherwise."""
LATER = ("next", "returns", "rest", "last")
"""Columns that are known only after a row was recorded; they follow from the others."""


def is_later(column: str) -> bool:
    """Whether a column is known only after its row was recorded."""
    return column in LATER or column.startswith((RETURN, DERIVED))


def camera_key(name: str) -> str:
    """The observation key of a camera that is given by its name or by its whole key."""
    return name if name.startswith(IMAGES) else IMAGES + name


def image_shapes(images: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int, int]]:
    """Each camera's key -> (height, width, 3).

    Raises:
        ValueError: an image of another shape.
    """
    for camera, shape in images.items():
        if len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
            raise ValueError(f"{camera_key(camera)}: expected a shape [height, width, 3], got {list(shape)}")
    return {camera_key(camera): (shape[0], shape[1], 3) for camera, shape in images.items()}


def column_specs(
    cameras: Iterable[str],
    state_dim: int,
    slots: int,
    choices: int,
    features: FeatureSpecs,
    signals: Sequence[Signal] = (),
    derived: Sequence[Signal] = (),
    remembered: tuple[int, ...] | None = None,
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Every column of one row: name -> (shape, dtype); of a camera's frame (`cameras` are keys), its id.

    Raises:
        ValueError: a size below its minimum, or a feature of a dtype that is not a number.
    """
    if state_dim < 0 or slots < 1 or choices < 2:
        raise ValueError(f"need state_dim >= 0, slots >= 1, choices >= 2; got {state_dim}, {slots}, {choices}")
    specs: dict[str, tuple[tuple[int, ...], np.dtype]] = {FRAME + key: ((), np.dtype(np.int32)) for key in cameras}
    token = np.min_scalar_type(choices - 1)
    specs |= {
        "state": ((state_dim,), np.dtype(np.float32)),
        "instruction": ((), np.dtype(np.int32)),
        "tokens": ((slots,), token),
        "labels": ((slots,), token),
        "reward": ((), np.dtype(np.float32)),
        "returns": ((), np.dtype(np.float32)),
        "rest": ((), np.dtype(np.float32)),
    }
    specs |= {name: ((), np.dtype(bool)) for name in ("terminated", "truncated", "final", "demo")}
    specs |= {name: ((), np.dtype(np.int64)) for name in LINKS}
    if remembered is not None:
        specs["remembered"] = (tuple(remembered), np.dtype(np.float32))
    for name, (shape, kind) in features.items():
        dtype = np.dtype(kind)
        if dtype.kind not in "fiub":
            raise ValueError(f"features.{name}: expected a dtype of numbers, got {kind!r}")
        specs[FEATURE + name] = (tuple(shape), dtype)
    for signal in signals:
        specs[SIGNAL + signal.name] = (tuple(signal.shape), np.dtype(signal.dtype))
        if signal.summed:
            specs[RETURN + signal.name] = ((), np.dtype(np.float32))
    specs |= {DERIVED + each.name: (tuple(each.shape), np.dtype(each.dtype)) for each in derived}
    return specs


def bytes_of(specs: ColumnSpecs) -> dict[str, int]:
    """Bytes of one row in each column."""
    return {name: int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for name, (shape, dtype) in specs.items()}
