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

SCREENS: tuple[str, ...] = (
    "vla_rl/GuiClickColour-v0",
    "vla_rl/GuiClickLabel-v0",
    "vla_rl/GuiClickShape-v0",
    "vla_rl/GuiClickRelation-v0",
    "vla_rl/GuiTypeAndSubmit-v0",
    "vla_rl/GuiFillForm-v0",
    "vla_rl/GuiTickBoxes-v0",
    "vla_rl/GuiChooseFromMenu-v0",
    "vla_rl/GuiDragSlider-v0",
    "vla_rl/GuiScrollToFind-v0",
    "vla_rl/GuiDialog-v0",
    "vla_rl/GuiCalculator-v0",
    "vla_rl/GuiFlow-v0",
    "vla_rl/GuiGamedBanner-v0",
    "vla_rl/GuiGamedTicks-v0",
    "vla_rl/GuiGamedProgress-v0",
    "vla_rl/GuiSkipChecks-v0",
    "vla_rl/GuiDesk-v0",
    "vla_rl/GuiChain-v0",
)
"""Every task on a drawn screen, for `sims.gui.env:GuiEnv`."""

PAGES: dict[str, dict[str, Any]] = {
    "vla_rl/Page-v0": {"task": "vla_rl/Page-v0"},
    "vla_rl/MiniWoB-v0": {"task": "vla_rl/MiniWoB-v0"},
    **{f"vla_rl/MiniWoB-{name}-v0": {"task": "vla_rl/MiniWoB-v0", "name": name} for name in NAMES},
}
"""Every page in a browser, and what `sims.web.env:PageEnv` is told unless a config says otherwise."""

OWN_TASK = "vla_rl/TableTop-v0"
"""The same for a task of your own, which `task` names as "module:Class"."""

OWN_SCREEN = "vla_rl/Gui-v0"
"""A drawn screen for a task of your own."""

NAMED: dict[str, str] = {"vla_rl/GuiNamedChain-v0": "vla_rl/GuiChain-v0"}
"""Tasks on a drawn screen for a hand that presses things by their name, `sims.gui.named:NamedScreen`."""

ADAPTER = "vla_rl/Adapter-v0"
"""Another package's environment, shown as one of ours."""

_WITHOUT_TASK = {
    OWN_TASK: "sims.mujoco.env:TableTop",
    OWN_SCREEN: "sims.gui.env:GuiEnv",
    ADAPTER: "sims.adapters.env:AdaptedEnv",
}


def register_envs() -> None:
    """Register every environment of this package that is not registered yet. Imports no simulator."""
    for env_id, settings in TABLE_TOP.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point="sims.mujoco.env:TableTop", kwargs=settings)
    for env_id in SCREENS:
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point="sims.gui.env:GuiEnv", kwargs={"task": env_id})
    for env_id, task in NAMED.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point="sims.gui.named:NamedScreen", kwargs={"task": task})
    for env_id, settings in PAGES.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point="sims.web.env:PageEnv", kwargs=settings)
    for env_id, entry_point in _WITHOUT_TASK.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point)
