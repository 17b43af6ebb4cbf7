"""Tells Gymnasium which environments there are.

`import sims` does it, so that `gymnasium.make("sims:vla_rl/Reach-v0")` needs no import at all. Gymnasium 1
loads no plugins by itself; programs that know only an id call the entry points of the group `gymnasium.envs`.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from sims.web.names import NAMES

_WITHOUT_FINGERS = {"type": "end_effector", "rotation": "none", "fingers": "closed"}

TABLE_TOP: dict[str, dict[str, Any]] = {
    "vla_rl/Reach-v0": {"task": "vla_rl/Reach-v0"},
    "vla_rl/Push-v0": {"task": "vla_rl/Push-v0"},
    "vla_rl/ArmReach-v0": {"task": "vla_rl/Reach-v0", "robot": "arm", "control": _WITHOUT_FINGERS},
    "vla_rl/ArmPush-v0": {"task": "vla_rl/Push-v0", "robot": "arm", "control": _WITHOUT_FINGERS},
    "vla_rl/Pick-v0": {"task": "vla_rl/Pick-v0"},
    "vla_rl/Place-v0": {"task": "vla_rl/Place-v0"},
    "vla_rl/Stack-v0": {"task": "vla_rl/Stack-v0"},
    "vla_rl/OpenDrawer-v0": {"task": "vla_rl/OpenDrawer-v0"},
    "vla_rl/PressInOrder-v0": {"task": "vla_rl/PressInOrder-v0", "control": _WITHOUT_FINGERS},
    "vla_rl/InsertPeg-v0": {"task": "vla_rl/InsertPeg-v0"},
    "vla_rl/TidyUp-v0": {"task": "vla_rl/TidyUp-v0"},
    "vla_rl/GamedStack-v0": {"task": "vla_rl/GamedStack-v0"},
    "vla_rl/GamedDrawer-v0": {"task": "vla_rl/GamedDrawer-v0"},
    "vla_rl/FragileReach-v0": {"task": "vla_rl/FragileReach-v0", "control": _WITHOUT_FINGERS},
}
"""Every table-top environment, and what `sims.mujoco.env:TableTop` is told unless a config says otherwise."""

PAGES: dict[str, dict[str, Any]] = {
    "vla_rl/Page-v0": {"task": "vla_rl/Page-v0"},
    "vla_rl/MiniWoB-v0": {"task": "vla_rl/MiniWoB-v0"},
    **{f"vla_rl/MiniWoB-{name}-v0": {"task": "vla_rl/MiniWoB-v0", "name": name} for name in NAMES},
}
"""Every page in a browser, and what `sims.web.env:PageEnv` is told unless a config says otherwise."""

OWN_TASK = "vla_rl/TableTop-v0"
"""The same for a task of your own, which `task` names as "module:Class"."""

ADAPTER = "vla_rl/Adapter-v0"
"""Another package's environment, shown as one of ours."""


def register_envs() -> None:
    """Register every environment of this package that is not registered yet. Imports no simulator."""
    for env_id, settings in TABLE_TOP.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point="sims.mujoco.env:TableTop", kwargs=settings)
    for env_id, settings in PAGES.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point="sims.web.env:PageEnv", kwargs=settings)
    if OWN_TASK not in gymnasium.registry:
        gymnasium.register(OWN_TASK, entry_point="sims.mujoco.env:TableTop")
    if ADAPTER not in gymnasium.registry:
        gymnasium.register(ADAPTER, entry_point="sims.adapters.env:AdaptedEnv")
