"""The Gymnasium environment of every task on a drawn screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import gymnasium
import numpy as np

from sims.gui import splits, themes
from sims.gui.screen import Screen
from sims.gui.task import Goal, Task
from sims.observe import Observer
from sims.screen.interaction import Gesture, Interaction
from sims.shifting import Shifting, check_stage, stages_of
from sims.tasks import settings_of, task_of
from vla_rl import registry
from vla_rl.specs import TASK, Observation

SENSORS: tuple[dict[str, Any], ...] = ({"type": "screenshot"}, {"type": "last_gestures"}, {"type": "instruction"})
"""What is observed unless a config says otherwise."""
SMALLEST = 96
"""Pixels that a screen is wide and high at least."""


@dataclass(frozen=True)
class Shift:
    """What a screen is like from the `from_episode`-th episode on (counted from 0), until another shift has begun.

    Args:
        theme: of each episode, as the environment's; None for that.
        task: fields of the task that are others than before, such as those that change what its tools answer.
        from_episode: of this environment, or, in training, of all environments of the run.
    """

    theme: str | None = None
    task: dict[str, Any] = field(default_factory=dict)
    from_episode: int = 0

    def __post_init__(self) -> None:
        if self.theme is not None:
            themes.check(self.theme)
        check_stage(self.from_episode)


class GuiEnv(Shifting, gymnasium.Env):
    """A task on a drawn screen: reward 1 exactly when its proxy holds, which terminates; its horizon truncates.

    Actions are commands, see `sims.screen.interaction`.

    Args:
        task: a registered name of the group `envs` ("vla_rl/GuiClickColour-v0"), a "module:Class" of `plugins`, or a
            task.
        sensors: what to observe: names, mappings with `type`, or sensors; None for `SENSORS`, and what tools answer
            where the task has some.
        size: width and height of the screen in pixels.
        scale: of everything drawn; None for one that goes with the size.
        theme: of each episode: "any" of the training themes, "held_out" for one of those kept from training, or a
            name; see `sims.gui.themes`.
        split: what the instructions name; see `sims.gui.splits`.
        randomise: fields of `Shift`s, the stages of a shifting screen.
        tools: components of the group `tools`, beside the task's own: each is called by a gesture of its name, and what
            it says is `answer`.
        gestures, frame, keys, words, characters, length: fields of `Interaction`; None for the task's own.
        plugins: modules whose components may be named as "module:Class".
        render_mode: "rgb_array" or None.
        render_width, render_height: the picture that `render` gives is the screen, as many times as fits into that.
        parameters: fields of a task that is given by name.

    Attributes:
        world: the screen.
        interaction: what a hand can do.

    Raises:
        ValueError: a sensor, component or parameter that does not exist or does not fit.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's)
    return_range = (0.0, 1.0)

    def __init__(
        self,
        task: str | Task,
        sensors: Sequence[Any] | None = None,
        size: Sequence[int] = (SMALLEST, SMALLEST),
        scale: float | None = None,
        theme: str = themes.ANY,
        split: str = "any",
        randomise: Sequence[Any] = (),
        tools: Sequence[Any] = (),
        gestures: Sequence[str] | None = None,
        frame: Literal["pixels", "unit", "thousand"] | None = None,
        keys: Sequence[str] | None = None,
        words: int | None = None,
        characters: str | None = None,
        length: int | None = None,
        plugins: Sequence[str] = (),
        render_mode: str | None = None,
        render_width: int = 384,
        render_height: int = 384,
        **parameters: Any,
    ) -> None:
        self.task = task_of(task, plugins, parameters, settings_of(type(self), Interaction))
        self.split = splits.check(split, self.task.splits)
        self.theme = themes.check(theme)
        wanted: dict[str, Any] = {
            "gestures": gestures and tuple(gestures),
            "frame": frame,
            "keys": keys and tuple(keys),
            "words": words,
            "characters": characters,
            "length": length,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        self.interaction = replace(self.task.interaction, **given)
        more = tuple(registry.build("tools", tool, plugins, f"tools[{i}]") for i, tool in enumerate(tools))
        for i, tool in enumerate(more):
            if not hasattr(tool, "call"):
                raise registry.ConfigError(f"tools[{i}]: {type(tool).__name__} is no tool of screens")
        self._more = more
        self._stages = stages_of(Shift, randomise)
        self._tasks = (*(_changed(self.task, stage.task, i) for i, stage in enumerate(self._stages)), self.task)
        self._commands = self.interaction.space(_checked(size), self.tools)
        self.action_space = self._commands
        self.world = Screen(_checked(size), self._commands.kinds, scale)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode: rgb_array or None; got {render_mode!r}")
        self.render_mode = render_mode
        self._times = max(1, min(render_width // self.world.size[0], render_height // self.world.size[1]))
        usual = (*SENSORS, *([{"type": "answer"}] if self.task.tools else []))
        self._observer = Observer(usual if sensors is None else sensors, self.world, plugins)
        self.observation_space = self._observer.space()
        self.marks = self._observer.marks
        self._goal: Goal | None = None
        self._text = ""
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode. One seed, one episode, bit by bit (with stages: one seed and number).

        `info["stage"]` is the index of the stage of `randomise` that holds, None where there is none (yet). `options`
        are not used.
        """
        super().reset(seed=seed)
        stage = self._next_episode()
        self._settle()
        self._goal = self._begin((stage and stage.theme) or self.theme)
        self._steps = 0
        self._observer.begin(self.world, self.np_random)
        return self._observe(), self._info(success=False, cost=0.0)

    def _settle(self) -> None:
        """Have the task of the stage that holds."""
        self.task = self._tasks[-1 if self._stage is None else self._stage]

    @property
    def tools(self) -> tuple[Any, ...]:
        """The task's, and those of the config."""
        return (*self.task.tools, *self._more)

    def _begin(self, theme: str) -> Goal:
        """A goal that is not reached yet and belongs to the split."""
        while True:
            self.world.clear(*themes.draw(theme, self.np_random))
            x, y = self.np_random.uniform(0, self.world.size)
            self.world.cursor = (float(x), float(y))
            goal = self.task.begin(self.world, self.np_random)
            self.world.change()
            if splits.holds(self.split, goal) and not self.task.success(self.world, goal):
                self.world.instruction = goal.instruction
                return goal

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out a command.

        `info["is_success"]` says whether the task is done, `info["cost"]` what the step cost; some tasks report more.

        Raises:
            ValueError: not an action of the space.
        """
        goal, screen = self._begun(), self.world
        gesture = screen.behind(self.interaction.read(action, self._commands, screen.size, self._text))
        cost = self._carry_out(gesture)
        self._steps += 1
        self.task.advance(screen, goal)
        cost += self.task.cost(screen, goal)
        success, paid = self.task.success(screen, goal), self.task.proxy(screen, goal)
        truncated = not paid and self._steps >= self.task.horizon
        return self._observe(), float(paid), paid, truncated, self._info(success, cost)

    def _carry_out(self, gesture: Gesture) -> float:
        """What it costs."""
        self.world.do(gesture)
        for tool in self.tools:
            if tool.name == gesture.kind:
                self.world.answer = tool.call(self.world, gesture)
                return float(tool.cost)
        return 0.0

    def render(self) -> np.ndarray | None:
        """The screen, enlarged, uint8 [height, width, 3], where the render mode is "rgb_array"."""
        if self.render_mode != "rgb_array":
            return None
        return self.world.screenshot().repeat(self._times, 0).repeat(self._times, 1)

    @property
    def goal(self) -> Goal:
        """What the present episode is about."""
        return self._begun()

    def expert_action(self) -> dict[str, Any]:
        """What the scripted expert would do now, an action. It depends on the present state only."""
        return self.action(self.task.expert(self.world, self._begun()))

    def action(self, gesture: Gesture) -> dict[str, Any]:
        """The action that stands for a gesture. Raises ValueError for one that cannot be made here."""
        shown = self.world.on_picture(gesture)
        return self.interaction.write(shown, self._commands, self.world.size, self._text)

    def things(self) -> list[tuple[str, dict[str, Any]]]:
        """What is written on everything that can be clicked now, lower-case, and the action that clicks it."""
        whole = (0, 0, *self.world.size)
        left, top, wide, high = self.world.view or whole
        found = []
        for placed in self.world.reachable():
            (x, y), text = placed.middle, str(getattr(placed.widget, "text", "")).lower()
            inside = left <= x < left + wide and top <= y < top + high
            if text and placed.widget.alive and inside and self.world.shown(placed.widget.name):
                found.append((text, self.action(Gesture("click", at=(x, y)))))
        return found

    def snapshot(self) -> dict[str, Any]:
        """The whole state, of arrays, tuples and JSON's types: `restore` goes on from it bit by bit."""
        goal = self._begun()
        return {
            "screen": self.world.snapshot(),
            "observer": self._observer.snapshot(),
            "rng": self.np_random.bit_generator.state,
            "goal": {"instruction": goal.instruction, "facts": goal.facts, "words": goal.words, "pairs": goal.pairs},
            "text": self._text,
            "steps": self._steps,
            "episodes": self._episodes,
            "stage": self._stage,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from the `snapshot` of an environment that was made with the same arguments."""
        self.world.restore(snapshot["screen"])
        self._observer.restore(snapshot["observer"])
        self.np_random.bit_generator.state = snapshot["rng"]
        self._goal = Goal(**snapshot["goal"])
        self._text, self._steps = snapshot["text"], snapshot["steps"]
        self._episodes, self._stage = snapshot["episodes"], snapshot["stage"]
        self._settle()

    def _observe(self) -> Observation:
        self.world.note_down()
        seen = self._observer.read(self.world)
        self._text = str(seen.get(TASK, self.world.instruction))
        return seen

    def _begun(self) -> Goal:
        if self._goal is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        return self._goal

    def _info(self, success: bool, cost: float) -> dict[str, Any]:
        more = self.task.report(self.world, self._begun()) | ({"stage": self._stage} if self._stages else {})
        return {"is_success": success, "episode_steps": self._steps, "cost": cost, **more}


def _changed(task: Task, fields: Mapping[str, Any], stage: int) -> Task:
    """The task with other fields. Raises ConfigError for those that it has not, and where the tools would be others."""
    path, kind = f"randomise[{stage}].task", type(task)
    given = {name: getattr(task, name) for name in registry.parameters(kind)}
    changed: Task = registry.validated(kind, given | dict(fields), path)
    if [(tool.name, tool.takes) for tool in changed.tools] != [(tool.name, tool.takes) for tool in task.tools]:
        raise registry.ConfigError(f"{path}: the tools would be others, and with them the actions; got {dict(fields)}")
    return changed


def _checked(size: Sequence[int]) -> tuple[int, int]:
    if len(size) != 2 or min(size) < SMALLEST or max(size) > 2048:
        raise ValueError(f"size: width and height, from {SMALLEST} to 2048 pixels each; got {size!r}")
    return int(size[0]), int(size[1])
