"""How a run's environments are spread over machines."""

from __future__ import annotations

from pydantic import ByteSize, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from vla_rl.config.parts import Part
from vla_rl.registry import ConfigError


class RayConfig(Part):
    """Actors of Ray, each with a share of the environments and a copy of the policy, on any node of a cluster.

    actors: how many; the run's `train.num_envs` environments are dealt out to them. actors_per_node: how many share a
    node; each further share of them takes another node, and waits for one if there is none. null: wherever there is
    room, spread out. cpus_per_actor, gpus_per_actor: what each takes of its node, fractions too. Above 0 GPUs the
    policy's copy acts on CUDA.
    address: of a running cluster (`auto`, or HOST:PORT), or null for a cluster of its own on this machine; its
    dashboard, and the memory of its object store, are `dashboard` and `object_store`.
    batch: decisions of each environment in a batch of transitions. ahead: batches that an actor may be at, or have
    waiting for the learner; it rests while there are so many. max_lag: how many updates the learner may have made since
    the weights that a transition was acted by; it waits for slow actors rather than exceed that. publish_every: updates
    between two versions of the weights.
    """

    actors: PositiveInt
    actors_per_node: PositiveInt | None
    cpus_per_actor: PositiveFloat
    gpus_per_actor: NonNegativeFloat
    address: str | None
    dashboard: bool
    object_store: ByteSize | None
    batch: PositiveInt
    ahead: PositiveInt
    max_lag: PositiveInt
    publish_every: PositiveInt

    @model_validator(mode="after")
    def _check_lag(self) -> RayConfig:
        if self.publish_every > self.max_lag:
            raise ConfigError(
                f"distributed.publish_every: at most distributed.max_lag={self.max_lag}, or weights are too old before "
                f"anybody acts by them; got {self.publish_every}"
            )
        return self
