"""One hand for the table and for screens, so that one policy can act in both: a plugin of the study `many`.

Pictures are two of 96 x 96 pixels, the state has as many numbers as the gripper's, and an action is a point: how the
gripper moves, or where the screen is clicked.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

import sims  # noqa: F401  (registers the environments)
from vla_rl.specs import IMAGES, STATE, TASK

SIZE, CAMERAS, SCREEN = 96, ("front", "side"), "vla_rl/Gui"
NUMBERS = 9
"""Of the gripper's state; a screen says nothing there."""
TABLE = [
    *({"type": "camera", "name": name, "width": SIZE, "height": SIZE} for name in CAMERAS),
    *({"type": name} for name in ("end_effector_pose", "commanded_position", "tracking_error", "instruction")),
]
CLICK = [{"type": "screenshot"}, {"type": "instruction"}]


class Hand(gymnasium.Env):
    """`task`, the id of an environment of the table or of a screen, behind the same observations and actions.

    Actions are float32 [3] in [-1, 1]. On a screen, the first two are where it is clicked, from the left and from the
    top, and the third one does nothing. Observations: `observation.images.front` and `.side`, on a screen the
    same picture, `observation.state` float32 [9], and `task`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 (Gymnasium's)
    return_range = (0.0, 1.0)

    def __init__(self, task: str, render_mode: str | None = None) -> None:
        self.on_screen, self.render_mode = task.startswith(SCREEN), render_mode
        given: dict[str, Any] = {"gestures": ["click"]} if self.on_screen else {}
        sensors = CLICK if self.on_screen else TABLE
        self.env: Any = gymnasium.make(task, sensors=sensors, render_mode=render_mode, **given)
        pictures = {IMAGES + name: spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8) for name in CAMERAS}
        state = spaces.Box(-np.inf, np.inf, (NUMBERS,), np.float32)
        self.observation_space = spaces.Dict({**pictures, STATE: state, TASK: self.env.observation_space[TASK]})
        self.action_space = spaces.Box(-1, 1, (3,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        seen, info = self.env.reset(seed=seed, options=options)
        return self._seen(seen), info

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        given = self._click(action) if self.on_screen else action
        seen, reward, terminated, truncated, info = self.env.step(given)
        return self._seen(seen), float(reward), terminated, truncated, info

    def expert_action(self) -> np.ndarray:
        """What the scripted expert of the task would do, as an action of the hand."""
        action = self.env.unwrapped.expert_action()
        return np.append(2 * action["at"] - 1, 0).astype(np.float32) if self.on_screen else action

    def _click(self, action: np.ndarray) -> dict[str, Any]:
        kinds = self.env.action_space.kinds
        return {"kind": kinds.index("click"), "at": np.clip((action[:2] + 1) / 2, 0, 1).astype(np.float32)}

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    def _seen(self, seen: dict[str, Any]) -> dict[str, Any]:
        if not self.on_screen:
            return seen
        picture = next(each for key, each in seen.items() if key.startswith(IMAGES))
        return {**{IMAGES + name: picture for name in CAMERAS}, STATE: np.zeros(NUMBERS, np.float32), TASK: seen[TASK]}


for name in ("Reach", "Push", "GuiClickLabel", "GuiClickColour", "GuiClickShape"):
    gymnasium.register(f"studies/Hand{name}-v0", entry_point="hand:Hand", kwargs={"task": f"vla_rl/{name}-v0"})
