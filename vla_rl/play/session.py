"""The episodes of a person: the one under way, and those kept on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from vla_rl import envs, specs
from vla_rl.actions.command import Commands
from vla_rl.actions.expert import expert_action
from vla_rl.data import files
from vla_rl.data.files import Demonstrations
from vla_rl.data.record import Tape, missing_expert
from vla_rl.envs import ObservationShape
from vla_rl.play.controls import RefusedError
from vla_rl.play.entries import Entries
from vla_rl.play.hand import Hand
from vla_rl.registry import ConfigError
from vla_rl.specs import IMAGES, TASK

SIDE = 384
"""Pixels that the shorter side of a camera's picture has at least."""


class Session:
    """One environment, acted in step by step; the world waits for the person.

    An episode is kept when it has ended in success; it is on disk at once. Labels are what the person did.

    Args:
        env: observed as a policy would; its action is a Box, Discrete or a command.
        folder: where kept episodes go; they are added to those that lie there.
        first_seed: of the first episode; each episode takes the next one.

    Attributes:
        controls: the actions.
        tape: the episode under way.
        kept: how many episodes were kept.

    Raises:
        ConfigError: the environment cannot be played by a person or recorded for a policy.
        ValueError: a seed that is kept for evaluation.
    """

    def __init__(self, env: gymnasium.Env, folder: Path, first_seed: int = 0) -> None:
        self.env, self.folder, self.kept = env, folder, 0
        self._name = envs.name_of(env)
        try:
            self._shape = ObservationShape.of(env.observation_space)
        except ValueError as error:
            raise ConfigError(f"env {self._name}: nothing could train on it: {error}") from error
        space = env.action_space
        self.controls = Hand(space) if isinstance(space, Commands) else Entries(env)
        self._without_expert = missing_expert(env, specs.check_training_seed(first_seed, key="demos.seed"))
        self._first_seed, self._started = first_seed, 0
        self._begin()

    def _begin(self) -> None:
        seed = specs.check_training_seed(self._first_seed + self._started, key="demos.seed")
        self._started += 1
        self.controls.begin()
        self.tape = Tape(self.env, seed)

    @property
    def name(self) -> str:
        """The environment's."""
        return self._name

    @property
    def has_expert(self) -> bool:
        """Whether there is a scripted expert to ask."""
        return not self._without_expert

    @property
    def text(self) -> str:
        """The present text of the task: the instruction, and what tools have answered."""
        return str(self.tape.observation[TASK])

    @property
    def status(self) -> str:
        """One line on the episode under way."""
        tape = self.tape
        state = "go on" if not tape.ended else "SUCCESS, keep it?" if tape.succeeded else "over, without success"
        state += f" ({tape.info['error']})" if "error" in tape.info else ""
        return f"episode {self._started} (seed {tape.seed}), step {len(tape)}, reward {tape.reward:g}: {state}"

    @property
    def about(self) -> str:
        """What is recorded, and where."""
        return (
            f"Recorded of each step: what a policy would observe ({', '.join(self.tape.observation)}), what you do, "
            f"the reward. An episode that you keep goes to {self.folder} at once; only successes can be kept."
        )

    def act(self, action: Any) -> str:
        """Carry out one action; says which, see `Controls.told`. Raises RefusedError where the episode is over."""
        if self.tape.ended:
            raise RefusedError("the episode is over: keep it or drop it")
        done = self.controls.told(action, self.text)
        self.tape.step(action, action)
        self.controls.follow(action)
        return done

    def expert(self) -> str:
        """Let the scripted expert act once; says how.

        Raises:
            RefusedError: there is none, it does not know how to go on, or the episode is over.
        """
        if not self.has_expert:
            raise RefusedError(f"{self._name}: {self._without_expert}")
        if self.tape.ended:
            raise RefusedError("the episode is over: keep it or drop it")
        try:
            action = expert_action(self.env)
        except ValueError as error:
            raise RefusedError(f"the expert does not know how to go on: {error}") from error
        return self.act(action)

    def judge(self, success: bool) -> str:
        """Say how the episode has ended, where the environment does not. Raises RefusedError where it does."""
        tape = self.tape
        if tape.verified:
            raise RefusedError("this environment itself tells whether an episode succeeds")
        if not len(tape):
            raise RefusedError("nothing has been done yet")
        tape.judge(success)
        return "a success: keep it?" if success else "a failure: drop it"

    def keep(self) -> str:
        """Write the episode to disk and begin the next; says so. Raises RefusedError unless it ended in success."""
        tape = self.tape
        if not tape.ended:
            raise RefusedError("the episode is not over: only one that ended in success can be kept; go on, or drop it")
        if not tape.succeeded:
            raise RefusedError("the episode ended without success, and would teach that: drop it")
        meta = {"env": self._name, "by": "a person", "seed": self._first_seed}
        demonstrations = Demonstrations((tape.episode(),), self._shape, meta)
        (files.append if self.folder.exists() else files.save)(demonstrations, self.folder)
        self.kept += 1
        self._begin()
        return f"kept: an episode of {len(tape)} steps in {self.folder}; {self.kept} so far"

    def drop(self) -> str:
        """Forget the episode and begin the next; says so."""
        steps = len(self.tape)
        self._begin()
        return f"dropped {steps} step(s)"

    def picture(self) -> Image.Image:
        """What a person sees, each camera at least SIDE pixels high and wide, side by side.

        Of commands it is the picture alone that their places are counted in.
        """
        cameras = self.controls.cameras([key.removeprefix(IMAGES) for key in self._shape.images])
        views = [self._view(camera) for camera in cameras]
        joined = Image.new("RGB", (sum(view.width for view in views), max(view.height for view in views)))
        left = 0
        for view in views:
            joined.paste(view, (left, 0))
            left += view.width
        return joined

    def _view(self, camera: str) -> Image.Image:
        """A camera as large as a person wants it: drawn anew where the world can, else enlarged."""
        world = getattr(self.env.unwrapped, "world", None)
        screenshot = getattr(world, "screenshot", None)
        # A sensor may show a screen smaller, or a part of it, where places could not be told.
        seen = np.asarray(screenshot() if screenshot else self.tape.observation[IMAGES + camera])
        times = max(1, -(-SIDE // min(seen.shape[:2])))
        height, width = (times * side for side in seen.shape[:2])
        if camera in getattr(world, "cameras", ()):
            return Image.fromarray(world.render(camera, width, height))  # type: ignore[union-attr]
        return Image.fromarray(seen).resize((width, height), Image.Resampling.NEAREST)
