"""Reading a LeRobotDataset v3, ours or anybody's: one episode after another, with every claim checked."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl.data.files import DemonstrationError, naming
from vla_rl.data.lerobot import layout, pictures
from vla_rl.data.lerobot.layout import Feature
from vla_rl.paths import check_sums
from vla_rl.registry import nearest
from vla_rl.specs import kept_text

ROWS = 64
"""So many frames are read at a time."""
DENSEST, ROWS_A_BYTE = 1024, 64
"""What a byte of a file may be unpacked to, in bytes and in rows, each of which has a number of its own."""


@dataclass(frozen=True)
class Recorded:
    """One episode of N frames. columns: key -> [N, ...], pictures uint8 [N, H, W, 3]. tasks: N texts.

    row: what `meta/episodes` says of it. path: the file of its rows.
    """

    columns: dict[str, np.ndarray]
    tasks: tuple[str, ...]
    row: dict[str, Any]
    path: Path


@dataclass(frozen=True)
class Dataset:
    """A dataset that was opened; nothing of its frames is read before they are asked for.

    features: by key, the index columns included. fps: frames a second. tasks: by their index, which may have gaps.
    count: of episodes. data_path, video_path: where `meta/info.json` says that rows and videos lie. own: what this
    package told of it, if it wrote it.
    """

    folder: Path
    features: dict[str, Feature]
    fps: float
    tasks: dict[int, str]
    count: int
    data_path: str
    video_path: str
    own: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Dataset:
        """Read what a dataset says of itself.

        Raises:
            DemonstrationError: it is missing, damaged, of another version, or holds no episodes; names the file.
            SetupError: pyarrow is not installed.
        """
        folder = Path(folder)
        layout.arrow()
        try:
            check_sums(folder)
        except ValueError as error:
            raise DemonstrationError(str(error)) from error
        info = _json(folder / layout.INFO)
        with naming(folder / layout.INFO):
            if not str(info["codebase_version"]).startswith("v3."):
                raise DemonstrationError(
                    f"{folder / layout.INFO}: expected codebase_version v3.x, got {info['codebase_version']!r}; "
                    "`lerobot` converts older datasets"
                )
            features = {str(key): Feature.parse(entry) for key, entry in info["features"].items()}
            count, fps = int(info["total_episodes"]), float(info["fps"])
            if count < 1 or not fps > 0:
                raise DemonstrationError(f"{folder / layout.INFO}: holds {count} episodes at {fps} frames a second")
            data, videos = str(info.get("data_path") or layout.DATA), str(info.get("video_path") or layout.VIDEOS)
        own = _json(folder / layout.OWN) if (folder / layout.OWN).exists() else {}
        return cls(folder, features, fps, _tasks(folder / layout.TASKS), count, data, videos, own)

    def feature(self, key: str) -> Feature:
        """What frames hold under `key`. Raises DemonstrationError where they do not; names the nearest key."""
        if key not in self.features:
            raise DemonstrationError(f"{self.folder / layout.INFO}: {key}: missing; {nearest(key, self.features)}")
        return self.features[key]

    def episodes(self, keys: Collection[str]) -> Iterator[Recorded]:
        """Each episode in order, with the features `keys` of its frames.

        Raises:
            DemonstrationError: a file is missing or damaged, or says other than `meta`; names the file and the key.
        """
        wanted = {key: self.feature(key) for key in keys}
        rows = self._rows()
        for path, table in self._tables(self._files(rows), [key for key in wanted if wanted[key].dtype != "video"]):
            with naming(path):
                number, length = int(table["episode_index"][0].as_py()), table.num_rows
                if number not in rows:
                    raise DemonstrationError(f"{path}: episode {number} is not in meta/episodes, or comes twice")
                row = rows.pop(number)
                if int(row["length"]) != length:
                    raise DemonstrationError(
                        f"{path}: episode {number}: meta/episodes says {row['length']} frames, got {length}"
                    )
                columns = {key: self._column(path, key, feature, table, row) for key, feature in wanted.items()}
                tasks = tuple(self._task(index, number) for index in table["task_index"].to_pylist())
            yield Recorded(columns, tasks, row, path)
        if rows:
            raise DemonstrationError(f"{self.folder / 'data'}: lacks the frames of episode {min(rows)}")

    def _task(self, index: int | None, episode: int) -> str:
        if index not in self.tasks:
            raise ValueError(f"task_index: {index} in episode {episode}, and {layout.TASKS} has no such task")
        return self.tasks[index]

    def _rows(self) -> dict[int, dict[str, Any]]:
        """What `meta/episodes` says of each episode, its statistics apart; in order, perhaps with gaps."""
        parquet, rows = layout.arrow().parquet, dict[int, dict[str, Any]]()
        for path in sorted(self.folder.glob("meta/episodes/*/[!.]*.parquet")):
            with naming(path), parquet.ParquetFile(path) as file:
                _check_size(path, file)
                keys = [key for key in file.schema_arrow.names if not key.startswith("stats/")]
                rows |= {int(row["episode_index"]): row for row in file.read(keys).to_pylist()}
        if len(rows) != self.count:
            raise DemonstrationError(
                f"{self.folder / 'meta/episodes'}: expected the {self.count} episodes that {layout.INFO} counts, got "
                f"{len(rows)}"
            )
        return dict(sorted(rows.items()))

    def _files(self, rows: Mapping[int, Mapping[str, Any]]) -> list[Path]:
        """The files of the episodes' frames, one after another."""
        places = {}
        with naming(self.folder / "meta/episodes"):
            for number, row in rows.items():
                place = (int(row["data/chunk_index"]), int(row["data/file_index"]))
                places[self._path("data_path", self.data_path, number, *place)] = place
        return sorted(places, key=lambda path: (places[path], path))

    def _path(self, key: str, pattern: str, episode: int, chunk: int, file: int, video_key: str = "") -> Path:
        values = {"chunk_index": chunk, "file_index": file, "episode_index": episode, "video_key": video_key}
        with naming(self.folder / layout.INFO):
            return layout.path_of(self.folder, key, pattern, values)

    def _tables(self, files: list[Path], keys: list[str]) -> Iterator[tuple[Path, Any]]:
        """The rows of each episode, as they follow one another in the files."""
        concat, held = layout.arrow().concat_tables, list[Any]()
        path = self.folder / "data"
        for path, batch in self._batches(files, [*keys, "episode_index", "task_index"]):
            numbers = batch["episode_index"].to_numpy()
            ends = [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
            for begin, end in zip([0, *ends], ends, strict=False):
                if held and held[0]["episode_index"][0].as_py() != numbers[begin]:
                    yield path, concat(held)
                    held = []
                held.append(batch.slice(begin, end - begin))
        if held:
            yield path, concat(held)

    def _batches(self, files: list[Path], keys: list[str]) -> Iterator[tuple[Path, Any]]:
        pa = layout.arrow()
        for path in files:
            if not path.is_file():
                raise DemonstrationError(f"{path}: no such file, though meta/episodes lists it")
            with naming(path), pa.parquet.ParquetFile(path) as file:
                _check_size(path, file)
                for key in keys:
                    if key not in file.schema_arrow.names:
                        raise DemonstrationError(f"{path}: {key}: missing; {nearest(key, file.schema_arrow.names)}")
                    kind = file.schema_arrow.field(key).type
                    if key in layout.INDEX and "int" in layout.INDEX[key] and not pa.types.is_integer(kind):
                        raise DemonstrationError(f"{path}: {key}: expected whole numbers, got {kind}")
                for batch in file.iter_batches(ROWS, columns=keys):
                    if batch.num_rows:
                        yield path, pa.Table.from_batches([batch])

    def _column(self, path: Path, key: str, feature: Feature, table: Any, row: dict[str, Any]) -> np.ndarray:
        if feature.dtype == "video":
            chunk, file = (int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index"))
            video = self._path("video_path", self.video_path, int(row["episode_index"]), chunk, file, key)
            begin = float(row[f"videos/{key}/from_timestamp"])
            return pictures.read_video(video, key, begin, table.num_rows, self.fps, feature.shape)
        if feature.dtype == "image":
            try:
                return np.stack([pictures.decode(cell["bytes"], feature.shape) for cell in table[key].to_pylist()])
            except (ValueError, KeyError, TypeError) as error:
                raise DemonstrationError(f"{path}: {key}: {error}") from error
        return _numbers(path, key, feature, table[key])


def _check_size(path: Path, file: Any) -> None:
    """Raise DemonstrationError where a Parquet file says that it holds more than so many bytes can."""
    told, size = file.metadata, path.stat().st_size
    unpacked = sum(told.row_group(index).total_byte_size for index in range(told.num_row_groups))
    if told.num_rows > ROWS_A_BYTE * size or unpacked > DENSEST * size:
        raise DemonstrationError(
            f"{path}: {told.num_rows} rows, {unpacked} bytes unpacked, are too many for {size} bytes"
        )


def _numbers(path: Path, key: str, feature: Feature, column: Any) -> np.ndarray:
    """A column of numbers, [N, *shape], or [N] of single ones."""
    pa, values = layout.arrow(), column
    while hasattr(values.type, "value_type") or isinstance(values.type, pa.BaseExtensionType):
        if isinstance(values.type, pa.BaseExtensionType):
            values = pa.chunked_array([chunk.storage for chunk in values.chunks])
        else:
            values = pa.chunked_array([chunk.flatten() for chunk in values.chunks], values.type.value_type)
    shape = () if feature.shape == (1,) else feature.shape
    per_frame = len(values) / max(len(column), 1)
    if per_frame != np.prod(shape):
        raise DemonstrationError(
            f"{path}: {key}: {layout.INFO} says {list(feature.shape)} a frame, the file holds [{per_frame:g}]"
        )
    if values.null_count:
        raise DemonstrationError(f"{path}: {key}: {values.null_count} numbers are missing")
    array = values.to_numpy()
    if array.dtype.kind not in "biuf":
        raise DemonstrationError(f"{path}: {key}: expected numbers {feature.dtype}, got {values.type}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DemonstrationError(f"{path}: {key}: holds values that are not finite")
    return array.reshape(len(column), *shape)


def _tasks(path: Path) -> dict[int, str]:
    """The instructions by their index. A file of pandas' may call their column as it likes."""
    if not path.is_file():
        raise DemonstrationError(f"{path}: no such file")
    with naming(path), layout.arrow().parquet.ParquetFile(path) as file:
        _check_size(path, file)
        table = file.read()
        texts = [name for name in table.column_names if name != "task_index"]
        if len(texts) != 1:
            raise DemonstrationError(f"{path}: expected task_index and one column of texts, got {table.column_names}")
        numbers, words = table["task_index"].to_pylist(), table[texts[0]].to_pylist()
        return {int(number): kept_text(str(text)) for number, text in zip(numbers, words, strict=True)}


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DemonstrationError(f"{path}: no such file; is this a LeRobotDataset?")
    with naming(path):
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise DemonstrationError(f"{path}: expected a JSON object")
        return content
