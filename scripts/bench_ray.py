"""Decisions a second of Ray's actors beside those of as many worker processes, on this machine, without learning.

Usage: python scripts/bench_ray.py [--actors 2] [--rounds 7] [--decisions 1000] [KEY=VALUE...]     as for `vla-rl train`

Both act in turn, so that what else the machine does meets both; medians of rounds, and the median share of the workers'
that the actors reach. `cpu_share` is the same by the processors' time of all processes, which others disturb less.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack, closing, suppress
from itertools import cycle
from typing import Any

import numpy as np
import psutil

from vla_rl import build, config
from vla_rl.config import RunConfig
from vla_rl.envs import lanes
from vla_rl.rollout.rollout_worker import Untimed
from vla_rl.rollout.source import Act, Source
from vla_rl.rollout.sources import Lanes, make_source
from vla_rl.specs import training_seeds

CAPACITY = 5_000
"""Rows of each replay."""
SPARE = 100
"""Seeds for lanes that lose an episode."""


def source_of(run: RunConfig) -> tuple[Source, Act]:
    """What collects in a run, and what acts where that is done here."""
    spec, learner = build.env_spec(run), build.learner(run)
    policy = learner.prepare(build.fresh_policy(run, spec))
    count = run.train.num_envs
    replay = build.replay(run, spec, policy, CAPACITY, count)
    seeds = training_seeds(run.seed, 0, count + SPARE)
    dealt = lanes(build.env_factories(run, spec), count)
    own = Lanes(dealt, seeds[:count], cycle(seeds[count:]))
    return make_source(run, "bench", own, replay, policy, learner, lambda: 0), run.algorithm.explorer(policy, learner)


def seconds(source: Source, act: Act, decisions: int) -> tuple[float, float]:
    """How long so many decisions take, one of them: seconds, and seconds of processors."""
    begun, used, taken = time.perf_counter(), processors(), 0
    while taken < decisions:
        taken += source.step(act, Untimed())
    taken += source.settle(Untimed())
    return (time.perf_counter() - begun) / taken, (processors() - used) / taken


def processors() -> float:
    """Seconds of processors that this process and all that it started have used."""
    own, total = psutil.Process(), 0.0
    for each in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def measured(overrides: list[str], actors: int, rounds: int, decisions: int) -> dict[str, Any]:
    """Decisions a second of both, and the share."""
    own = [word for word in overrides if word.startswith("distributed.")]
    kinds = {
        "ray": ["distributed=ray", f"distributed.actors={actors}", "distributed.dashboard=false", *own],
        "workers": [f"train.workers={actors}"],
    }
    common = ["demos.episodes=0", "device=cpu", "tracker=null", *(word for word in overrides if word not in own)]
    with ExitStack() as stack:
        sources = {}
        for kind, settings in kinds.items():
            source, act = source_of(config.load([*common, *settings]))
            stack.enter_context(closing(source))
            seconds(source, act, decisions)  # until all is running
            sources[kind] = source, act
        took = {kind: np.zeros((rounds, 2)) for kind in kinds}
        for number in range(rounds):
            for kind, (source, act) in sources.items():
                took[kind][number] = seconds(source, act, decisions)
    found = {f"{kind}_per_s": round(1 / float(np.median(times[:, 0])), 1) for kind, times in took.items()}
    share, cpu_share = np.median(took["workers"] / took["ray"], axis=0).round(3).tolist()
    return found | {"share": share, "cpu_share": cpu_share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("actors", 2), ("rounds", 7), ("decisions", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("overrides", nargs="*", default=["experiment=reach"])
    given = parser.parse_args()
    print(json.dumps(measured(given.overrides, given.actors, given.rounds, given.decisions)))


if __name__ == "__main__":
    main()
