"""Which things lie on a table, where there is room for them, and words that hold for one of them only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sims.mujoco.things import COLOURS, Thing

if TYPE_CHECKING:
    from sims.mujoco.world import World


def describe(target: Thing, present: Sequence[Thing], rng: np.random.Generator, generic: str) -> str:
    """Words that hold for `target` and for nothing else of `present` (which includes it).

    The colour and the shape; or, now and then, where no other thing has its colour, the colour and the
    word `generic` ("object", "block").
    """
    unique = sum(other.colour == target.colour for other in present) == 1
    return f"{target.colour} {generic}" if rng.random() < 0.25 and unique else str(target)


def assortment(
    rng: np.random.Generator, count: int, shapes: Sequence[str], colours: Sequence[str], twin: float = 0.3
) -> list[Thing]:
    """`count` things of different colours; with probability `twin` the second shares the first's colour.

    A twin differs in shape, so that the shape decides.
    """
    picked = rng.choice(len(colours), size=count, replace=False).tolist()
    things = [Thing(colours[i], shapes[int(rng.integers(len(shapes)))]) for i in picked]
    if count > 1 and len(shapes) > 1 and rng.random() < twin:
        others = [shape for shape in shapes if shape != things[0].shape]
        things[1] = Thing(things[0].colour, others[int(rng.integers(len(others)))])
    return things


def scatter(rng: np.random.Generator, count: int, half: float, apart: float) -> np.ndarray:
    """`count` places float64 [count, 2] in the square |x|, |y| <= `half`, at least `apart` from each other (metres).

    Raises:
        ValueError: no room for so many.
    """
    return scatter_between(rng, count, (-half, -half), (half, half), apart)


def scatter_between(
    rng: np.random.Generator, count: int, low: tuple[float, float], high: tuple[float, float], apart: float
) -> np.ndarray:
    """The same in the rectangle from `low` to `high` (x, y)."""
    for _ in range(40):
        places = np.empty((0, 2))
        for candidate in rng.uniform(low, high, size=(20 * count, 2)):
            if np.all(np.linalg.norm(places - candidate, axis=1) >= apart):
                places = np.vstack([places, candidate])
            if len(places) == count:
                return places
    raise ValueError(f"no room for {count} things {apart} m apart between {low} and {high}")


def put_down(
    world: World, kind: str, things: Sequence[Thing], places: np.ndarray, rng: np.random.Generator | None = None
) -> None:
    """Show `things` in the slots `kind`0, 1, ... at `places` [n, 2], turned at random where there is an `rng`."""
    for i, (thing, place) in enumerate(zip(things, places, strict=True)):
        yaw = rng.uniform(-np.pi, np.pi) if rng is not None else 0.0
        world.place(f"{kind}{i}", thing, place, COLOURS[thing.colour], yaw)
