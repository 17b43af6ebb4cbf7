"""What every action space does with tokens: checks, cutting into parts, masks, uniform decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from vla_rl.specs import ActionSpace, Slot, shown


def horizon(action_space: ActionSpace) -> int:
    """How many environment actions one decision decodes to: H of a `Chunk`, 1 of everything else.

    With more than 1, `decode` returns, and `encode` takes, a sequence of so many actions.
    """
    return int(getattr(action_space, "horizon", 1))


def compressed(action_space: ActionSpace) -> bool:
    """Whether what a token means depends on those before it, as of `Fast`.

    Then an action comes back nearly as it was, and `vectors(tokens [N, K])` tells what decisions mean, float32 [N, X].
    """
    return bool(getattr(action_space, "compressed", False))


def check_tokens(tokens: Any, slots: Sequence[Slot]) -> np.ndarray:
    """`tokens` as int64 [K].

    Raises:
        ValueError: not K whole numbers, or a token outside 0 <= token < choices; the slot is named.
    """
    found = np.asarray(tokens)
    if found.shape != (len(slots),):
        raise ValueError(f"expected {len(slots)} tokens, one a slot; got shape {found.shape}")
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"tokens are whole numbers; got dtype {found.dtype}")
    for index, (token, slot) in enumerate(zip(found.tolist(), slots, strict=True)):
        if not 0 <= token < slot.choices:
            raise ValueError(f"token {token} of slot {index} is out of range: expected 0 to {slot.choices - 1}")
    return found.astype(np.int64)


def nearest_index(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The index of the entry of `values` [..., n] nearest to `wanted` [...]; a tie goes to the lower index.

    Raises:
        ValueError: `wanted` holds a NaN.
    """
    if np.isnan(wanted).any():
        raise ValueError(f"an action cannot hold NaN: {wanted.tolist()}")
    clipped = np.clip(wanted, values.min(axis=-1), values.max(axis=-1))
    return np.abs(values - clipped[..., None]).argmin(axis=-1).astype(np.int64)


def evenly(low: float, high: float, fractions: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The points at `fractions` of the way from `low` to `high`, as an action of `dtype` holds them; float64.

    Fraction 1 gives `high` and, between -x and x, fraction 1/2 gives 0, both exactly.
    """
    values = low * (1 - fractions) + high * fractions
    rounded = np.rint(values) if np.issubdtype(dtype, np.integer) else values
    return rounded.astype(dtype).astype(np.float64)


def starts(parts: Sequence[ActionSpace]) -> tuple[int, ...]:
    """Where each part's slots begin, and where the last one's end: len(parts) + 1 numbers from 0."""
    ends = np.cumsum([0, *(len(part.slots) for part in parts)])
    return tuple(int(end) for end in ends)


def part_mask(parts: Sequence[ActionSpace], prefix: np.ndarray) -> np.ndarray | None:
    """The mask after `prefix` where the slots of independent `parts` follow one another."""
    begins = starts(parts)
    k = prefix.shape[1]
    assert k < begins[-1], f"a prefix of {k} tokens leaves no slot of {begins[-1]}"
    index = int(np.searchsorted(begins, k, side="right")) - 1
    return parts[index].mask(prefix[:, begins[index] : k])


def allowed(action_space: ActionSpace, tokens: np.ndarray) -> bool:
    """Whether the masks allow every token of a decision int64 [K]."""
    for k, token in enumerate(tokens):
        mask = action_space.mask(tokens[None, :k])
        if mask is not None and not mask[0, token]:
            return False
    return True


def uniform(action_space: ActionSpace, rng: np.random.Generator, batch: int) -> np.ndarray:
    """Decisions int64 [batch, K], each token uniform among those that the masks allow."""
    tokens = np.zeros((batch, 0), np.int64)
    for slot in action_space.slots:
        mask = action_space.mask(tokens)
        weights = rng.random((batch, slot.choices))
        chosen = (weights if mask is None else np.where(mask, weights, -1.0)).argmax(axis=1)
        tokens = np.concatenate([tokens, chosen[:, None].astype(np.int64)], axis=1)
    return tokens


def each_of(name: str, value: Any, dims: int) -> Any:
    """`value`, one number for all dimensions or one for each, as one a dimension; None stays None."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)):
        return (value,) * dims
    if len(value) != dims:
        raise ValueError(
            f"action dimension: {name} has {len(value)} entries {tuple(value)}; expected {dims}, "
            "one for each dimension of the action space"
        )
    return tuple(value)


def bounds_of(name: str, given: tuple[float, ...] | None, limits: np.ndarray, space: spaces.Box) -> tuple[float, ...]:
    """The Box's own bounds, or the `given` ones if they lie inside."""
    if given is None:
        if not np.isfinite(limits).all():
            raise ValueError(f"the action space {space} is unbounded: give `low` and `high`")
        return tuple(float(limit) for limit in limits)
    lowest, highest = space.low.reshape(-1), space.high.reshape(-1)
    for index, value in enumerate(given):
        if not (np.isfinite(value) and lowest[index] <= value <= highest[index]):
            raise ValueError(
                f"{name} of dimension {index}: {value} lies outside the action space's "
                f"[{lowest[index]}, {highest[index]}]"
            )
    return tuple(float(value) for value in given)


def check_parts(parts: Iterable[Any], owner: str) -> None:
    """Raise ValueError unless every part is an action space of one step (a chunk only goes outermost)."""
    for part in parts:
        # isinstance() would read the `slots` of a part that is not bound yet, on Python 3.11.
        if not all(callable(getattr(part, method, None)) for method in ("bind", "mask", "decode", "encode")):
            raise ValueError(f"{owner} is made of action spaces, such as {{type: binned}}; got {part!r}")
        if hasattr(part, "horizon"):
            raise ValueError(f"a chunk cannot lie inside {owner}; put the chunk outermost")


def unbound(component: Any) -> ValueError:
    """The error of asking an action space for its slots before it was bound."""
    return ValueError(f"{type(component).__name__} is not bound to a space yet; call bind(env.action_space) first")


def has_parts(action: Any) -> bool:
    """Whether an action has a length: a list, a tuple, or an array of one axis at least."""
    return isinstance(action, Sequence) or (isinstance(action, np.ndarray) and action.ndim > 0)


def as_numbers(action: Any) -> np.ndarray:
    """An action as float64 of its shape. Raises ValueError for one that is no numbers."""
    try:
        return np.asarray(action, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"expected numbers; got {shown(action)}") from error


def whole(value: Any, what: str) -> int:
    """A whole number, or an array of one. Raises ValueError, which says `what` was expected, for anything else."""
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "iub":
        raise ValueError(f"expected the number of {what}; got {shown(value)}")
    return int(found.reshape(-1)[0])
