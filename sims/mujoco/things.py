"""The things that can lie on a table: their shapes, their colours, their names.

Sizes live in `assets/mujoco/shapes.xml`.
"""

from __future__ import annotations

from dataclasses import dataclass

SHAPES = ("cube", "ball", "cylinder", "bar")
"""Solid shapes; a scene names their geoms so."""

MARK = "mark"
"""A flat disc on the table, to push or put things on."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.10),
    "green": (0.10, 0.62, 0.16),
    "blue": (0.10, 0.22, 0.86),
    "yellow": (0.95, 0.86, 0.06),
    "purple": (0.50, 0.12, 0.66),
    "orange": (0.98, 0.48, 0.03),
    "cyan": (0.05, 0.75, 0.80),
    "pink": (1.0, 0.50, 0.72),
}
"""Red, green and blue in [0, 1], as far apart as they read well at 64x64 pixels on the table."""
DARK = (0.16, 0.16, 0.18)
"""What the cap of a pressed button looks like: its lamp is out."""


@dataclass(frozen=True)
class Thing:
    """A shape of a colour; `shape` is one of SHAPES, or MARK."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"
