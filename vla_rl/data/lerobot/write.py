"""Writing a LeRobotDataset v3, an episode at a time: whole, or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.data.files import new_folder
from vla_rl.data.lerobot import layout, pictures
from vla_rl.data.lerobot.layout import Feature, Limits, Mode
from vla_rl.data.lerobot.stats import Stats, merged, stats_of
from vla_rl.paths import write_sums

ROWS = 256
"""So many rows of `meta/episodes` are held until they are written."""


@contextmanager
def writing(folder: Path, mode: Mode = "image", fps: float = 10, limits: Limits | None = None) -> Iterator[Writer]:
    """A writer of a new dataset, which takes its name once the block ends well.

    Raises:
        FileExistsError: something lies at `folder` already; nothing is overwritten.
        ValueError: `fps` below 1, a mode that is none, or no episodes.
        SetupError: pyarrow is not installed.
    """
    if mode not in ("image", "video") or not 1 <= fps < math.inf:
        raise ValueError(f"expected mode image or video and fps of at least 1, got {mode!r} and {fps}")
    layout.arrow()
    with new_folder(Path(folder)) as temporary:
        writer = Writer(temporary, mode, fps, limits or Limits())
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


class Writer:
    """Writes episodes; use `writing`, which makes one.

    Attributes:
        episodes, frames: how many were written.
        own: JSON that goes into `meta/vla_rl.json`.
    """

    def __init__(self, folder: Path, mode: Mode, fps: float, limits: Limits) -> None:
        self.folder, self.mode, self.limits = folder, mode, limits
        self.fps = int(fps) if fps == int(fps) else fps  # LeRobot's own is a whole number
        self.episodes = self.frames = 0
        self.own: dict[str, Any] = {}
        self._features: dict[str, Feature] = {}
        self._tasks: dict[str, int] = {}
        self._stats: dict[str, Stats] = {}
        self._rows: list[dict[str, Any]] = []
        self._data = TableFiles(folder, layout.DATA, limits)
        self._meta = TableFiles(folder, layout.EPISODES, limits)
        self._videos: dict[str, pictures.VideoFiles] = {}

    def add(self, columns: Mapping[str, np.ndarray], tasks: Sequence[str], **row: Any) -> None:
        """Write an episode of N frames.

        columns: key -> [N, ...]; uint8 [N, H, W, 3] are pictures. tasks: the N instructions. row: more to say of the
        episode in `meta/episodes`.

        Raises:
            ValueError: no frames, or other keys, shapes or dtypes than the first episode has.
        """
        self._check(columns, len(tasks))
        values = {key: np.asarray(column) for key, column in columns.items()} | self._index(tasks)
        features = self._features | {key: Feature(dtype, (1,)) for key, dtype in layout.INDEX.items()}
        table = _table(features, values)
        chunk, file = self._data.place(table.nbytes)
        self._data.write(table)
        told = {
            "episode_index": self.episodes,
            "tasks": list(dict.fromkeys(tasks)),
            "length": len(tasks),
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + len(tasks),
        }
        for key, files in self._videos.items():
            told |= files.write(values[key])
        for key, feature in features.items():
            stats = stats_of(values[key], feature)
            told |= {f"stats/{key}/{name}": part.tolist() for name, part in stats.items()}
            self._stats[key] = merged([self._stats[key], stats]) if key in self._stats else stats
        self._rows.append(told | row)
        self.episodes, self.frames = self.episodes + 1, self.frames + len(tasks)
        if len(self._rows) == ROWS:
            self._flush()

    def finish(self) -> None:
        """Write all that says what there is. Raises ValueError where nothing was written."""
        if not self.episodes:
            raise ValueError("there are no episodes to write")
        self._flush()
        self.close()
        pa = layout.arrow()
        tasks = pa.table({"task_index": pa.array(range(len(self._tasks)), pa.int64()), "task": list(self._tasks)})
        pa.parquet.write_table(tasks.replace_schema_metadata(_TASK_INDEX), self.folder / layout.TASKS)
        stats = {key: {name: part.tolist() for name, part in stats.items()} for key, stats in self._stats.items()}
        _write_json(self.folder / layout.STATS, stats)
        _write_json(self.folder / layout.OWN, self.own)
        _write_json(self.folder / layout.INFO, self._info())
        files = (path for path in self.folder.rglob("*") if path.is_file())
        write_sums(self.folder, [path.relative_to(self.folder).as_posix() for path in files])

    def close(self) -> None:
        """Close every file."""
        self._data.close()
        self._meta.close()
        for files in self._videos.values():
            files.close()

    def _check(self, columns: Mapping[str, np.ndarray], count: int) -> None:
        if not count:
            raise ValueError("an episode without frames cannot be written")
        features = {key: Feature.of(np.asarray(column), self.mode) for key, column in columns.items()}
        if not self.episodes:
            self._features = features
            for key, feature in features.items():
                if feature.dtype == "video":
                    self._videos[key] = pictures.VideoFiles(self.folder, key, self.fps, self.limits)
        for key in sorted(features.keys() | self._features.keys()):
            if features.get(key) != self._features.get(key):
                raise ValueError(f"{key}: episode 0 has {self._features.get(key)}, this one {features.get(key)}")
            if len(columns[key]) != count:
                raise ValueError(f"{key}: expected {count} frames, got {len(columns[key])}")

    def _index(self, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        frame = np.arange(len(tasks))
        number = [self._tasks.setdefault(task, len(self._tasks)) for task in tasks]
        values = (frame / self.fps, frame, np.full(len(tasks), self.episodes), self.frames + frame, number)
        return {key: np.asarray(each, dtype) for (key, dtype), each in zip(layout.INDEX.items(), values, strict=True)}

    def _flush(self) -> None:
        if self._rows:
            pa = layout.arrow()
            chunk, file = self._meta.place(pa.Table.from_pylist(self._rows).nbytes)
            place = {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
            self._meta.write(pa.Table.from_pylist([row | place for row in self._rows]))
            self._rows = []

    def _info(self) -> dict[str, Any]:
        entries = {
            key: feature.entry(self._videos[key].info(feature.shape) if key in self._videos else None)
            for key, feature in self._features.items()
        }
        entries |= {key: Feature(dtype, (1,)).entry() for key, dtype in layout.INDEX.items()}
        return {
            "codebase_version": layout.VERSION,
            "robot_type": None,
            "total_episodes": self.episodes,
            "total_frames": self.frames,
            "total_tasks": len(self._tasks),
            "chunks_size": self.limits.files,
            "data_files_size_in_mb": max(self.limits.data_bytes >> 20, 1),
            "video_files_size_in_mb": max(self.limits.video_bytes >> 20, 1),
            "fps": self.fps,
            "splits": {"train": f"0:{self.episodes}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEOS if self._videos else None,
            "features": entries,
        }


class TableFiles:
    """Parquet files of one kind, one after another; each table becomes a row group."""

    def __init__(self, root: Path, pattern: str, limits: Limits) -> None:
        self.root, self.pattern, self.limits = root, pattern, limits
        self._place, self._bytes = (0, 0), 0
        self._writer: Any = None

    def place(self, nbytes: int) -> tuple[int, int]:
        """Where a table of so many bytes goes: into a new file where it would lead the present one beyond its limit."""
        if self._writer is not None and self._bytes + nbytes > self.limits.data_bytes:
            self.close()
            self._place = self.limits.following(*self._place)
        return self._place

    def write(self, table: Any) -> None:
        """Write a table to the place that `place` told."""
        pa = layout.arrow()
        if self._writer is None:
            path = self.root / self.pattern.format(chunk_index=self._place[0], file_index=self._place[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pa.parquet.ParquetWriter(path, table.schema, compression="snappy")
        self._writer.write_table(table.cast(self._writer.schema))
        self._bytes += table.nbytes

    def close(self) -> None:
        """Finish the file that is being written."""
        if self._writer is not None:
            self._writer.close()
            self._writer, self._bytes = None, 0


# So that pandas takes the texts as the table's index.
_TASK_INDEX = {
    "pandas": json.dumps(
        {
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [
                {
                    "name": name, "field_name": name, "pandas_type": kind, "numpy_type": dtype, "metadata": None
                } for name, kind, dtype in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
            ],
            "pandas_version": "2.0.0",
        }
    )
}  # fmt: skip


def _table(features: Mapping[str, Feature], values: Mapping[str, np.ndarray]) -> Any:
    """The rows of an episode, less the pictures that go into videos."""
    columns = {key: _column(feature, values[key]) for key, feature in features.items() if feature.dtype != "video"}
    return layout.arrow().table(columns)


def _column(feature: Feature, values: np.ndarray) -> Any:
    pa = layout.arrow()
    if feature.dtype == "image":
        files = pa.array([pictures.encode(picture) for picture in values], pa.binary())
        return pa.StructArray.from_arrays([files, pa.nulls(len(values), pa.string())], names=["bytes", "path"])
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return flat if feature.shape == (1,) else pa.FixedSizeListArray.from_arrays(flat, feature.shape[0])


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", "utf-8")
