"""Where the files of a LeRobotDataset v3 lie, and what its features are called.

A dataset is a folder: `meta/info.json` says what there is; Parquet files under `data/` hold a row a frame, those under
`meta/episodes/` a row an episode, `meta/tasks.parquet` the instructions, `meta/stats.json` how the numbers spread.
Pictures lie in the frames' rows as PNG files (image mode), or in mp4 files under `videos/` (video mode). Each file
holds many episodes, up to a limit of bytes, and each folder `chunk-...` many files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vla_rl.registry import SetupError

VERSION = "v3.0"
INFO, STATS, TASKS, OWN = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/vla_rl.json"
PLACE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA, EPISODES = f"data/{PLACE}.parquet", f"meta/episodes/{PLACE}.parquet"
VIDEOS = f"videos/{{video_key}}/{PLACE}.mp4"

ACTION, LABEL, TOKENS, LABEL_TOKENS = "action", "label", "tokens", "label_tokens"
REWARD, DONE, SUCCESS = "next.reward", "next.done", "next.success"
TERMINATED, TRUNCATED = "next.terminated", "next.truncated"
FINAL, DEMO = "final", "demo"
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
        """Of an entry of `meta/info.json`; a picture whose channels come first is turned to (H, W, channels)."""
        dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
        names = entry.get("names")
        if dtype in ("image", "video") and isinstance(names, list) and str(names[0]).startswith("channel"):
            shape = (*shape[1:], shape[0])
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
