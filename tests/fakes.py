"""A world and a policy small enough to reason about: walk along a line to a goal.

Worker processes import the file of what they make. So what tests have them make lies here: a test's own file would have
each of them import PyTorch, for ten seconds.
"""

from __future__ import annotations

import os
import signal
import string
import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from vla_rl.actions.binned import Binned
from vla_rl.envs import TokenEnv
from vla_rl.specs import LANE_SEEDS, STATE, TASK

CAMERA = "observation.images.front"
LINE = "fake/Line-v0"


class Line(gymnasium.Env):
    """Start at a random place in [-1, 1], walk by action * .25; success within .1 of the origin, 12 steps at most.

    Seeds divisible by 7 break down at their end where `fragile`. The image's brightness is the place.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, width: int = 8, fragile: bool = False) -> None:
        self.render_mode, self.width, self.fragile = render_mode, width, fragile
        self.observation_space = gymnasium.spaces.Dict(
            {
                CAMERA: gymnasium.spaces.Box(0, 255, (8, width, 3), np.uint8),
                STATE: gymnasium.spaces.Box(-3, 3, (1,), np.float32),
                TASK: gymnasium.spaces.Text(64, charset=string.printable),
            }
        )
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        super().reset(seed=seed)
        self.place, self.steps = float(self.np_random.uniform(-1, 1)), 0
        self.broken = self.fragile and seed is not None and seed % 7 == 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.place, self.steps = self.place + 0.25 * float(action[0]), self.steps + 1
        done = abs(self.place) < 0.1
        info = {"is_success": done, "invalid": self.broken}
        return self._observe(), float(done), done, self.steps == 12 and not done, info

    def render(self) -> np.ndarray:
        return np.full((32, 32, 3), self._grey(), np.uint8)

    def expert_action(self) -> np.ndarray:
        return np.asarray([np.clip(-self.place / 0.25, -1, 1)], np.float32)

    def _observe(self) -> dict[str, Any]:
        image = np.full((8, self.width, 3), self._grey(), np.uint8)
        return {CAMERA: image, STATE: np.asarray([self.place], np.float32), TASK: "go to <b>the middle</b>"}

    def _grey(self) -> int:
        return int(np.clip(128 + 50 * self.place, 0, 255))


class Stuck(Line):
    """The same line, whose expert never arrives."""

    def expert_action(self) -> np.ndarray:
        return np.asarray([np.sign(self.place)], np.float32)


class Wild(Line):
    """The same line without an expert."""

    expert_action = property()


class Diary(Line):
    """The same line, which writes where it has been, a line an episode, to a file of its own in the folder that the
    variable DIARY names. Without `tells` it does not say whether the episode succeeds.
    """

    action_names = ("x",)

    def __init__(self, render_mode: str | None = None, tells: bool = True) -> None:
        super().__init__(render_mode)
        self.tells, self.file = tells, Path(os.environ.get("DIARY", os.devnull))
        if self.file.is_dir():
            self.file = self.file / f"{os.getpid()}-{id(self)}"

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        *rest, info = super().step(action)
        return *rest, info if self.tells else {}  # type: ignore[return-value]

    def _observe(self) -> dict[str, Any]:
        with self.file.open("a") as diary:
            diary.write(f"{'' if self.steps else chr(10)}{np.float32(self.place)!s} ")
        return super()._observe()


class Breaks(Line):
    """The same line, which breaks down at a step: when `left` steps of all such lines were taken."""

    left = 10**9

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        Breaks.left -= 1
        if Breaks.left < 0:
            raise RuntimeError("the line broke")
        return super().step(action)


class Blurred(Line):
    """The same line, which does not know where it is from a given step on."""

    def __init__(self, since: int, spoilt: bool = False) -> None:
        super().__init__()
        self.since, self.spoilt = since, spoilt

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        *rest, info = super().step(action)
        return *rest, info | {"diverged": self.spoilt}  # type: ignore[return-value]

    def _observe(self) -> dict[str, Any]:
        lost = self.steps >= self.since
        return super()._observe() | ({STATE: np.array([np.nan], np.float32)} if lost else {})


class Faulty(Line):
    """The same line, where the episodes of some seeds go wrong.

    faults: by seed, the step (-1: the reset) and how: raise, kill, exit, hang, nan, wild, or paid too much.
    """

    def __init__(self, faults: dict[int | str, tuple[int, str]], render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.faults, self.seed = {int(seed): fault for seed, fault in faults.items()}, -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        self.seed = -1 if seed is None else seed
        if self._due(-1):
            self._fail()
        return super().reset(seed=seed)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if self._due(self.steps):
            self._fail()
        observation, reward, *ended, info = super().step(action)
        if self._due(self.steps - 1):
            how = self.faults[self.seed][1]
            observation[STATE][:] = {"nan": np.nan, "wild": 1e30}.get(how, observation[STATE])
            reward = 1e30 if how == "paid" else reward
        return observation, reward, *ended, info  # type: ignore[return-value]

    def _due(self, step: int) -> bool:
        return self.faults.get(self.seed, (None,))[0] == step

    def _fail(self) -> None:
        how = self.faults[self.seed][1]
        if how == "raise":
            raise OSError("the line broke")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            raise SystemExit("the line has had enough")
        if how == "hang":
            threading.Event().wait()


class Beacon(Line):
    """The same line, which touches the file that the variable BEACON names when it begins for no training."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        if seed is not None and seed not in LANE_SEEDS:
            Path(os.environ["BEACON"]).touch()
        return super().reset(seed=seed)


