"""Pictures of a dataset: PNG files in its rows, or the frames of its videos."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from vla_rl.data.files import DemonstrationError, naming
from vla_rl.data.lerobot.layout import VIDEOS, Limits
from vla_rl.registry import SetupError

CODEC = "libx264"
OPTIONS = {"crf": "18", "g": "2", "bf": "0"}
"""Quality; one frame in `g` can be decoded alone; frames in the order of their showing, as their times need it."""
FORMATS = ("PNG", "JPEG")
"""Of pictures that are read; some others have programs run."""
CONTAINER = "mp4"
"""Of videos that are read, whatever they are called: FFmpeg's lists of files and addresses are not followed."""
PIXELS = "yuv444p"
"""Colours at full size: on small pictures halved ones cost more than half of the loss, and gain next to no bytes."""


def encode(picture: np.ndarray) -> bytes:
    """uint8 [H, W, 3] as a PNG file, without loss."""
    with io.BytesIO() as file:
        Image.fromarray(picture).save(file, "PNG")
        return file.getvalue()


def decode(content: bytes | None, shape: tuple[int, ...]) -> np.ndarray:
    """The picture uint8 `shape`, (H, W, 3), of a file; its size is checked before it is unpacked.

    Raises:
        ValueError: no picture, a damaged one, or one of another size.
    """
    if content is None:
        raise ValueError("the picture's file is not in the dataset")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            found = (picture.height, picture.width, 3)
            if found != shape:
                raise ValueError(f"expected a picture {list(shape)}, got {list(found)}")
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"a picture cannot be read: {error}") from error


class VideoFiles:
    """The videos of one camera: episodes one after another, in a new file where one would grow beyond its limit."""

    def __init__(self, root: Path, key: str, fps: float, limits: Limits) -> None:
        self.root, self.key, self.fps, self.limits = root, key, fps, limits
        if CODEC not in av.codecs_available:
            raise SetupError(f"this build of FFmpeg lacks {CODEC} to write videos with; use mode=image")
        self._place = (0, 0)
        self._container: Any = None
        self._stream: Any = None
        self._frames = self._bytes = 0

    def write(self, frames: np.ndarray) -> dict[str, Any]:
        """Add an episode's frames uint8 [N, H, W, 3]; where they lie, as `meta/episodes` says it."""
        # As large as the episodes before it, frame by frame.
        if self._container and self._bytes * (1 + len(frames) / self._frames) >= self.limits.video_bytes:
            self.close()
            self._place = self.limits.following(*self._place)
        if self._container is None:
            self._open(frames.shape[1:3])
        begin = self._frames
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = self._frames
            self._mux(picture)
            self._frames += 1
        lies = {"from_timestamp": begin / self.fps, "to_timestamp": self._frames / self.fps}
        lies |= {"chunk_index": self._place[0], "file_index": self._place[1]}
        return {f"videos/{self.key}/{name}": value for name, value in lies.items()}

    def close(self) -> None:
        """Finish the file that is being written."""
        if self._container is not None:
            self._mux(None)
            self._container.close()
            self._container = None
            self._frames = self._bytes = 0

    def info(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """What `meta/info.json` says of frames of this shape."""
        told = {"height": shape[0], "width": shape[1], "channels": 3, "fps": self.fps, "codec": "h264"}
        told |= {"pix_fmt": PIXELS, "is_depth_map": False}
        return {f"video.{name}": value for name, value in told.items()} | {"has_audio": False}

    def _open(self, shape: tuple[int, ...]) -> None:
        path = self.root / VIDEOS.format(video_key=self.key, chunk_index=self._place[0], file_index=self._place[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream(
            CODEC, rate=Fraction(self.fps).limit_denominator(1001), options=dict(OPTIONS)
        )
        self._stream.height, self._stream.width = shape
        self._stream.pix_fmt = PIXELS

    def _mux(self, picture: Any) -> None:
        for packet in self._stream.encode(picture):
            self._bytes += packet.size
            self._container.mux(packet)


def read_video(path: Path, key: str, begin: float, count: int, fps: float, shape: tuple[int, ...]) -> np.ndarray:
    """`count` frames uint8 [count, H, W, 3] from `begin` on, in seconds.

    Raises:
        DemonstrationError: the file is missing or damaged, has frames of another size, or lacks some.
    """
    if not path.is_file():
        raise DemonstrationError(f"{path}: no such file, though meta/episodes lists it for {key}")
    if count > path.stat().st_size:
        raise DemonstrationError(f"{path}: {key}: cannot hold {count} frames in {path.stat().st_size} bytes")
    colours = VideoReformatter()  # one for all: making it takes longer than the frame
    with naming(path), av.open(str(path), format=CONTAINER) as container:
        stream = container.streams.video[0]
        found = (stream.height, stream.width, 3)
        if found != shape:
            raise DemonstrationError(f"{path}: {key}: expected frames {list(shape)}, got {list(found)}")
        frames, seen = np.zeros((count, *shape), np.uint8), np.zeros(count, bool)
        assert stream.time_base is not None
        container.seek(max(int(begin / stream.time_base) - 1, 0), stream=stream)
        for frame in container.decode(stream):
            number = round((float(frame.pts * stream.time_base) - begin) * fps) if frame.pts is not None else -1
            if number >= count:
                break
            if number >= 0:
                frames[number], seen[number] = colours.reformat(frame, format="rgb24").to_ndarray(), True
    if not seen.all():
        raise DemonstrationError(f"{path}: {key}: lacks the frame at {begin + int(seen.argmin()) / fps:g} s")
    return frames
