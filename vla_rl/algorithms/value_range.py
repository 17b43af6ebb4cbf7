"""Whether the values that an environment brings fit the range that critics can tell."""

from __future__ import annotations

import warnings

from vla_rl.replay.batch import Batch


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
