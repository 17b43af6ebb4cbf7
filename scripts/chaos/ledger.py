"""The ledger: one line for every step that any environment of a run took, in one file outside the run.

Environments append to it, from whichever process they are in, before anybody else hears of the step. A line is a record
of fixed size, written at once, so that lines of several processes never mix and their order is that of time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

LEDGER, LIFE, ORDERS, ENV = "CHAOS_LEDGER", "CHAOS_LIFE", "CHAOS_ORDERS", "CHAOS_ENV"
"""Environment variables: the ledger's file, which life of the run it is, the folder of orders, and whose steps."""
COLUMN = "ledger"
"""The signal of replay that holds a step's number in the ledger."""
STEP, FAULT, RESET = 1, 2, 3
LINE = np.dtype(
    [
        ("kind", "u1"),
        ("life", "i4"),
        ("pid", "i4"),
        ("episode", "i4"),  # of this environment
        ("id", "i8"),  # of the step: the environment in the upper half, its steps from 1 on in the lower
        ("time", "f8"),  # by time.time()
        ("reward", "f4"),
        ("terminated", "?"),
        ("truncated", "?"),
        ("spoilt", "?"),  # the environment itself said so
        ("fault", "S12"),  # what went wrong here, by an order or by itself
    ]
)


class Ledger:
    """One environment's hand in the ledger."""

    def __init__(self) -> None:
        self._file = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._life = int(os.environ[LIFE])
        self._env = (int.from_bytes(os.urandom(4), "little") >> 1) << 32
        self._steps = 0
        self.episode = 0

    def step(self, reward: float, terminated: bool, truncated: bool, spoilt: bool) -> int:
        """Write a step; its number."""
        self._steps += 1
        self._write(STEP, reward, terminated, truncated, spoilt, b"")
        return self._env + self._steps

    def reset(self) -> None:
        """Write that an episode begins."""
        self.episode += 1
        self._write(RESET, 0.0, False, False, False, b"")

    def fault(self, kind: str) -> None:
        """Write that something goes wrong here, after the last step."""
        self._write(FAULT, 0.0, False, False, False, kind.encode())

    def close(self) -> None:
        os.close(self._file)

    def _write(self, kind: int, reward: float, terminated: bool, truncated: bool, spoilt: bool, fault: bytes) -> None:
        number, pid = self._env + self._steps, os.getpid()
        line = (kind, self._life, pid, self.episode, number, time.time(), reward, terminated, truncated, spoilt, fault)
        os.write(self._file, np.array(line, LINE).tobytes())


def read(path: Path) -> np.ndarray:
    """All whole lines, LINE [N], in the order of time."""
    content = path.read_bytes() if path.exists() else b""
    return np.frombuffer(content[: len(content) // LINE.itemsize * LINE.itemsize], LINE)
