"""A package of somebody else's environments, in little: what adapters meet, without installing anything."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Walk(gymnasium.Env):
    """Walk along a line to a place `far` away: a Dict observation, a picture, `info` of the caller's choice.

    says: what the info calls success. only_at_end: whether only the last step tells. only_success: whether failure is
    not told of. failure: what is said then. pit: where the walk ends badly.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's)

    def __init__(
        self,
        far: float = 3.0,
        says: str = "is_success",
        only_at_end: bool = False,
        only_success: bool = False,
        failure: float = False,
        pit: float = -2.5,
        render_mode: str | None = None,
    ) -> None:
        self.far, self.says, self.only_at_end, self.pit = far, says, only_at_end, pit
        self.only_success, self.failure = only_success, failure
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "place": gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64),
                "pixels": gymnasium.spaces.Box(0, 255, (8, 12, 3), np.uint8),
                "order": gymnasium.spaces.Text(40),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(-0.5, 0.5))
        return self._observation(), {"mood": "glad"}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place += float(action[0])
        done, lost = self.place > self.far, self.place < self.pit
        silent = (self.only_at_end and not (done or lost)) or (self.only_success and not done)
        told = {} if silent else {self.says: done or self.failure}
        return (
            self._observation(),
            self.place / 10,
            lost or (done and self.only_at_end),
            False,
            {"x": self.place, **told},
        )

    def _observation(self) -> dict[str, Any]:
        picture = np.zeros((8, 12, 3), np.uint8)
        picture[:, int(np.clip(self.place + 6, 0, 11))] = (250, 10, 10)
        return {"place": np.array([self.place, self.far]), "pixels": picture, "order": f"walk {self.far:g} steps"}

    def render(self) -> np.ndarray:
        return self._observation()["pixels"]


class Listed(Walk):
    """Walk to a place of a list, as Meta-World's MT1 has it: the list is made with the environment, and shared."""

    def __init__(self, seed: int = 0, num_goals: int = 5, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.tasks = [float(far) for far in np.random.default_rng(seed).uniform(2, 5, num_goals)]
        self.seeded_rand_vec, self._freeze_rand_vec = False, True

    def seed(self, seed: int) -> None:
        self._np_random = np.random.default_rng(seed)

    def set_task(self, task: float) -> None:
        self.far, self._freeze_rand_vec = task, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if not self._freeze_rand_vec:
            assert self.seeded_rand_vec, "it would draw from numpy's global generator"
            self.far = float(self.np_random.uniform(2, 5))
        return super().reset()


class TaskSelect(gymnasium.Wrapper):
    """Draws one of the tasks at every reset, unless told not to."""

    def __init__(self, env: Listed) -> None:
        super().__init__(env)
        self.tasks, self._sample = env.tasks, True

    def toggle_sample_tasks_on_reset(self, on: bool) -> None:
        self._sample = on

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        if self._sample:
            self.unwrapped.set_task(self.tasks[self.np_random.choice(len(self.tasks))])  # type: ignore[attr-defined]
        return self.env.reset(**kwargs)


class NestedWalk(gymnasium.ObservationWrapper):
    """The same, whose observation holds Dicts, a Tuple and a key with a dot."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Walk(**kwargs))
        place, pixels, order = (self.env.observation_space[key] for key in ("place", "pixels", "order"))
        inner = gymnasium.spaces.Dict({"place.now": place, "eyes": gymnasium.spaces.Tuple([pixels, pixels])})
        self.observation_space = gymnasium.spaces.Dict({"body": inner, "goal": gymnasium.spaces.Dict({"order": order})})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        pixels = observation["pixels"]
        inner = {"place.now": observation["place"], "eyes": (pixels, 255 - pixels)}
        return {"body": inner, "goal": {"order": observation["order"]}}


if "foreign/Walk-v0" not in gymnasium.registry:
    gymnasium.register("foreign/Listed-v0", lambda **kwargs: TaskSelect(Listed(**kwargs)), max_episode_steps=20)
    gymnasium.register("foreign/Walk-v0", entry_point=Walk, max_episode_steps=20)
    gymnasium.register("foreign/NestedWalk-v0", entry_point=NestedWalk, max_episode_steps=20)
