"""How many bytes a replay may take, and what they go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.replay.columns import FEATURE, ColumnSpecs, FeatureSpecs, bytes_of, column_specs, image_shapes
from vla_rl.specs import Signal

BY_ID, BY_PLACE = 24, 44
"""Bytes of a frame store's tables, at most: for each id, and for each place of a raw frame in RAM."""
RAW_SHARE = 0.25
"""Of the RAM for frames, what the raw ones take where the coded ones lie in RAM too."""
LEAST_ROWS = 4
"""Raw frames in RAM, at least, for each lane: new ones, and as many that are being coded."""


@dataclass(frozen=True)
class Budget:
    """hot: frames of each camera that stay raw in RAM. coded: bytes for all shards, or None for any number of them."""

    hot: int
    coded: int | None

    @classmethod
    def split(
        cls,
        capacity: int,
        lanes: int,
        specs: ColumnSpecs,
        images: Mapping[str, tuple[int, int, int]],
        ram_bytes: int | None,
        disk_bytes: int | None,
    ) -> Budget:
        """What the limits leave for frames, when `capacity` rows have their columns; everything raw without limits.

        Raises:
            ValueError: the limits are too small; says what is needed.
        """
        if ram_bytes is None:
            if disk_bytes is not None:
                raise ValueError("disk_bytes: without ram_bytes every frame stays in RAM, and none goes to the disk")
            return cls(capacity, None)
        fixed = capacity * (sum(bytes_of(specs).values()) + BY_ID * len(images))
        frame = sum(int(np.prod(shape)) + BY_PLACE for shape in images.values())
        left = ram_bytes - fixed
        if not images or left >= capacity * frame:
            return cls(capacity, None)
        share = 1 if disk_bytes is not None else RAW_SHARE
        hot = int(left * share) // frame
        if hot < LEAST_ROWS * lanes:
            needed = fixed + int(LEAST_ROWS * lanes * frame / share) + frame
            raise ValueError(
                f"ram_bytes: {ram_bytes} is too little for {capacity} rows of {lanes} lane(s), which need {needed} at "
                "least; lower the capacity, or give more"
            )
        return cls(hot, left - hot * frame if disk_bytes is None else disk_bytes)


def memory_plan(
    specs: ColumnSpecs, images: Mapping[str, tuple[int, int, int]], capacity: int, budget: Budget, on_disk: bool
) -> dict[str, Any]:
    """What `capacity` rows cost at most.

    `rows`; `bytes` in RAM and `disk_bytes`, None for no limit; `raw_rows`: rows whose frames stay raw in RAM;
    `row_bytes` of one such row, by column in `columns`; `frame_bytes` and `feature_bytes` of one row; `overhead`: such
    a row without its cached features over its raw frames. Tables of constant size are left out.
    """
    columns = bytes_of(specs)
    frames = sum(int(np.prod(shape)) for shape in images.values())
    features = sum(size for name, size in columns.items() if name.startswith(FEATURE))
    row = sum(columns.values()) + frames + (BY_ID + BY_PLACE) * len(images)
    away = (capacity - budget.hot) * (frames + BY_PLACE * len(images))
    return {
        "rows": capacity,
        "raw_rows": budget.hot,
        "bytes": capacity * row - away + (0 if on_disk else budget.coded or 0),
        "disk_bytes": budget.coded if on_disk else 0,
        "row_bytes": row,
        "frame_bytes": frames,
        "feature_bytes": features,
        "overhead": (row - features) / frames if frames else float("nan"),
        "columns": columns,
    }


def planned(
    capacity: int,
    images: Mapping[str, tuple[int, ...]],
    state_dim: int,
    slots: int,
    choices: int,
    features: FeatureSpecs,
    lanes: int,
    signals: Sequence[Signal],
    derived: Sequence[Signal],
    remembered: tuple[int, ...] | None,
    ram_bytes: int | None = None,
    disk_bytes: int | None = None,
) -> dict[str, Any]:
    """The `memory_plan` of a replay that is not made; see `ReplayBuffer`. derived: the listeners' columns.

    Raises:
        ValueError: a setting out of its range, or limits too small.
    """
    shapes = image_shapes(images)
    specs = column_specs(shapes, state_dim, slots, choices, features, signals, derived, remembered)
    budget = Budget.split(capacity, lanes, specs, shapes, ram_bytes, disk_bytes)
    return memory_plan(specs, shapes, capacity, budget, disk_bytes is not None)


def plan_line(plan: Mapping[str, Any], budget: Budget, folder: Path | None) -> str:
    """A `memory_plan` in a line for people. folder: where coded frames lie, or None for RAM."""
    line = (
        f"replay: {plan['rows']} rows x {plan['row_bytes']} bytes = {plan['bytes'] / 2**20:.0f} MiB when full "
        f"(frames {plan['frame_bytes']}, cached features {plan['feature_bytes']}, "
        f"all else {plan['row_bytes'] - plan['frame_bytes'] - plan['feature_bytes']} bytes a row)"
    )
    if plan["raw_rows"] == plan["rows"]:
        return line
    where = f"on disk in {folder}" if folder else "in RAM"
    return (
        f"replay: {plan['rows']} rows in at most {plan['bytes'] / 2**20:.0f} MiB of RAM; the frames of "
        f"{plan['raw_rows']} rows raw, older ones coded in {(budget.coded or 0) / 2**20:.0f} MiB {where} "
        f"(raw: frames {plan['frame_bytes']}, cached features {plan['feature_bytes']} bytes a row)"
    )
