"""What a page shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sims.screen.world import ScreenWorld
from vla_rl.specs import SensorSpec


@dataclass(frozen=True)
class Screenshot:
    """The screen as it is."""

    name: str = "screen"

    def spec(self, world: ScreenWorld) -> SensorSpec:
        """An image of the screen's size."""
        return SensorSpec("image", (world.size[1], world.size[0], 3), "uint8", low=0, high=255)

    def read(self, world: ScreenWorld) -> np.ndarray:
        """uint8 [height, width, 3]."""
        return world.screenshot().copy()
