"""What is measured before a run, alike in all of its processes: the first one measures, and the others do as it does.

Where each went by its own clock, the same observation would have other features in one process than in another.
"""

from __future__ import annotations

from vla_rl.autotune import feature_cache
from vla_rl.autotune.backbone import is_compiled, tune
from vla_rl.autotune.feature_cache import CacheChoice
from vla_rl.config import RunConfig
from vla_rl.envs import ObservationShape
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.runtime.learner import Learner


def tune_alike(learner: Learner, policy: Policy, run: RunConfig, shape: ObservationShape) -> str:
    """Bring the policy to the device and set its frozen trunk up, see `tune`; returns what was chosen, and why.

    Raises:
        ConfigError: layers that are shared shall be compiled.
    """
    precision, compiling = run.policy.precision, run.policy.compile
    if learner.shares_layers:
        return _tune_shared(learner, policy, precision, compiling)
    learner.prepare(policy)
    seen = feature_cache.any_observation(policy, shape, run.train.num_envs)
    said = tune(policy, precision, compiling, seen) if learner.rank == 0 else ""
    backbone = policy.trunk.backbone
    chosen = str(backbone.model.dtype).removeprefix("torch."), "always" if is_compiled(backbone) else "never", said
    dtype, compiled, said = learner.told(chosen)
    if learner.rank > 0:
        tune(policy, precision if precision != "auto" else dtype, compiled, seen)
    return said


def _tune_shared(learner: Learner, policy: Policy, precision: str, compiling: str) -> str:
    """The same of a backbone of which no process has the whole, so that nothing can be tried: as it was loaded."""
    if compiling == "always" and policy.frozen_trunk:
        raise ConfigError("policy.compile: always, but layers that processes share are not compiled; use auto or never")
    backbone = policy.trunk.backbone
    if precision != "auto" and policy.frozen_trunk:
        tune(policy, precision, "never", {})  # while it is whole
    learner.prepare(policy)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    dtype = str(backbone.model.dtype).removeprefix("torch.")
    shared = f"its layers shared by {learner.processes} processes (fsdp)"
    return f"backbone: {dtype}, {count / 1e6:.1f}M parameters, {shared}"


def choose_alike(learner: Learner, run: RunConfig, shape: ObservationShape, policy: Policy) -> CacheChoice:
    """What `feature_cache.choose` says in the first process. Raises what that raises."""
    with learner.at_own_pace():
        own = feature_cache.choose(run, shape, policy)
    return learner.told(own)
