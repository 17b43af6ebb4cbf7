"""What travels between a training and the page's server: a JSON object, and bytes behind it.

Nothing of it is code: whoever reads gets plain values, of no more bytes than it allows.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, Protocol

ADDRESS = ".cockpit"
"""Of a run's folder: a file that says where its socket is."""
_HEAD = struct.Struct(">II")
MOST_ASKED, MOST_TOLD = 1 << 16, 1 << 26
"""Bytes of a question, and of an answer."""


class Stream(Protocol):
    """What is spoken through."""

    def read(self, size: int, /) -> bytes: ...

    def write(self, data: bytes, /) -> Any: ...

    def flush(self) -> None: ...


class WireError(RuntimeError):
    """The other side is gone, or says what cannot be read."""


def write(stream: Stream, said: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Send an object, and blobs behind it; what they are, `said` tells. Raises WireError."""
    text = json.dumps(said).encode()
    try:
        stream.write(_HEAD.pack(len(text), sum(map(len, blobs))) + text + b"".join(blobs))
        stream.flush()
    except (OSError, ValueError) as error:
        raise WireError(f"the other side is gone: {error}") from error


def read(stream: Stream, most: int) -> tuple[dict[str, Any], bytes]:
    """The next object, and the bytes behind it. Raises WireError."""
    length, rest = _HEAD.unpack(_exactly(stream, _HEAD.size))
    if length + rest > most:
        raise WireError(f"{length + rest} bytes, at most {most} are read")
    try:
        said = json.loads(_exactly(stream, length))
    except ValueError as error:
        raise WireError(f"no JSON: {error}") from error
    if not isinstance(said, dict):
        raise WireError(f"expected an object, got {type(said).__name__}")
    return said, _exactly(stream, rest)


def _exactly(stream: Stream, size: int) -> bytes:
    try:
        found = stream.read(size)
    except (OSError, ValueError) as error:
        raise WireError(f"the other side is gone: {error}") from error
    if len(found) < size:
        raise WireError("the other side is gone")
    return found
