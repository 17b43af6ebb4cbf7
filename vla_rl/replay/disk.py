"""Replay on disk: one .npy file a column, without objects, and a JSON of everything else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.lib import format as npy

from vla_rl.replay.columns import ColumnSpecs

STATE_FILE = "replay.json"
VERSION = 1


def write(folder: Path, state: Mapping[str, Any], columns: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write each column's consecutive parts as one array, then `state`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in columns.items():
        shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
        header = {"descr": npy.dtype_to_descr(parts[0].dtype), "fortran_order": False, "shape": shape}
        with open(_file(folder, name), "wb") as file:
            npy.write_array_header_2_0(file, header)
            for part in parts:
                np.ascontiguousarray(part).tofile(file)
    (folder / STATE_FILE).write_text(json.dumps({"version": VERSION, **state}))


def read_state(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The state that `write` stored.

    Raises:
        ValueError: it is missing or broken, or its settings differ from `settings`; names the file
            and the first setting that differs.
    """
    path = folder / STATE_FILE
    try:
        state = json.loads(path.read_text())
        saved, version = state["settings"], state["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a whole replay state: {error}") from error
    if version != VERSION:
        raise ValueError(f"{path}: expected version {VERSION}, got {version}")
    for name in [*settings["columns"], *saved["columns"]]:
        here, there = settings["columns"].get(name), saved["columns"].get(name)
        if here != there:
            raise ValueError(f"{path}: column {name} was saved as {there}, this replay has {here}")
    for name, value in settings.items():
        if saved.get(name) != value:
            raise ValueError(f"{path}: was saved with {name} {saved.get(name)}, this replay has {name} {value}")
    return state


def open_columns(folder: Path, specs: ColumnSpecs) -> dict[str, np.ndarray]:
    """Every column of `specs` (whole shapes), memory-mapped.

    Raises:
        ValueError: a file is missing, truncated, or holds another shape or dtype; names it.
    """
    return {name: _open(_file(folder, name), shape, dtype) for name, (shape, dtype) in specs.items()}


def _open(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    try:
        # An empty array cannot be mapped.
        array = np.load(path, mmap_mode="r" if np.prod(shape) else None, allow_pickle=False)
        size = path.stat().st_size
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{path}: expected {dtype} {list(shape)}, got {array.dtype} {list(array.shape)}")
    extra = size - array.nbytes - _header_bytes(path)
    if extra:
        raise ValueError(f"{path}: {extra} bytes longer than its header says")
    return array


def _header_bytes(path: Path) -> int:
    with open(path, "rb") as file:
        npy.read_magic(file)
        npy.read_array_header_2_0(file)
        return file.tell()


def _file(folder: Path, column: str) -> Path:
    return folder / f"{quote(column, safe='')}.npy"
