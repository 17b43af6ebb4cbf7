"""The mouse's arrow, which a browser without a window does not draw."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

ARROW = ((0, 0), (0, 12), (3, 9), (5, 13), (7, 12), (5, 8), (9, 8))
"""Its outline in pixels from the tip."""


def draw_arrow(picture: np.ndarray, tip: tuple[float, float]) -> np.ndarray:
    """A copy of a picture uint8 [height, width, 3] with an arrow whose tip is at (x, y)."""
    image = Image.fromarray(picture)
    outline = [(round(tip[0]) + x, round(tip[1]) + y) for x, y in ARROW]
    ImageDraw.Draw(image).polygon(outline, fill="white", outline="black")
    return np.asarray(image)
