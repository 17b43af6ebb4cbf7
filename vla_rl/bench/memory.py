"""The memory that a run's updates really take: what `vla-rl plan` is held against."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from vla_rl import build
from vla_rl.config import RunConfig
from vla_rl.planning.learning import Learning
from vla_rl.planning.rows import Rows, instruction, next_trains_all, seen_together
from vla_rl.runtime.reference import reference_policy


def measure_updates(run: RunConfig, cached: bool = False) -> Learning:
    """What updates, and decisions, take on the run's device, on rows of noise.

    cached: with the features of a frozen trunk.

    Weights, states of optimisers and gradients are counted tensor by tensor. All else is the peak of what torch's
    allocator gives out during an update: by its profiler on a CPU, by its own count on CUDA.
    """
    spec, learner = build.env_spec(run), build.learner(run)
    policy = build.start_policy(run, spec, None)
    reference = reference_policy(policy, run, None)
    parts = build.algorithm_parts(run, spec, learner.prepare(policy)) | {"reference": reference}
    algorithm = run.algorithm.build(policy=policy, learner=learner, **parts)
    rng, needs = np.random.default_rng(0), run.algorithm.needs
    rows = Rows(run, spec, instruction(run), lambda shape: rng.integers(0, 256, shape, np.uint8))
    batch = rows.batch(policy, needs.batch_size, needs.following is True, cached)

    def update() -> None:
        next_trains_all(algorithm)
        algorithm.update(batch)

    def twice() -> None:
        update()
        update()

    update()  # makes the states of the optimisers
    modules = [policy, *(each for each in vars(algorithm).values() if isinstance(each, nn.Module))]
    parameters = [each for part in modules for each in part.parameters()]
    weights = _bytes([*parameters, *(each for part in modules for each in part.buffers())])
    gradients = _bytes([each.grad for each in parameters if each.grad is not None])
    optimizers = [each.optimizer for each in vars(algorithm).values() if hasattr(each, "param_groups")]
    states = [value for each in optimizers for state in each.state.values() for value in state.values()]
    kept = _bytes([value for value in states if isinstance(value, torch.Tensor)])
    seen = rows.seen(policy, seen_together(run))
    at_rest = _peak(lambda: policy.ground(seen), learner.device)
    # Torch's profiler does not see memory go that was there before it, so the gradients have to come and go meanwhile.
    for each in parameters:
        each.grad = None
    learning = _peak(twice, learner.device)
    return Learning(weights, kept, gradients, max(at_rest, learning - gradients))


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Of tensors together; memory that some share counts once."""
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return sum(storages.values())


def _peak(work: Callable[[], Any], device: torch.device) -> int:
    """Bytes that torch's allocator gives out during some work beyond what it had given out before, at most."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as traced:
        work()
    now = peak = 0
    for event in traced.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak
