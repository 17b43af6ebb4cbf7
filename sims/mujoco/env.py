"""The Gymnasium environment of every table-top task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from sims.mujoco.task import Goal, Task
from sims.mujoco.world import STEP, SUBSTEPS, World
from sims.observe import Observer
from vla_rl import registry
from vla_rl.specs import Observation

SENSORS: tuple[dict[str, Any], ...] = (
    {"type": "camera", "name": "front", "width": 64, "height": 64},
    {"type": "end_effector_pose"},
    {"type": "commanded_position"},
    {"type": "instruction"},
)
"""What is observed unless a config says otherwise."""


class TableTop(gymnasium.Env):
    """A task on the table: reward 1 exactly when it is done, which terminates; its horizon truncates.

    Actions are float32 [3] in [-1, 1]: the displacement of the commanded position, in units of
    `world.STEP` metres; what lies outside is clipped.

    Args:
        task: a registered name of the group `envs` ("vla_rl/Reach-v0"), or a task.
        sensors: what to observe: names, mappings with `type`, or sensors; see `SENSORS`.
        plugins: modules whose sensors `sensors` may name as "module:Class".
        render_mode: "rgb_array" or None.
        render_camera, render_width, render_height: what `render` draws.
        parameters: fields of a task that is given by name.

    Raises:
        ValueError: a sensor, camera or parameter that does not exist or does not fit.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (Gymnasium's)

    def __init__(
        self,
        task: str | Task,
        sensors: Sequence[Any] = SENSORS,
        plugins: Sequence[str] = (),
        render_mode: str | None = None,
        render_camera: str = "front",
        render_width: int = 256,
        render_height: int = 256,
        **parameters: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        if isinstance(task, str):
            self.task: Task = registry.validated(registry.resolve("envs", task), parameters, task)
        elif parameters:
            raise ValueError(f"{', '.join(parameters)}: set the fields of the task itself, which is given")
        else:
            self.task = task
        self.world = World(self.task.scene)
        self.world.camera_id(render_camera)
        self.render_mode = render_mode
        self._view = (render_camera, render_width, render_height)
        self._observer = Observer.build(sensors, self.world, plugins)
        self.observation_space = self._observer.space()
        self.action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
        self._goal: Goal | None = None
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode. One seed, one episode, bit by bit; `options` are not used."""
        super().reset(seed=seed)
        while True:
            self._goal = self.task.begin(self.world, self.np_random)
            self.world.settle()
            if not self.task.success(self.world, self._goal):
                break
        self.world.instruction = self._goal.instruction
        self._steps = 0
        self._observer.check(self.world)
        return self._observer.read(self.world), self._info(success=False)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Displace the commanded position by `action` float [3] and let a control step pass.

        `info["is_success"]` says whether the task is done. `info["diverged"]` is there where the physics
        broke down; the episode is then truncated.

        Raises:
            ValueError: an action of another shape, or not finite.
        """
        goal = self._begun()
        self.world.move(_checked(action))
        self._steps += 1
        diverged = self.world.diverged
        success = self.task.success(self.world, goal) and not diverged
        truncated = not success and (diverged or self._steps >= self.task.horizon)
        info = self._info(success) | ({"diverged": True} if diverged else {})
        return self._observer.read(self.world), float(success), success, truncated, info

    def render(self) -> np.ndarray | None:
        """A picture uint8 [render_height, render_width, 3] where the render mode is "rgb_array"."""
        return self.world.render(*self._view) if self.render_mode == "rgb_array" else None

    def expert_action(self) -> np.ndarray:
        """What the scripted expert would do now: float32 [3]. It depends on the present state only."""
        target = self.task.expert(self.world, self._begun())
        return np.clip((target - self.world.commanded_position) / STEP, -1, 1).astype(np.float32)

    def close(self) -> None:
        """Free the pictures' buffers."""
        self.world.close()

    def _begun(self) -> Goal:
        if self._goal is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        return self._goal

    def _info(self, success: bool) -> dict[str, Any]:
        return {"is_success": success, "episode_steps": self._steps}


def _checked(action: Any) -> np.ndarray:
    values = np.asarray(action, np.float64)
    if values.shape != (3,) or not math.isfinite(values.sum()):
        raise ValueError(f"an action is 3 finite numbers in [-1, 1], got {action!r}")
    return np.minimum(np.maximum(values, -1), 1)  # np.clip takes five times as long


assert TableTop.metadata["render_fps"] == int(1 / (0.004 * SUBSTEPS))
