"""Updates a second: against the same work written out by hand, and with cached features against encoding each batch."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from vla_rl import build, config
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.pa_rl import PaRlAlgorithm
from vla_rl.autotune.backbone import tune
from vla_rl.autotune.feature_cache import any_observation, row_bytes
from vla_rl.autotune.timing import interleaved
from vla_rl.bench.smoke import fill, learner_share
from vla_rl.config import RunConfig
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.envs import EnvSpec
from vla_rl.models.policy import Policy
from vla_rl.models.sizes import SmolVLM256M
from vla_rl.paths import METRICS_FILE
from vla_rl.replay import ReplayBuffer
from vla_rl.train import train

BATCH, GPU_BATCH, ROWS, CACHED_UPDATES = 4, 64, 64, 16
"""Rows of a batch, so few that encoding one takes seconds on a processor, and on a GPU; rows of the replay; updates in
a row from it."""
LOOP_STEPS, LOOP_PARTS = 7000, ("act", "step", "remember", "learn")


def bench_learner(as_json: bool = False) -> None:
    """Print the numbers of `measure_learner`."""
    found = measure_learner()
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:24} {value:12.3f}")


def measure_learner() -> dict[str, float]:
    """`learner_share`: see `smoke.measure`, on Reach's quick-start. The rest: `loop_shares`, `cached_over_encoded`."""
    shares = loop_shares()
    run = config.load(["experiment=reach"], command="bench")
    spec = build.env_spec(run)
    policy = build.fresh_policy(run, spec)
    algorithm = run.algorithm.build(policy=policy, learner=build.learner(run))
    replay = build.replay(run, spec, policy, capacity=1024, lanes=1)
    fill(run, spec, algorithm, replay, steps=512)
    share = learner_share(algorithm, replay)
    return {"learner_share": share, **shares, **cached_over_encoded(run, spec, SmolVLM256M())}


def loop_shares() -> dict[str, float]:
    """Where the time of Reach's quick-start goes, once it learns, from reward alone.

    `loop_<part>`: the share of the parts that `metrics.jsonl` has as `time/<part>`. `step` is what the loop waited for
    environments, which their own processes step while it acts and learns. `loop_decisions_per_s`: of all together.
    """
    with tempfile.TemporaryDirectory(prefix="vla_rl_bench_") as folder:
        settings = ["experiment=reach", "demos.episodes=0", f"train.steps={LOOP_STEPS}", "train.eval_every=0"]
        run = config.load([*settings, "tracker=null", f"run_dir={folder}/run"], command="bench")
        with redirect_stdout(sys.stderr):
            train(run)
        lines = [json.loads(line) for line in Path(folder, "run", METRICS_FILE).read_text().splitlines()]
    lines = [line for line in lines if "time/learn" in line][1:-1]  # the first ones hardly learn, the last is short
    shares = {f"loop_{part}": float(np.median([line[f"time/{part}"] for line in lines])) for part in LOOP_PARTS}
    return shares | {"loop_decisions_per_s": float(run.train.log_every / np.median([x["time/seconds"] for x in lines]))}


def cached_over_encoded(
    run: RunConfig, spec: EnvSpec, backbone: Any, batch: int | None = None, rounds: int = 5
) -> dict[str, float]:
    """A frozen backbone whose tokens the head reads, in batches of `batch` rows of the run's observations.

    `cached_over_encoded`: updates/s from replay on with features from the cache, over those that encode the frames
    and next frames of each batch (what is shown twice once), computed as `auto` chooses; the median of the rounds'
    ratios.
    """
    settings = PolicySettings(backbone, HeadSettings(reads=("pointers", "tokens")))
    cameras, state = spec.observation.images, spec.observation.state
    learner = build.learner(run)
    batch = batch or (BATCH if learner.device.type == "cpu" else GPU_BATCH)
    policy = Policy.build(settings, spec.tokens, cameras, state, seed=0).to(learner.device).eval()
    tune(policy, "auto", "auto", any_observation(policy, spec.observation, batch))
    algorithm = PaRlAlgorithm(PaRl(batch_size=batch, actor_batch_size=batch), policy, learner)
    algorithm.updates = algorithm.settings.warmup_updates
    replays = [build.replay(run, spec, policy, capacity=ROWS, lanes=1, cached=cached) for cached in (True, False)]
    fill_with_noise(replays, spec, policy)
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


def fill_with_noise(replays: list[ReplayBuffer], spec: EnvSpec, policy: Policy) -> None:
    """One episode of noise, the same in each replay; the features are those of one picture, which costs no time."""
    rng = np.random.default_rng(0)
    one = any_observation(policy, spec.observation, 1)
    features = policy.ground(one).pack()
    slots = spec.tokens.slots
    for _ in range(ROWS):
        seen = {key: _like(value, rng) for key, value in one.items()}
        tokens = np.array([[rng.integers(slot.choices) for slot in slots]])
        outcome = np.zeros(1, np.float32), np.zeros(1, bool), np.zeros(1, bool), np.zeros(1, bool)
        for replay in replays:
            replay.add(seen, tokens, *outcome, features=features)


def _like(value: Any, rng: np.random.Generator) -> Any:
    is_picture = isinstance(value, np.ndarray) and value.dtype == np.uint8
    return rng.integers(0, 256, value.shape, np.uint8) if is_picture else value
