"""The Gymnasium environment of every table-top task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from sims.mujoco import controls, splits, variation
from sims.mujoco.table import CONTROL_SECONDS
from sims.mujoco.task import Goal, Task
from sims.mujoco.variation import Randomisation
from sims.mujoco.world import World
from sims.observe import Observer
from sims.shifting import Shifting, stages_of
from sims.tasks import settings_of, task_of
from vla_rl import registry
from vla_rl.specs import Observation

SENSORS: tuple[dict[str, Any], ...] = (
    {"type": "camera", "name": "front", "width": 64, "height": 64},
    {"type": "end_effector_pose"},
    {"type": "commanded_position"},
    {"type": "instruction"},
)
"""What is observed unless a config says otherwise."""
ROBOT = "robot"
"""The robot's entry of an action, where there are tools beside it."""


class TableTop(Shifting, gymnasium.Env):
    """A task on the table: reward 1 exactly when its proxy holds, which terminates; its horizon truncates.

    Actions are float32 in [-1, 1], one entry for each of `action_names`; what lies outside is clipped. With tools
    an action is a dict: "robot" and, under each tool's name, a choice.

    Args:
        task: a registered name of the group `envs` ("vla_rl/Reach-v0"), a "module:Class" of `plugins`, or a task.
        sensors: what to observe: names, mappings with `type`, or sensors; see `SENSORS`.
        robot: who does it, one of the task's `robots`; None for the first.
        control: what an action means; a component of the group `controls`.
        tools: components of the group `tools`.
        split: which target the episodes are about; see `sims.mujoco.splits`.
        randomise: fields of `Randomisation`s, the stages of a shifting environment.
        plugins: modules whose components may be named as "module:Class".
        render_mode: "rgb_array" or None.
        render_camera, render_width, render_height: what `render` draws.
        parameters: fields of a task that is given by name.

    Attributes:
        world: what there is.
        action_names: what each entry of the robot's action is.

    Raises:
        ValueError: a sensor, camera, component or parameter that does not exist or does not fit.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (Gymnasium's)
    return_range = (0.0, 1.0)

    def __init__(
        self,
        task: str | Task,
        sensors: Sequence[Any] = SENSORS,
        robot: str | None = None,
        control: Any = "end_effector",
        tools: Sequence[Any] = (),
        split: str = "any",
        randomise: Sequence[Any] = (),
        plugins: Sequence[str] = (),
        render_mode: str | None = None,
        render_camera: str = "front",
        render_width: int = 256,
        render_height: int = 256,
        **parameters: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        self.task = task_of(task, plugins, parameters, settings_of(type(self)))
        if robot is not None and robot not in self.task.robots:
            raise ValueError(
                f"robot: {type(self.task).__name__} is done by {', '.join(self.task.robots)}; got {robot!r}"
            )
        self.split = splits.check(split)
        self.world = World(self.task.scene, robot or self.task.robots[0])
        self.world.camera_id(render_camera)
        self.render_mode = render_mode
        self._view = (render_camera, render_width, render_height)
        self.control: controls.Control = registry.build("controls", control, plugins, "control")
        self.action_names = self.control.entries(self.world.robot)
        self.world.previous_action = np.zeros(len(self.action_names), np.float32)
        self.tools = tuple(registry.build("tools", tool, plugins, f"tools[{i}]") for i, tool in enumerate(tools))
        self._stages = stages_of(Randomisation, randomise)
        self._observer = Observer(sensors, self.world, plugins)
        self.observation_space = self._observer.space()
        self.marks = self._observer.marks
        self.action_space = self._action_space()
        self._goal: Goal | None = None
        self._steps = 0

    @property
    def goal(self) -> Goal:
        """What the episode is about. Raises gymnasium's ResetNeeded before the first one."""
        if self._goal is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        return self._goal

    def _action_space(self) -> gymnasium.Space:
        robot = controls.box(len(self.action_names))
        if not self.tools:
            return robot
        return gymnasium.spaces.Dict({ROBOT: robot, **{tool.name: tool.space() for tool in self.tools}})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode. One seed, one episode, bit by bit (with stages of randomisation: one seed and number).

        `info["stage"]` is the index of the stage of `randomise` that holds, None where there is none (yet). `options`
        are not used.
        """
        super().reset(seed=seed)
        stage = self._next_episode()
        if self._stages:
            variation.undo(self.world)
        self._goal = self._begin()
        if self._stages:
            self._vary(stage)
        self._steps = 0
        self._observer.begin(self.world, self.np_random)
        return self._observer.read(self.world), self._info(success=False, cost=0.0)

    def _vary(self, stage: Randomisation | None) -> None:
        """Draw the variation of the stage that holds, if any."""
        if stage is not None:
            stage.apply(self.world, self.np_random)
        variation.derive(self.world)
        self.world.settle()

    def _begin(self) -> Goal:
        """A goal that is not reached yet and belongs to the split."""
        while True:
            goal = self.task.begin(self.world, self.np_random)
            self.world.settle()
            if not self.task.success(self.world, goal) and splits.holds(self.split, self.world, goal.slots[0]):
                self.world.instruction, self.world.named = goal.instruction, goal.slots
                return goal

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out `action` and let a control step pass.

        `info["is_success"]` says whether the task is done, `info["cost"]` what the step cost. `info["diverged"]`
        is there where the physics broke down; the episode is then truncated.

        Raises:
            ValueError: an action of another shape, or not finite.
        """
        goal, world = self.goal, self.world
        cost = 0.0
        if self.tools:
            _check_keys(action, self.action_space)
            cost = sum(tool.use(world, int(action[tool.name])) for tool in self.tools)
            action = action[ROBOT]
        moves = _checked(action, len(self.action_names))
        self.control.apply(world.robot, moves)
        world.previous_action = moves.astype(np.float32)
        world.step()
        self._steps += 1
        diverged = world.diverged
        if not diverged:
            self.task.advance(world, goal)
            cost += self.task.cost(world, goal)
        success = not diverged and self.task.success(world, goal)
        paid = not diverged and self.task.proxy(world, goal)
        truncated = not paid and (diverged or self._steps >= self.task.horizon)
        info = self._info(success, cost) | ({"diverged": True} if diverged else {})
        return self._observer.read(world, diverged), float(paid), paid, truncated, info

    def render(self) -> np.ndarray | None:
        """A picture uint8 [render_height, render_width, 3] where the render mode is "rgb_array"."""
        return self.world.render(*self._view) if self.render_mode == "rgb_array" else None

    def hand_in_picture(self) -> tuple[float, float] | None:
        """Where `render` shows the gripper's tip: x to the right, y down, in [-1, 1]; None behind the camera."""
        camera, width, height = self._view
        x, y = self.world.project(camera, self.world.tip_position, width / height)
        return None if math.isnan(x) or math.isnan(y) else (float(x), float(y))

    def expert_action(self) -> Any:
        """What the scripted expert would do now, an action. It depends on the present state only."""
        target = self.task.expert(self.world, self.goal)
        moves = self.control.towards(self.world.robot, target).astype(np.float32)
        return {ROBOT: moves, **{tool.name: 0 for tool in self.tools}} if self.tools else moves

    def snapshot(self) -> dict[str, Any]:
        """The whole state, of arrays and JSON's types: `restore` goes on from it bit by bit."""
        goal = self.goal
        return {
            "world": self.world.snapshot(),
            "observer": self._observer.snapshot(),
            "rng": self.np_random.bit_generator.state,
            "goal": {"slots": list(goal.slots), "instruction": goal.instruction},
            "steps": self._steps,
            "episodes": self._episodes,
            "stage": self._stage,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from the `snapshot` of an environment that was made with the same arguments."""
        self.world.restore(snapshot["world"])
        self._observer.restore(snapshot["observer"])
        self.np_random.bit_generator.state = snapshot["rng"]
        self._goal = Goal(tuple(snapshot["goal"]["slots"]), snapshot["goal"]["instruction"])
        self.world.named = self._goal.slots
        self._steps, self._episodes, self._stage = snapshot["steps"], snapshot["episodes"], snapshot["stage"]

    def close(self) -> None:
        """Free the pictures' buffers."""
        self.world.close()

    def _info(self, success: bool, cost: float) -> dict[str, Any]:
        told = {"stage": self._stage} if self._stages else {}
        return {"is_success": success, "episode_steps": self._steps, "cost": cost, **told}


def _check_keys(action: Any, space: gymnasium.Space) -> None:
    assert isinstance(space, gymnasium.spaces.Dict)
    if not isinstance(action, dict) or set(action) != set(space.keys()):
        raise ValueError(f"an action is a dict of {', '.join(space.keys())}; got {action!r}")
    for name, choices in space.items():
        if name != ROBOT and not choices.contains(action[name]):
            raise ValueError(f"{name}: a choice lies in {choices}; got {action[name]!r}")


def _checked(action: Any, entries: int) -> np.ndarray:
    values = np.asarray(action, np.float64)
    if values.shape != (entries,) or not math.isfinite(values.sum()):
        raise ValueError(f"an action is {entries} finite numbers in [-1, 1], got {action!r}")
    return np.minimum(np.maximum(values, -1), 1)  # np.clip takes five times as long


assert TableTop.metadata["render_fps"] == int(1 / CONTROL_SECONDS)
