"""What a policy may call besides moving, and what it costs. Fields are the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import gymnasium

from sims.mujoco.table import WORKSPACE_HIGH, WORKSPACE_LOW

if TYPE_CHECKING:
    from sims.mujoco.world import World


class Tool(Protocol):
    """A frozen dataclass. Its choice is an entry `name` of the action; 0 calls nothing."""

    name: str

    def space(self) -> gymnasium.spaces.Discrete:
        """What may be chosen."""

    def use(self, world: World, choice: int) -> float:
        """Carry out a choice before the step; returns what it costs."""


@dataclass(frozen=True)
class CloseUp:
    """A camera that looks closely at one cell of a grid over the table, for one observation.

    The camera `close_up` (sensor `close_up`) sees the cell in the observation that follows the call, and nothing
    (black) in all others.

    Args:
        cells: of the grid along each axis; choice 1 is the near left one, and they go on to the right.
        cost: of one call, added to `info["cost"]`.
    """

    cells: int = 3
    cost: float = 0.05
    name: str = "close_up"

    def __post_init__(self) -> None:
        if not 1 <= self.cells <= 8:
            raise ValueError(f"cells must lie in [1, 8], got {self.cells}")
        if self.cost < 0:
            raise ValueError(f"cost must be at least 0, got {self.cost}")

    def space(self) -> gymnasium.spaces.Discrete:
        """See `Tool`."""
        return gymnasium.spaces.Discrete(1 + self.cells**2)

    def use(self, world: World, choice: int) -> float:
        """See `Tool`."""
        world.looked = choice > 0
        if not choice:
            return 0.0
        row, column = divmod(choice - 1, self.cells)
        size = (WORKSPACE_HIGH - WORKSPACE_LOW)[:2] / self.cells
        x, y = WORKSPACE_LOW[:2] + size * ((column + 0.5), (row + 0.5))
        # From the front, as steep as the arm's hand lets the cell be seen; the view is a little wider than the cell.
        world.aim("close_up", (x, y - 0.3, 0.4), (x, y, 0.02), fovy=140 * float(size[0]))
        return self.cost
