"""mp4 videos of frames, through PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vla_rl import fault_points
from vla_rl.media.images import enlarged

CODECS = ("libx264", "libopenh264", "mpeg4")
"""In order of preference: browsers play H.264; MPEG-4 is always there."""


def write_video(path: Path, frames: Sequence[np.ndarray], fps: float, size: int = 256) -> Path:
    """Write uint8 frames [H, W, 3] as an mp4, enlarged to about `size` pixels where they are smaller.

    Raises:
        ValueError: no frames, or a `path` that is not an .mp4.
        RuntimeError: this build of FFmpeg has none of `CODECS`.
    """
    path = Path(path)
    if not len(frames) or path.suffix != ".mp4":
        raise ValueError(f"write_video needs frames and a name that ends in .mp4; got {len(frames)} and {path}")
    fault_points.come_to("video.write")
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [_even(enlarged(frame, size)) for frame in frames]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(_codec(), rate=Fraction(fps).limit_denominator(1000))
        assert isinstance(stream, av.VideoStream), stream
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def _codec() -> str:
    """The first codec that this machine can encode with."""
    for name in CODECS:
        if name in av.codecs_available:
            try:
                av.Codec(name, "w")
            except ValueError:
                continue
            return name
    raise RuntimeError(f"this build of FFmpeg can encode none of {', '.join(CODECS)}; reinstall the package 'av'")


def _even(picture: np.ndarray) -> np.ndarray:
    """Without an odd last row or column, which yuv420p cannot hold."""
    height, width = picture.shape[:2]
    return np.ascontiguousarray(picture[: height - height % 2, : width - width % 2])
