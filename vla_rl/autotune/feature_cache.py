"""Whether replay keeps the frozen features of its rows, or each batch is encoded: measured once, before a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vla_rl.autotune.timing import median_seconds
from vla_rl.config import RunConfig
from vla_rl.envs import ObservationShape
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.replay.columns import FEATURE, bytes_of
from vla_rl.specs import STATE, TASK

SLOW = 0.05
"""Seconds: where one row takes longer to encode, it is measured alone, and not in a batch."""
ROWS, FETCHED = 16, 256
"""Rows encoded, and fetched, in a measurement."""
WORDS = "reach the red cube"


@dataclass(frozen=True)
class CacheChoice:
    """Whether features are cached, and why, in a line for people."""

    cached: bool
    said: str


def choose(run: RunConfig, shape: ObservationShape, policy: Policy) -> CacheChoice:
    """What `replay.cache` asks for; where it says `auto`, what is faster, as long as there is memory for it.

    Raises:
        ConfigError: features shall always be cached, but the algorithm changes the pictures.
    """
    wanted = run.replay.cache
    if run.algorithm.needs.augments:
        if wanted == "always":
            raise ConfigError(
                "replay.cache: always caches the features of pictures as they are, but algorithm.shift, brightness or "
                "contrast changes them; use auto"
            )
        return CacheChoice(False, "features: each batch is encoded, since its pictures are augmented")
    if wanted != "auto":
        how = "cached" if wanted == "always" else "each batch is encoded"
        return CacheChoice(wanted == "always", f"features: {how}, as replay.cache={wanted} says")
    need, room = run.replay.capacity * row_bytes(policy), memory_for(run.replay.ram_bytes)
    if need > room:
        return CacheChoice(
            False,
            f"features: each batch is encoded; a cache would take {need / 2**20:.0f} MiB, more than half of the RAM",
        )
    encoded, fetched = measure(policy, shape)
    cached = fetched < encoded
    how = f"{1e3 * fetched:.2g} ms a row from the cache, {1e3 * encoded:.2g} ms encoded"
    return CacheChoice(cached, f"features: {'cached' if cached else 'each batch is encoded'} ({how})")


def row_bytes(policy: Policy) -> int:
    """Bytes of the cached features of a row."""
    specs = {FEATURE + name: (shape, np.dtype(kind)) for name, (shape, kind) in policy.cached_features().items()}
    return sum(bytes_of(specs).values())


def memory_for(limit: int | None) -> int:
    """Bytes that a cache may take: half of the limit of replay, or of this process's share of the machine's memory."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return (limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // beside) // 2


def measure(policy: Policy, shape: ObservationShape) -> tuple[float, float]:
    """Seconds a row takes when it is encoded, and when it is fetched from a cache, each in a batch."""
    one = any_observation(policy, shape, 1)
    policy.ground(one)
    encoded = median_seconds(lambda: policy.ground(one), policy.device, rounds=1)
    if encoded < SLOW:
        some = any_observation(policy, shape, ROWS)
        encoded = median_seconds(lambda: policy.ground(some), policy.device) / ROWS
    columns = {name: np.ones((FETCHED, *size), kind) for name, (size, kind) in policy.cached_features().items()}
    state = {STATE: torch.zeros(FETCHED, policy.state_dim, device=policy.device)}
    at = np.random.default_rng(0).permutation(FETCHED)

    def fetch() -> None:
        Features.unpack({name: column[at] for name, column in columns.items()}, state)

    return encoded, median_seconds(fetch, policy.device) / FETCHED


def any_observation(policy: Policy, shape: ObservationShape, rows: int) -> dict[str, Any]:
    """A batched observation of noise, as the policy wants it."""
    rng = np.random.default_rng(0)
    lead = (rows,) if policy.settings.stack == 1 else (rows, policy.settings.stack)
    images = {key: rng.integers(0, 256, (*lead, *size), np.uint8) for key, size in shape.images.items()}
    return {**images, STATE: np.zeros((rows, policy.state_dim), np.float32), TASK: [WORDS] * rows}