class Fatal(Line):
    """The same line, which ends its process at its third step."""

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if self.steps == 2:
            os._exit(5)
        return super().step(action)


class Known(Line):
    """The same line, which can tell where it stands, but not go on from the place None."""

    def snapshot(self) -> dict[str, Any]:
        rng = self.np_random.bit_generator.state
        return {"place": self.place, "steps": self.steps, "broken": self.broken, "rng": rng}

    def restore(self, snapshot: dict[str, Any]) -> None:
        if snapshot["place"] is None:
            raise ValueError("the line goes on from nowhere")
        self.place, self.steps, self.broken = (snapshot[name] for name in ("place", "steps", "broken"))
        self.np_random.bit_generator.state = snapshot["rng"]


class Costly(Line):
    """The same line, where a step costs 1 and as much as it goes, and burns two numbers of fuel; it pays at every step,
    for nothing."""

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        told = {"cost": 1 + abs(float(action[0])), "fuel": [1.0, float(self.steps)]}
        return observation, 0.1, terminated, truncated, info | told


class Caller(Costly):
    """The same line, which tells how often a tool was called so far, at every step, and what was lost."""

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        *rest, info = super().step(action)
        told = {"calls": self.steps, "regret": 0.5, "under_calls": float("nan")}
        return *rest, info | told  # type: ignore[return-value]


class Gamed(Line):
    """The same line, which also pays who is far to the right; that is no success."""

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        left = self.place > 0.5
        return observation, reward + left, terminated or left, truncated and not left, info


class Walker:
    """A deterministic actor in five bins: walks to the middle, or, with `lazy`, only from the right."""

    def __init__(self, lazy: bool = False) -> None:
        self.lazy = lazy
        self.batches: list[int] = []

    def __call__(self, observation: dict[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        place = observation[STATE][:, 0]
        self.batches.append(len(place))
        wanted = np.clip(-place / 0.25, -1, 0 if self.lazy else 1)
        return np.round((wanted[:, None] + 1) * 2).astype(np.int64), {"q": 1 - np.abs(place)}


def in_five_bins(env_id: str = LINE, **settings: Any) -> TokenEnv:
    """The line, or one like it, which takes tokens."""
    env = gymnasium.make(env_id, **settings)
    return TokenEnv(env, Binned(bins=5).bind(env.action_space))


def known_in_five_bins() -> TokenEnv:
    """A line that can tell where it stands."""
    return in_five_bins("fake/Known-v0")


for name in (Line, Stuck, Wild, Diary, Breaks, Faulty, Beacon, Fatal, Known, Costly, Caller, Gamed):
    if f"fake/{name.__name__}-v0" not in gymnasium.registry:
        gymnasium.register(f"fake/{name.__name__}-v0", entry_point=f"{__name__}:{name.__name__}")
