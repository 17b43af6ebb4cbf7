"""Lossless coding of frames: a filter that leaves little to say, then zstd; which filter, a stream's own frames decide.

    raw    the bytes themselves
    plain  zstd
    left   each pixel minus the one to its left (PNG's filter `Sub`), then zstd: for noisy pictures
    key    XOR with a keyframe of the same episode, then zstd: for cameras that stand still, and for screens

Any frame is decoded from at most one other, its keyframe. Nothing here loops over frames in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard

CODECS = ("raw", "plain", "left", "key")
INTERVAL = 16
"""At most so many frames of an episode hang on one keyframe."""
LEVEL = 3
GAIN = 0.9
"""Another coding than the simpler one before it must need at most this share of its bytes."""


@dataclass(frozen=True)
class Coded:
    """N frames. data uint8 [bytes]; offset int64 [N + 1]; key int32 [N], each frame's keyframe (itself where none)."""

    codec: str
    shape: tuple[int, int, int]
    data: np.ndarray
    offset: np.ndarray
    key: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    def spans(self, index: np.ndarray) -> bytes:
        """Where the frames at `index` begin and how long they are, as zstandard wants it."""
        begin = self.offset[index]
        return np.stack([begin, self.offset[index + 1] - begin], axis=1).astype(np.uint64).tobytes()

    def decode(self, index: np.ndarray) -> np.ndarray:
        """The frames at `index` int [B], uint8 [B, H, W, 3]; each is decoded once.

        Raises:
            ValueError: the data are damaged.
        """
        wanted, where = np.unique(index, return_inverse=True)
        needed = np.union1d(wanted, self.key[wanted])
        frames = inflate([(self, needed)])
        at, key = np.searchsorted(needed, wanted), np.searchsorted(needed, self.key[wanted])
        hangs = at != key
        found = frames[at]
        found[hangs] ^= frames[key[hangs]]
        return found[where]


def inflate(parts: Sequence[tuple[Coded, np.ndarray]]) -> np.ndarray:
    """The frames at places int [n] of each part, one part after another, all of one codec: uint8 [N, H, W, 3].

    Those that hang on a keyframe are still to be XORed with it.

    Raises:
        ValueError: the data are damaged.
    """
    first = parts[0][0]
    if first.codec == "raw":
        return np.concatenate([coded.data.reshape(-1, *first.shape)[at] for coded, at in parts])
    sources = [zstandard.BufferWithSegments(coded.data.data, coded.spans(at)) for coded, at in parts]
    try:
        together = zstandard.BufferWithSegmentsCollection(*sources)
        pieces: Any = zstandard.ZstdDecompressor().multi_decompress_to_buffer(together)
        frames = np.frombuffer(bytearray().join(pieces), np.uint8).reshape(-1, *first.shape)
    except (zstandard.ZstdError, ValueError) as error:
        raise ValueError(f"frames cannot be decoded: {error}") from error
    return np.cumsum(frames, axis=2, dtype=np.uint8, out=frames) if first.codec == "left" else frames


def encode(frames: np.ndarray, groups: np.ndarray, codec: str) -> Coded:
    """Code uint8 [N, H, W, 3]. groups int [N]: the episode of each; those of one episode lie together, in order."""
    own = np.arange(len(frames), dtype=np.int32)
    key = _keyframes(groups) if codec == "key" else own
    filtered = _FILTERS[codec](frames, key)
    if codec == "raw":
        offset = np.arange(len(frames) + 1) * frames[0].nbytes
        return Coded(codec, frames.shape[1:], filtered.reshape(-1), offset, key)
    spans = np.stack([own * frames[0].nbytes, np.full(len(own), frames[0].nbytes)], axis=1).astype(np.uint64)
    source = zstandard.BufferWithSegments(np.ascontiguousarray(filtered).reshape(-1).data, spans.tobytes())
    pieces: Any = zstandard.ZstdCompressor(level=LEVEL).multi_compress_to_buffer(source)
    lengths = np.fromiter(map(len, pieces), np.int64, len(frames))
    offset = np.concatenate([[0], np.cumsum(lengths)])
    return Coded(codec, frames.shape[1:], np.frombuffer(b"".join(pieces), np.uint8), offset, key)


def choose(frames: np.ndarray, groups: np.ndarray) -> str:
    """The coding that needs the fewest bytes for these frames; a simpler one where it needs hardly more."""
    best, least = CODECS[0], float(frames.nbytes)
    for codec in CODECS[1:]:
        size = len(encode(frames, groups, codec).data)
        if size < GAIN * least:
            best, least = codec, size
    return best


def _keyframes(groups: np.ndarray) -> np.ndarray:
    at = np.arange(len(groups), dtype=np.int32)
    begins = np.r_[True, groups[1:] != groups[:-1]]
    first = np.maximum.accumulate(np.where(begins, at, 0))
    return (first + (at - first) // INTERVAL * INTERVAL).astype(np.int32)


def _plain(frames: np.ndarray, key: np.ndarray) -> np.ndarray:
    return frames


def _left(frames: np.ndarray, key: np.ndarray) -> np.ndarray:
    filtered = frames.copy()
    filtered[:, :, 1:] -= frames[:, :, :-1]
    return filtered


def _key(frames: np.ndarray, key: np.ndarray) -> np.ndarray:
    hangs = key != np.arange(len(frames))
    filtered = frames.copy()
    filtered[hangs] ^= frames[key[hangs]]
    return filtered


_FILTERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "raw": _plain,
    "plain": _plain,
    "left": _left,
    "key": _key,
}
