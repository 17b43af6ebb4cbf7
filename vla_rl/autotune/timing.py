"""How long work takes, whatever computes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch


def seconds(work: Callable[[], Any], device: torch.device, repeats: int = 1) -> float:
    """The time of a call, the mean of `repeats` in a row, until the device is done with all of them."""
    wait(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        work()
    wait(device)
    return (time.perf_counter() - begin) / repeats


def median_seconds(work: Callable[[], Any], device: torch.device, rounds: int = 3) -> float:
    """The median time of a call."""
    return float(np.median([seconds(work, device) for _ in range(rounds)]))


def interleaved(
    works: Sequence[Callable[[], Any]], device: torch.device, repeats: Sequence[int], rounds: int = 5
) -> np.ndarray:
    """The times of a call of each work, float64 [rounds, works]: all in turn, the first one last the next time."""
    times = np.empty((rounds, len(works)))
    for row in range(rounds):
        for at in np.roll(np.arange(len(works)), -row).tolist():
            times[row, at] = seconds(works[at], device, repeats[at])
    return times


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
