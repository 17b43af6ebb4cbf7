"""The numbers that every table-top world shares. `assets/mujoco/tabletop.xml` holds to them."""

from __future__ import annotations

import numpy as np

TIMESTEP = 0.004
"""Of the physics, seconds."""
SUBSTEPS = 12
"""Physics steps in one control step."""
CONTROL_SECONDS = TIMESTEP * SUBSTEPS
"""How long a control step lasts."""
WORKSPACE_LOW = np.array([-0.25, -0.25, 0.012])
WORKSPACE_HIGH = np.array([0.25, 0.25, 0.25])
"""Where the commanded position may be, metres."""
