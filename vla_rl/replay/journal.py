"""Rows on disk: segments that are written once, in the order of their ids, and a JSON of everything else."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.replay.blob import Blob, within
from vla_rl.replay.columns import SIGNAL, ColumnSpecs, is_later

STATE_FILE = "replay.json"
VERSION = 2
_LANE = 4096
"""Bytes that a lane takes, or less."""
MOST_ROWS = 1 << 16
"""At most so many rows go into a segment."""

Recorded = Callable[[np.ndarray], tuple[dict[str, np.ndarray], list[str]]]
"""Row ids -> their columns, with the instruction as a place in the list of texts that comes along."""


class Journal:
    """Consecutive segments of rows, as they were recorded."""

    def __init__(self) -> None:
        self._segments: list[tuple[int, int, Blob]] = []

    def extend(self, oldest: int, head: int, recorded: Recorded) -> None:
        """Forget segments that lie before row `oldest`, and add the rows up to `head` that are in none yet."""
        self._segments = [segment for segment in self._segments if segment[1] > oldest]
        begin = self._segments[-1][1] if self._segments else oldest
        for first in range(begin, head, MOST_ROWS):
            last = min(first + MOST_ROWS, head)
            rows, texts = recorded(np.arange(first, last))
            self._segments.append((first, last, Blob(rows, {"texts": json.dumps(texts)})))

    def store(self, folder: Path, previous: Sequence[Path]) -> list[tuple[int, int, str]]:
        """Have `folder` hold every segment; the first and last id and the file of each."""
        return [(first, last, blob.store(folder, previous)) for first, last, blob in self._segments]

    @classmethod
    def open(
        cls, folder: Path, files: Any, oldest: int, head: int, specs: ColumnSpecs, damaged: Collection[str] = ()
    ) -> Journal:
        """The segments that `store` wrote, but for files that are known to be `damaged`.

        Raises:
            ValueError: they do not hold the rows from `oldest` to `head`, or a file is damaged; names it.
        """
        journal = cls()
        end = oldest
        for first, last, name in files:
            if not first <= end <= last:
                raise ValueError(f"{folder / name}: expected row {end}, got rows {first} to {last}")
            end = last
            if name in damaged:
                continue
            blob = Blob.open(within(folder, name))
            for column, (shape, dtype) in specs.items():
                if not is_later(column):
                    dtype = np.dtype(np.int64) if column == "instruction" else dtype
                    blob.array(column, (last - first, *shape), dtype)
            journal._segments.append((first, last, blob))
        if end != head:
            raise ValueError(f"{folder / STATE_FILE}: expected rows up to {head}, got rows up to {end}")
        return journal

    def parts(self, oldest: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray], list[str]]]:
        """Of each segment from row `oldest` on: the rows' ids, their columns, and their texts."""
        for first, last, blob in self._segments:
            skip = max(oldest - first, 0)
            rows = {name: values[skip:] for name, values in blob.arrays.items()}
            yield np.arange(first + skip, last), rows, json.loads(blob.meta["texts"])


def packed(flags: np.ndarray) -> str:
    """Bools as text, eight to a byte."""
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def unpacked(text: str, count: int) -> np.ndarray:
    """The first `count` bools that `packed` packed."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the JSON that `read_state` reads."""
    (folder / STATE_FILE).write_text(json.dumps({"version": VERSION, **state}))


def read_state(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The state that `write_state` stored.

    Raises:
        ValueError: it is missing or broken, or its settings differ from `settings`; names the file
            and the first setting that differs.
    """
    path, state = folder / STATE_FILE, _state(folder)
    saved = state["settings"]
    if not 0 <= state["head"] - state["oldest"] <= min(saved["capacity"], 8 * len(state["alive"])):
        raise ValueError(f"{path}: rows {state['oldest']} to {state['head']} are not those that it tells of")
    # What follows from the others is worked out anew, whatever of it was kept when the file was written.
    for name in [name for name in [*settings["columns"], *saved["columns"]] if not is_later(name)]:
        here, there = settings["columns"].get(name), saved["columns"].get(name)
        # A signal that only one of them has is left out, or 0.
        if here != there and not (name.startswith(SIGNAL) and None in (here, there)):
            raise ValueError(f"{path}: column {name} was saved as {there}, this replay has {here}")
    for name, value in settings.items():
        if name != "columns" and saved.get(name) != value:
            raise ValueError(f"{path}: was saved with {name} {saved.get(name)}, this replay has {name} {value}")
    return state


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of the buffer whose state `write_state` stored.

    Raises:
        ValueError: as `read_state`; or they ask for more than this machine's memory.
    """
    settings = _state(folder)["settings"]
    try:
        columns = sum(np.dtype(kind).itemsize * math.prod(shape) for shape, kind in settings["columns"].values())
        room = settings["capacity"] * (columns + 8 * settings["stack"]) + settings["lanes"] * _LANE
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder / STATE_FILE}: its settings are damaged: {error!r}") from error
    if not 0 < room < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise ValueError(f"{folder / STATE_FILE}: asks for {room:.3g} bytes, more than this machine's memory")
    return settings


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE_FILE
    try:
        state = json.loads(path.read_text())
        _, version = state["settings"]["columns"], state["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: not a whole replay state: {error}") from error
    if version != VERSION:
        raise ValueError(f"{path}: expected version {VERSION}, got {version}")
    return state
