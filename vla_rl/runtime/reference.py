"""The policy that a run was started from, which an actor may be held to."""

from __future__ import annotations

from vla_rl.config import RunConfig
from vla_rl.models.adapters import share_frozen
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError
from vla_rl.runtime import checkpoint
from vla_rl.runtime.begun import Begun


def reference_policy(policy: Policy, run: RunConfig, begun: Begun | None) -> Policy | None:
    """The policy that the run was started from, which never changes; what `policy` has in common with it is shared.

    None where the algorithm needs none. Where a whole trunk trains, and is not renewed, critics see by it too, so that
    there is one frozen copy.

    Raises:
        ConfigError: `train.checkpoint` is not given; or an older version of a run that goes on did not keep it, and
            that is gone.
    """
    if not run.algorithm.needs.reference:
        return None
    if run.train.checkpoint is None:
        raise ConfigError("algorithm.kl_weight, kl_budget, held_budget: need train.checkpoint, to stay close to it")
    renewed = run.train.renew_every > 0
    if begun is None and not renewed and policy.frozen is not None:
        policy.renew()
    reference = policy.frozen_copy()
    if begun is not None:
        try:
            reference.load_pretrained(begun.reference or checkpoint.policy_folder(run.train.checkpoint))
        except FileNotFoundError as error:
            raise ConfigError(f"train.checkpoint: {error}; algorithm.kl_weight needs it, or set that to 0") from error
        policy.load_pretrained(begun.policy)
    if not renewed and run.sharding is None:  # else each is dealt out by itself
        share_frozen(reference, policy)
    return reference
