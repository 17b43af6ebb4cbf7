"""Whether the values that an environment brings fit the range that critics can tell."""

from __future__ import annotations

import warnings

import numpy as np

from vla_rl.config import RunConfig
from vla_rl.envs import EnvSpec
from vla_rl.registry import ConfigError
from vla_rl.replay import ReplayBuffer
from vla_rl.replay.batch import Batch


def check_returns(run: RunConfig, spec: EnvSpec, demos: ReplayBuffer) -> None:
    """Whether the critic can tell every return that is known to be possible.

    Raises:
        ConfigError: the environment says that an episode may bring more or less, or a demonstration did.
    """
    if run.algorithm.needs.value_range is None:
        return
    least, most = run.algorithm.needs.value_range
    slack = 1e-3 * (most - least)
    observed = demos.returns_so_far(demos.sampleable_ids())
    told = [(f"{' or '.join(env.id for env in run.envs)} may bring", *spec.returns)]
    if len(observed):
        told.append(("the demonstrations bring", float(observed.min()), float(observed.max())))
    for who, low, high in told:
        beyond = [end for end in (low, high) if np.isfinite(end) and not least - slack <= end <= most + slack]
        if beyond:
            raise ConfigError(
                f"algorithm.value_range: [{least:g}, {most:g}] does not hold a discounted return of "
                f"{' or '.join(dict.fromkeys(f'{end:.6g}' for end in beyond))}, which {who}; use "
                f"[{min(least, *beyond):.6g}, {max(most, *beyond):.6g}] or wider"
            )


def warned_beyond(batch: Batch, value_range: tuple[float, float]) -> bool:
    """Warn of what was observed and a critic of this range cannot tell, since it cuts off what lies beyond; whether
    there was such."""
    least, most = value_range
    slack = 1e-3 * (most - least)
    low, high = least - slack, most + slack
    # What is still to come may bring a sum of rewards back into the range.
    beyond = (batch.returns < low) | (batch.returns > high)
    beyond |= batch.reward + batch.discount * most < low
    beyond |= batch.reward + batch.discount * least > high
    if not beyond.any():
        return False
    row = int(beyond.argmax())
    seen = f"a return of {batch.returns[row]:.6g}"
    if not low > batch.returns[row] and not batch.returns[row] > high:
        seen = f"rewards of {batch.reward[row]:.6g} within a few steps"
    warnings.warn(
        f"algorithm.value_range: the environment gave {seen}, which {[least, most]} does not hold; the critic cuts off "
        "what lies beyond, so choose a range that holds every discounted return",
        stacklevel=4,
    )
    return True
