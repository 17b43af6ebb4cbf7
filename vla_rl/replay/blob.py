"""Immutable files named by their content: written whole or not at all, linked, not copied; mapped, not read.

A file is in the safetensors format: named arrays and a little text. Its name is the SHA-256 of its bytes, so that two
files of one name are one file, whoever wrote them and whenever; a checkpoint takes those of the one before by a link.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import re
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as packed

from vla_rl import fault_points
from vla_rl.paths import flush, sha256_of

_NAME = re.compile("[0-9a-f]{64}")
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
UNFINISHED = ".part-"
"""Prefix of what is being written; whatever a killed process left of it is swept by `sweep`."""
_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "I8": "int8", "I16": "int16",
    "I32": "int32", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip


class AlteredError(ValueError):
    """A file no longer holds what was written to it. The message names it."""


class Blob:
    """Named arrays and text, in RAM until they are written and mapped from the file from then on.

    Attributes:
        arrays: by name; read-only once they are mapped.
        meta: short texts by name.
        nbytes: of all arrays.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, str]) -> None:
        self.arrays, self.meta = dict(arrays), dict(meta)
        self.nbytes = sum(array.nbytes for array in self.arrays.values())
        self.name: str | None = None
        self._written: tuple[int, ...] = ()

    def store(self, folder: Path, previous: Iterable[Path] = ()) -> str:
        """Have `folder` hold the file: there already, linked from a folder of `previous`, or written and flushed.

        What was altered since it was written is not linked.

        Returns:
            The file's name.

        Raises:
            AlteredError: it was altered, and so was what it is mapped from.
        """
        if self.name is not None:
            target = folder / self.name
            if target.exists() or any(self._stands(place / self.name, target) for place in previous):
                return self.name
        # One entry, since the format does not keep the order of several.
        meta = {"meta": json.dumps(self.meta)}
        content = packed({name: np.ascontiguousarray(array) for name, array in self.arrays.items()}, meta)
        digest = hashlib.sha256(content).hexdigest()
        if self.name not in (None, digest):
            raise AlteredError(f"{self.name}: altered since it was written (its SHA-256 differs)")
        self.name = digest
        target = folder / self.name
        if not target.exists():
            _write(target, content)
        self.arrays, self.meta = _mapped(target)
        self._written = _stamp(target)
        return self.name

    def _stands(self, source: Path, target: Path) -> bool:
        """Whether `target` is now another name of `source`, which holds what was written to it."""
        try:
            stamp = _stamp(source)
            if stamp != self._written:
                if sha256_of(source) != self.name:
                    return False
                self._written = stamp
        except OSError:
            return False
        return _link(source, target)

    @classmethod
    def open(cls, path: Path) -> Blob:
        """The file at `path`, mapped.

        Raises:
            ValueError: it is missing, cut short, longer than it says, or no such file at all; names it.
        """
        blob = cls(*_mapped(path))
        blob.name, blob._written = path.name, _stamp(path)
        return blob

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The array `name`.

        Raises:
            ValueError: there is none, or one of another shape or dtype.
        """
        array = self.arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise ValueError(f"{self.name}: {name}: expected {dtype} {list(shape)}, got {found}")
        return array


def sweep(folder: Path, keep: Iterable[str] = ()) -> None:
    """Delete every file of `folder` but those named: what was dropped, half written or written in vain."""
    wanted = set(keep)
    for path in folder.iterdir():
        if path.name not in wanted and path.is_file():
            path.unlink()


def _write(target: Path, content: bytes) -> None:
    draft = target.with_name(UNFINISHED + target.name)
    try:
        fault_points.come_to("replay.write")
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(target)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    flush(target.parent)


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes of a file as it is written to."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _link(source: Path, target: Path) -> bool:
    """Whether `target` is now another name of `source`; it is not where that is gone, or on another disk."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return True
    return False


def within(folder: Path, name: str) -> Path:
    """The file that a folder's own list names. Raises ValueError where that leads out of the folder."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{folder}: lists {str(name)[:80]!r}; its files are named by their SHA-256")
    return folder / name


def _bytes_of(path: Path) -> np.ndarray:
    """A file's bytes, uint8 [n], read-only, mapped. Unlike a memmap's it is not kept open: a long run has thousands."""
    handle = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(handle).st_size
        if not size:
            return np.empty(0, np.uint8)
        at = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
        if at in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(handle)
    held = (ctypes.c_uint8 * size).from_address(at)
    weakref.finalize(held, _LIBC.munmap, at, size).atexit = False  # a thread may still read
    content = np.ctypeslib.as_array(held)
    content.flags.writeable = False
    return content


def _mapped(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        content = _bytes_of(path)
        begin = 8 + int(content[:8].view("<u8")[0])
        header: dict[str, Any] = json.loads(content[8:begin].tobytes())
        meta = json.loads(header.pop("__metadata__")["meta"])
        arrays, end = {}, begin
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            end = max(end, begin + last)
            arrays[name] = content[begin + first : begin + last].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if end != len(content):
            raise ValueError(f"expected {end} bytes, got {len(content)}")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    return arrays, meta
