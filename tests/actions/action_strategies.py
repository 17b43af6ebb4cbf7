"""Hypothesis strategies: environment spaces together with action spaces that fit them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

from vla_rl.actions import Binned, Characters, Choice, Chunk, Command, Commands, Compose, Pointer, Span, Variant

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def boxes(draw: Any, dims: int | None = None) -> spaces.Box:
    """Bounded float Boxes of up to three axes, each dimension with bounds of its own."""
    shape = (dims,) if dims else draw(st.lists(st.integers(1, 3), max_size=3).map(tuple))
    count = int(np.prod(shape))
    low = draw(st.lists(st.floats(-10, 10, width=32), min_size=count, max_size=count))
    span = draw(st.lists(st.floats(0.5, 10, width=32), min_size=count, max_size=count))
    lowest = np.asarray(low, np.float32).reshape(shape)
    return spaces.Box(lowest, lowest + np.asarray(span, np.float32).reshape(shape), dtype=np.float32)


@st.composite
def binned(draw: Any) -> tuple[Binned, spaces.Box]:
    box = draw(boxes())
    count = int(np.prod(box.shape))
    each = st.lists(st.integers(2, 15), min_size=count, max_size=count).map(tuple)
    return Binned(draw(st.integers(2, 15) | each)), box


@st.composite
def choices(draw: Any) -> tuple[Choice, spaces.Discrete]:
    return Choice(), spaces.Discrete(draw(st.integers(1, 6)), start=draw(st.integers(-3, 3)))


@st.composite
def several(draw: Any) -> tuple[Choice, spaces.MultiDiscrete | spaces.MultiBinary]:
    """Choices of several entries, in one axis or two, some of them with nothing to choose."""
    shape = draw(st.sampled_from([(1,), (3,), (2, 2)]))
    if draw(st.booleans()):
        return Choice(), spaces.MultiBinary(shape)
    count = int(np.prod(shape))
    counts = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count).filter(lambda found: max(found) > 1))
    starts = draw(st.lists(st.integers(-3, 3), min_size=count, max_size=count))
    shaped = np.reshape(counts, shape)
    return Choice(ordered=draw(st.booleans())), spaces.MultiDiscrete(shaped, start=np.reshape(starts, shape))


@st.composite
def pointers(draw: Any) -> tuple[Pointer, spaces.Box]:
    return Pointer("front", (draw(st.integers(1, 9)), draw(st.integers(1, 9)))), draw(boxes(dims=2))


@st.composite
def composed(draw: Any, parts: Any) -> tuple[Compose, spaces.Space]:
    found = draw(st.lists(parts, min_size=1, max_size=3))
    mine, theirs = [part for part, _ in found], [space for _, space in found]
    if draw(st.booleans()):
        return Compose(mine), spaces.Tuple(theirs)
    keys = [f"part_{index}" for index in range(len(found))]
    return Compose(dict(zip(keys, mine, strict=True))), spaces.Dict(dict(zip(keys, theirs, strict=True)))


@st.composite
def variants(draw: Any, parts: Any) -> tuple[Variant, spaces.OneOf]:
    found = draw(st.lists(parts, min_size=1, max_size=3))
    return Variant([part for part, _ in found]), spaces.OneOf([space for _, space in found])


@st.composite
def spans(draw: Any) -> tuple[Span, spaces.MultiDiscrete]:
    return Span(), spaces.MultiDiscrete([draw(st.integers(1, 6))] * 2)


@st.composite
def written(draw: Any) -> tuple[Characters, spaces.MultiDiscrete]:
    return Characters(), spaces.MultiDiscrete(draw(st.lists(st.integers(2, 5), min_size=1, max_size=4)))


@st.composite
def commands(draw: Any) -> tuple[Command, Commands]:
    found = dict(zip(("at", "key", "text"), draw(st.tuples(pointers(), choices(), spans() | written())), strict=True))
    takes = draw(st.lists(st.sets(st.sampled_from(sorted(found))), min_size=1, max_size=4))
    used = set().union(*takes)
    part, text = found["text"]
    # Two equal numbers without names are a span: a text's characters have names.
    is_text = "text" in used and isinstance(part, Characters)
    space = Commands(
        {f"kind_{i}": sorted(names) for i, names in enumerate(takes)},
        {name: space for name, (_, space) in found.items() if name in used},
        names={"text": [f"character {i}" for i in range(int(text.nvec.max()) - 1)]} if is_text else None,
    )
    return Command("front", parts={name: part for name, (part, _) in found.items() if name in used}), space


LEAVES = binned() | choices() | several() | pointers() | spans() | written() | commands()
NESTED = st.recursive(LEAVES, lambda parts: composed(parts) | variants(parts), max_leaves=5)


@st.composite
def anything(draw: Any) -> tuple[Any, spaces.Space, int]:
    """An unbound action space, the environment's space, and how many actions a decision has (1: no chunk)."""
    inner, space = draw(NESTED)
    steps = draw(st.integers(1, 3))
    return (inner if steps == 1 else Chunk(inner, steps)), space, steps
