"""Where the files of a LeRobotDataset v3 lie, and what its features are called.

A dataset is a folder: `meta/info.json` says what there is; Parquet files under `data/` hold a row a frame, those under
`meta/episodes/` a row an episode, `meta/tasks.parquet` the instructions, `meta/stats.json` how the numbers spread.
Pictures lie in the frames' rows as PNG files (image mode), or in mp4 files under `videos/` (video mode). Each file
holds many episodes, up to a limit of bytes, and each folder `chunk-...` many files. `SHA256SUMS`, which LeRobot's own
lack, tells damage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vla_rl.registry import SetupError, nearest

VERSION = "v3.0"
INFO, STATS, TASKS, OWN = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/vla_rl.json"
PLACE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA, EPISODES = f"data/{PLACE}.parquet", f"meta/episodes/{PLACE}.parquet"
VIDEOS = f"videos/{{video_key}}/{PLACE}.mp4"

ACTION, LABEL, TOKENS, LABEL_TOKENS = "action", "label", "tokens", "label_tokens"
REWARD, DONE, SUCCESS = "next.reward", "next.done", "next.success"
TERMINATED, TRUNCATED = "next.terminated", "next.truncated"
FINAL, DEMO, SIGNAL = "final", "demo", "signal."
INDEX = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every dataset has, and their dtypes."""

Mode = Literal["image", "video"]


@dataclass(frozen=True)
class Limits:
    """How much lies together: bytes of a Parquet file and of an mp4 file, and files of a folder."""

    data_bytes: int = 100 << 20
    video_bytes: int = 200 << 20
    files: int = 1000

    def following(self, chunk: int, file: int) -> tuple[int, int]:
        """The place after the place (chunk, file)."""
        return (chunk + 1, 0) if file + 1 == self.files else (chunk, file + 1)


@dataclass(frozen=True)
class Feature:
    """What a frame holds under one key.

    dtype: numpy's name, or `image` or `video` with shape (H, W, channels). shape: a single number's is (1,).
    """

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, values: np.ndarray, picture: Mode) -> Feature:
        """Of the values [N, ...] of N frames; pictures are uint8 [N, H, W, 3], and all else is one row of numbers."""
        if values.ndim == 4 and values.dtype == np.uint8:
            return cls(picture, values.shape[1:])
        return cls(values.dtype.name, (max(int(np.prod(values.shape[1:])), 1),))

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Feature:
        """Of an entry of `meta/info.json`; a picture whose channels come first is turned to (H, W, channels).

        Where the entry does not name its axes, 3 channels are known by their number.
        """
        dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
        names = entry.get("names")
        if dtype in ("image", "video") and len(shape) == 3:
            named = isinstance(names, list) and names
            first = str(named[0]).startswith("channel") if named else shape[0] == 3 != shape[2]
            shape = (*shape[1:], shape[0]) if first else shape
        return cls(dtype, shape)

    @property
    def is_picture(self) -> bool:
        return self.dtype in ("image", "video")

    def entry(self, info: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The entry of `meta/info.json`."""
        names = ["height", "width", "channels"] if self.is_picture else None
        return {"dtype": self.dtype, "shape": list(self.shape), "names": names} | ({"info": dict(info)} if info else {})


def is_dataset(folder: str | Path) -> bool:
    """Whether a LeRobotDataset lies at `folder`."""
    return (Path(folder) / INFO).is_file()


def path_of(folder: Path, key: str, pattern: str, values: Mapping[str, Any]) -> Path:
    """The file that a dataset's own `data_path` or `video_path` (`key`) tells of; `values` stand for its {names}.

    Raises:
        ValueError: an unknown {name}, or a path that leads out of the folder.
    """

    def value(match: re.Match[str]) -> str:
        name, width = match[1], int(match[2] or 0)
        if name not in values:
            raise ValueError(f"{key}: {pattern!r}: nothing is called {name!r}; {nearest(name, values)}")
        return f"{values[name]:0{width}d}" if isinstance(values[name], int) else str(values[name])

    told = re.sub(r"{(\w+)(?::0?(\d{0,2})d)?}", value, pattern)
    # By its words: in a hub's cache the files themselves are links that lead out of the folder.
    if "{" in told or Path(told).is_absolute() or ".." in Path(told).parts:
        raise ValueError(f"{key}: {pattern!r} is no place within the dataset's folder")
    return folder / told


def arrow() -> Any:
    """The package pyarrow. Raises SetupError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet  # an attribute of it from then on
    except ImportError as error:
        raise SetupError(
            f"LeRobotDatasets are of Parquet files, which need pyarrow ({error}); "
            "`pip install 'vla-rl[lerobot]'` installs it"
        ) from error
    return pyarrow
