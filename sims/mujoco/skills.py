"""What the scripted experts do with a hand and two fingers. Every skill looks at the present state only.

Lengths are metres, angles radians.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sims.mujoco import rotations
from sims.mujoco.task import Target

if TYPE_CHECKING:
    from sims.mujoco.world import World

OVERHEAD = 0.16
"""Tip height at which the hand, and what it carries, passes over everything."""
ABOVE = 0.05
"""How far above the place to grip the hand waits until it is right over it."""
ALIGNED, TURNED, LOW = 0.012, 0.12, 0.012
"""How far off the hand may be: along the table, in its turn, and in height."""
ON_CAP = 0.022
"""So near its middle closed fingers press a button's cap."""
WIDE = 0.068
"""A gap of the fingers through which every thing that is to be gripped fits."""
SYMMETRY = {"cube": math.pi / 2, "bar": math.pi}
"""Turns after which a shape looks the same; the others look the same from everywhere."""


def grip_yaw(world: World, slot: str) -> float:
    """How the hand should be turned to take what `slot` shows across its narrow side: the nearest such turn to 0."""
    shape = world.shown[slot].shape
    if shape not in SYMMETRY:
        return 0.0
    across = math.pi / 2 if shape == "bar" else 0.0
    return rotations.nearest_turn(world.object_yaw(slot) + across, SYMMETRY[shape])


def fetch(world: World, slot: str, height: float | None = None) -> Target | None:
    """Bring the fingers around what `slot` shows and close them; None when they hold it.

    `height` is where the tip grips; by default a little below the thing's middle.
    """
    if world.held(slot) and world.robot.opening < 0.5:
        return None
    centre, tip = world.object_position(slot), world.tip_position
    grip = np.array([*centre[:2], max(centre[2] - 0.014, 0.013) if height is None else height])
    yaw = grip_yaw(world, slot)
    turn = rotations.nearest_turn(yaw - rotations.yaw_of(world.tip_rotation), 2 * math.pi)
    aligned = math.dist(tip[:2], grip[:2]) < ALIGNED and abs(turn) < TURNED
    if aligned and tip[2] < grip[2] + LOW:
        return Target(grip, yaw, opening=0.0)
    if aligned and world.finger_gap > WIDE:
        return Target(grip, yaw, opening=1.0)
    near = math.dist(tip[:2], grip[:2]) < 0.05
    return Target(np.array([*_over(tip, grip, near), grip[2] + ABOVE if near else OVERHEAD]), yaw, opening=1.0)


def carry(world: World, place: np.ndarray, yaw: float = 0.0, near: float = ALIGNED) -> Target | None:
    """Bring the closed hand over `place` [2], lifting first; None when it is over it."""
    tip = world.tip_position
    if math.dist(tip[:2], place) < near:
        return None
    return Target(np.array([*_over(tip, place, False), OVERHEAD]), yaw, opening=0.0)


def lower(world: World, thing: str, place: np.ndarray, bottom: float, yaw: float = 0.0) -> Target:
    """Lower what the hand holds onto `place` [2] until its lower side is at height `bottom`, then let go."""
    tip = world.tip_position
    hanging = world.bottom(thing)
    if hanging > bottom:
        return Target(np.array([*place, tip[2] - max(hanging - bottom, 0.01)]), yaw)
    return Target(np.array([*place, tip[2]]), yaw, opening=1.0)


def above(place: np.ndarray, height: float) -> np.ndarray:
    """`place` [3], moved up by `height`."""
    return place + np.array([0.0, 0.0, height])


def press(world: World, button: str) -> Target:
    """Bring the closed fingers over a button's cap and push it down."""
    tip, top = world.tip_position, above(world.part_position(button, "cap"), 0.016)
    if math.dist(tip[:2], top[:2]) < ON_CAP:
        return Target(np.array([*top[:2], max(top[2] - 0.03, 0.012)]))
    low = tip[2] < top[2] + 0.03
    return Target(np.array([*(tip[:2] if low else top[:2]), top[2] + 0.06]))


def _over(tip: np.ndarray, place: np.ndarray, near: bool) -> np.ndarray:
    """Straight up first, then over: where to be along the table [2]."""
    return place[:2] if near or tip[2] > OVERHEAD - 0.05 else tip[:2]
