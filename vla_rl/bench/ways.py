"""Decisions a second of each way of saying them: all tokens at once, one after another, and compressed."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from vla_rl.actions import Binned, Chunk, Fast
from vla_rl.autotune.feature_cache import any_observation
from vla_rl.autotune.timing import interleaved
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.envs import ObservationShape
from vla_rl.models.policy import Policy
from vla_rl.specs import IMAGES, ActionSpace

SPEAKS = HeadSettings(type="autoregressive")


def measure_ways(backbone: Any, horizon: int, numbers: int, bins: int, batches: tuple[int, ...]) -> dict[str, float]:
    """Greedy decisions a second from uint8 pictures and a text on, at each batch size B: `<way>_decisions_per_s_b<B>`.

    A decision is a chunk of `horizon` actions of `numbers` numbers. The heads are untrained; a compressed decision is
    as long as that of a smooth chunk is at most.
    """
    box = spaces.Box(-1, 1, (numbers,))
    chunk: ActionSpace = Chunk(Binned(bins), horizon).bind(box)
    walks = np.cumsum(np.random.default_rng(0).normal(size=(200, horizon, numbers)) * 0.2, 1)
    ways = {
        "parallel": (HeadSettings(), chunk),
        "autoregressive": (SPEAKS, chunk),
        "fast": (SPEAKS, Fast(horizon).bind(box).fit(walks)),
    }
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policies = [
        Policy.build(PolicySettings(backbone, head), space, ["front"], state_dim=0, seed=0).to(device)
        for head, space in ways.values()
    ]
    found: dict[str, float] = {}
    for rows in batches:
        seen = any_observation(policies[0], ObservationShape({IMAGES + "front": (64, 64, 3)}, state=0), rows)
        works = [partial(decide, policy, seen) for policy in policies]
        with torch.inference_mode():
            first = interleaved(works, device, [2] * len(works), rounds=2)[-1]
            repeats = [int(np.clip(0.3 / each, 1, 20)) for each in first]
            times = np.median(interleaved(works, device, repeats), 0)
        found |= {f"{way}_decisions_per_s_b{rows}": float(rows / t) for way, t in zip(ways, times, strict=True)}
    return found


def decide(policy: Policy, seen: dict[str, Any]) -> np.ndarray:
    """The most likely decisions, int64 [B, K]."""
    return policy.greedy(policy.encode(seen)).cpu().numpy()
