"""Rotations, as matrices [3, 3] whose columns are the turned axes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def about_z(yaw: float) -> np.ndarray:
    """The quaternion (w, x, y, z) of a turn by `yaw` radians about the vertical."""
    return np.array([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])


def yaw_of(matrix: np.ndarray) -> float:
    """How far the x axis is turned about the vertical, radians in (-pi, pi]."""
    return math.atan2(matrix[1, 0], matrix[0, 0])


def nearest_turn(yaw: float, symmetry: float) -> float:
    """The smallest of the angles that differ from `yaw` by whole multiples of `symmetry`, radians."""
    return (yaw + symmetry / 2) % symmetry - symmetry / 2


def looking(position: ArrayLike, target: ArrayLike) -> np.ndarray:
    """The axes (right, up, backward) of a level camera at `position` [3] that looks at `target` [3]."""
    backward = np.subtract(position, target) / np.linalg.norm(np.subtract(position, target))
    right = np.cross((0.0, 0.0, 1.0), backward)
    # Straight down there is no level; keep the table's y up.
    right = right / np.linalg.norm(right) if np.linalg.norm(right) > 1e-6 else np.array([1.0, 0.0, 0.0])
    return np.stack([right, np.cross(backward, right), backward], axis=1)


def yaw_of_quaternion(rotation: np.ndarray) -> float:
    """How far a quaternion (w, x, y, z) turns the x axis about the vertical, radians in (-pi, pi]."""
    w, x, y, z = rotation
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def turned(rotation: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The quaternion `rotation`, turned further by the rotation `vector` [3] (radians) in the world's frame."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return rotation.copy()
    axis = math.sin(angle / 2) / angle * np.asarray(vector)
    w, x, y, z = rotation
    a, (b, c, d) = math.cos(angle / 2), axis
    product = np.array(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ]
    )
    return product / np.linalg.norm(product)
