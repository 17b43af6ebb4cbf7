"""Tells Gymnasium which environments there are.

`import sims` does it, so that `gymnasium.make("sims:vla_rl/Reach-v0")` needs no import at all. Gymnasium 1
loads no plugins by itself; programs that know only an id call the entry points of the group `gymnasium.envs`.
"""

from __future__ import annotations

import gymnasium

ADAPTER = "vla_rl/Adapter-v0"
TABLE_TOP = ("vla_rl/Reach-v0", "vla_rl/Push-v0")


def register_envs() -> None:
    """Register every environment of this package that is not registered yet. Imports no simulator."""
    for env_id in TABLE_TOP:
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point="sims.mujoco.env:TableTop", kwargs={"task": env_id})
    if ADAPTER not in gymnasium.registry:
        gymnasium.register(ADAPTER, entry_point="sims.adapters.env:AdaptedEnv")
