"""Updates a second: against the same work written out by hand, and with cached features against encoding each batch."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from vla_rl import build, config
from vla_rl.algorithms.settings import Parl
from vla_rl.bench import fill_randomly, learner_share
from vla_rl.config import RunConfig
from vla_rl.feature_cache import any_observation, row_bytes
from vla_rl.models.policy import Policy
from vla_rl.models.settings import HeadSettings, PolicySettings
from vla_rl.models.sizes import SmolVLM256M
from vla_rl.replay import ReplayBuffer
from vla_rl.timing import interleaved

BATCH, ROWS, CACHED_UPDATES = 4, 64, 16
"""Rows of a batch, so few that encoding one takes seconds on a processor; of the replay; updates in a row from it."""


def bench_learner(as_json: bool = False) -> None:
    """Print the numbers of `measure_learner`."""
    found = measure_learner()
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:24} {value:12.3f}")


def measure_learner() -> dict[str, float]:
    """`learner_share`: see `bench.measure`, on Reach's quick-start. The rest: see `cached_over_encoded`."""
    run = config.load(["experiment=reach"], command="bench")
    face = build.interface(run)
    policy = build.fresh_policy(run, face)
    algorithm = run.algorithm.build(policy=policy, learner=build.learner(run))
    replay = build.replay(run, face, policy, capacity=1024, lanes=1)
    fill_randomly(run, face, algorithm, replay, steps=512)
    return {"learner_share": learner_share(algorithm, replay), **cached_over_encoded(run, face, SmolVLM256M())}


def cached_over_encoded(
    run: RunConfig, face: build.Interface, backbone: Any, batch: int = BATCH, rounds: int = 5
) -> dict[str, float]:
    """A frozen backbone whose tokens the head reads, in batches of `batch` rows of the run's observations.

    `cached_over_encoded`: updates/s from replay on with features from the cache, over those that encode the frames
    and next frames of each batch (what is shown twice once); the median of the rounds' ratios.
    """
    settings = PolicySettings(backbone, HeadSettings(reads=("pointers", "tokens")))
    cameras, state = face.observation.images, face.observation.state
    policy = Policy.build(settings, face.tokens, cameras, state, seed=0).eval()
    algorithm = Parl(batch_size=batch, actor_batch_size=batch).build(policy=policy, learner=build.learner(run))
    algorithm.updates = algorithm.settings.warmup_updates
    replays = [build.replay(run, face, policy, capacity=ROWS, lanes=1, cached=cached) for cached in (True, False)]
    fill_with_noise(replays, face, policy)
    rng = np.random.default_rng(0)

    def update(replay: ReplayBuffer) -> None:
        algorithm.update(replay.sample(batch, rng, images=not replay.caches))

    def cached() -> None:
        update(replays[0])

    cached()
    device = algorithm.learner.device
    times = interleaved([cached, lambda: update(replays[1])], device, [CACHED_UPDATES, 1], rounds)
    kept, encoded = np.median(times, 0)
    return {
        "cached_over_encoded": float(np.median(times[:, 1] / times[:, 0])),
        "cached_updates_per_s": float(1 / kept),
        "encoded_updates_per_s": float(1 / encoded),
        "batch_rows": float(batch),
        "feature_bytes_a_row": float(row_bytes(policy)),
    }


def fill_with_noise(replays: list[ReplayBuffer], face: build.Interface, policy: Policy) -> None:
    """One episode of noise, the same in each replay; the features are those of one picture, which costs no time."""
    rng = np.random.default_rng(0)
    one = any_observation(policy, face.observation, 1)
    features = policy.ground(one).pack()
    slots = face.tokens.slots
    for _ in range(ROWS):
        seen = {key: _like(value, rng) for key, value in one.items()}
        tokens = np.array([[rng.integers(slot.choices) for slot in slots]])
        outcome = np.zeros(1, np.float32), np.zeros(1, bool), np.zeros(1, bool), np.zeros(1, bool)
        for replay in replays:
            replay.add(seen, tokens, *outcome, features=features)


def _like(value: Any, rng: np.random.Generator) -> Any:
    is_picture = isinstance(value, np.ndarray) and value.dtype == np.uint8
    return rng.integers(0, 256, value.shape, np.uint8) if is_picture else value
