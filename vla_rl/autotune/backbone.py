"""How the frozen trunk computes: in which precision, and compiled or not; where asked, measured before the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vla_rl.autotune.timing import median_seconds
from vla_rl.models.backbone import Backbone
from vla_rl.models.features import Features
from vla_rl.models.policy import Policy
from vla_rl.models.shards import repeated_layers

SMALL = 20_000_000
"""Parameters: a smaller backbone waits for its many calls, not for its arithmetic, and is left as it is."""
GAIN = 1.1
"""How many times faster a change has to be to be chosen: less would be decided by the clock's noise."""
CLOSE = 0.02
"""How far a place (in half images) or a confidence may be off in half precision."""


def tune(policy: Policy, precision: str, compiling: str, seen: Mapping[str, Any]) -> str:
    """Set the policy's frozen trunk up; returns what was chosen, and why, in a line for people.

    Args:
        policy: where it shall run.
        precision: "float32", "bfloat16", or "auto": half precision where that is faster and points to the same places.
        compiling: "always", "never", or "auto": on an accelerator, where that is faster. Where it fails, or points
            elsewhere, the trunk computes as it is, and that is said.
        seen: a batched observation to measure on, of as many rows as there are environments.
    """
    if not policy.frozen_trunk:
        return "backbone: as it is, since it trains; mixed_precision says how it computes"
    backbone = policy.trunk.backbone
    if precision != "auto":
        backbone.set_dtype(getattr(torch, precision))
    notes = [_compile(policy, seen)] if compiling == "always" else []
    if "auto" in (precision, compiling):
        count = sum(parameter.numel() for parameter in backbone.parameters())
        if count < SMALL:
            notes.append(f"{count / 1e6:.1f}M parameters are too few to gain")
        else:
            notes += [_try_half(policy, seen)] if precision == "auto" else []
            notes += [_try_compiling(policy, seen)] if compiling == "auto" else []
    made = "compiled" if is_compiled(backbone) else "not compiled"
    dtype = str(backbone.model.dtype).removeprefix("torch.")
    notes = [note for note in notes if note]
    return f"backbone: {dtype}, {made}" + (f" ({'; '.join(notes)})" if notes else "")


def compile_blocks(backbone: Backbone) -> None:
    """Compile the layers that a model repeats, each when it is first called; weights keep their names.

    All layers of a kind share one compiled one, so that it takes seconds, not the minute of a whole model.
    """
    for block in repeated_layers(backbone.model):
        block.compile()


def is_compiled(backbone: Backbone) -> bool:
    """Whether `compile_blocks` holds."""
    return any(block._compiled_call_impl is not None for block in repeated_layers(backbone.model))


def _try_half(policy: Policy, seen: Mapping[str, Any]) -> str:
    """Turn to bfloat16 where that pays."""
    model = policy.trunk.backbone.model
    before = model.dtype
    if before != torch.float32:
        return f"loaded as {str(before).removeprefix('torch.')}"
    full, slow = policy.ground(seen), _time(policy, seen)
    weights = policy.trunk.backbone.set_dtype(torch.bfloat16)
    half, fast = policy.ground(seen), _time(policy, seen)
    off = _off(full, half)
    if slow >= GAIN * fast and off <= CLOSE:
        return f"bfloat16 is {slow / fast:.1f} times as fast"
    for parameter, value in zip(model.parameters(), weights, strict=True):
        parameter.data = value
    return f"bfloat16 is {slow / fast:.1f} times as fast, its places are off by up to {off:.2g}"


def _try_compiling(policy: Policy, seen: Mapping[str, Any]) -> str:
    """Compile where that pays."""
    backbone = policy.trunk.backbone
    if policy.device.type == "cpu":
        return "compiling was not tried on a processor"
    slow = _time(policy, seen)
    if failed := _compile(policy, seen):
        return failed
    fast = _time(policy, seen)
    if slow < GAIN * fast:
        _undo_compiling(backbone)
    return f"compiled it is {slow / fast:.1f} times as fast"


def _compile(policy: Policy, seen: Mapping[str, Any]) -> str:
    """Compile, unless that fails or gives something else; says why not, or nothing."""
    backbone, wanted = policy.trunk.backbone, policy.ground(seen)
    compile_blocks(backbone)
    try:
        off = _off(wanted, policy.ground(seen))
    except RuntimeError as error:  # such as a machine without a compiler
        _undo_compiling(backbone)
        return f"compiling failed: {str(error).splitlines()[0][:80]}"
    if off <= CLOSE:
        return ""
    _undo_compiling(backbone)
    return f"compiled, its places are off by {off:.2g}"


def _off(one: Features, other: Features) -> float:
    """By how much places or confidences differ, at most."""
    return max(float((getattr(one, name) - getattr(other, name)).abs().max()) for name in ("places", "confidence"))


def _undo_compiling(backbone: Backbone) -> None:
    for block in repeated_layers(backbone.model):
        block._compiled_call_impl = None


def _time(policy: Policy, seen: Mapping[str, Any]) -> float:
    policy.ground(seen)
    return median_seconds(lambda: policy.ground(seen), policy.device)
