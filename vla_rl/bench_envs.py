"""How fast environments are, each against a bare loop over the same work in the same process, interleaved, medians."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Any

# `mujoco.Renderer` and other packages' environments ask for this before mujoco is first imported; ours do not.
os.environ.setdefault("MUJOCO_GL", "egl")

import gymnasium
import mujoco
import numpy as np

from vla_rl import config, envs, naming, paths, registry
from vla_rl.config import RunConfig
from vla_rl.envs import ObservationShape
from vla_rl.registry import ConfigError, SetupError
from vla_rl.specs import IMAGES

ROUNDS = 7
STEPS = 100
SCREENS = ("gui",)
"""The suites of screens, whose speed is a number of its own: there is nothing bare to hold it against."""
SMALL = 84
"""Width and height at which another package's rendering is compared."""
_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


@dataclass(frozen=True)
class Race:
    """Median seconds of one call of ours and of the bare loop's, and the median over rounds of bare / ours."""

    ours: float
    bare: float
    share: float


def race(ours: Callable[[], Any], bare: Callable[[], Any], repeats: int) -> Race:
    """Both in turn, `repeats` calls a round."""
    times = np.array([[seconds(bare, repeats), seconds(ours, repeats)] for _ in range(ROUNDS)])
    theirs, own = np.median(times, 0) / repeats
    return Race(float(own), float(theirs), float(np.median(times[:, 0] / times[:, 1])))


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """How long `repeats` calls take."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return time.perf_counter() - start


def bench_envs(names: Sequence[str] = (), as_json: bool = False) -> None:
    """Print the numbers of `measure_env` for environments: those named, or all that there are."""
    found = {}
    for name in names or all_names():
        try:
            found[name] = measure_env(config.load(naming.overrides_of([name]), command="bench"))
        except SetupError as error:
            found[name] = {"not_installed": str(error)}
        if not as_json:
            print(f"{name:28} {_line(found[name])}", flush=True)
    if as_json:
        print(json.dumps(found, indent=2))


def all_names() -> list[str]:
    """The configs of the group `env`, and our registered ids with a task that none of them is about."""
    envs.register_installed()
    named = list(paths.named_configs(paths.shipped("configs") / "env"))
    ids = {config.load([f"env={name}"], command="bench").env.id for name in named}
    ours = [name for name in registry.entries("envs") if name in gymnasium.registry and name != registry.ADAPTER]
    return named + [env_id for env_id in ours if env_id not in ids]


def measure_env(run: RunConfig) -> dict[str, Any]:
    """One environment's speed.

    `steps_per_s`: of the environment with its cameras, resets included; `gui_steps_per_s` where it is a drawn screen.
    `share`: of the steps/s of a loop of `mj_step` and `mujoco.Renderer` through an episode of its own model, with the
    same cameras; null without a MuJoCo model.
    `foreign_render_speedup`: another package's environment only; see there. An environment with a method `measure()`
    adds numbers of its own.

    Raises:
        SetupError: its package is not installed here.
    """
    env = envs.factory(run)()
    try:
        found = {"id": run.env.id, **_stepping(env)}
        if _suite(env) in SCREENS:
            found[f"{_suite(env)}_steps_per_s"] = found.pop("steps_per_s")
        world = getattr(env.unwrapped, "world", None)
        inner = getattr(world, "env", None)
        if isinstance(inner, gymnasium.Env) and inner.spec is not None and getattr(world, "model", None) is not None:
            found["foreign_render_speedup"] = _speedup_of_adapted(world, inner.spec.id)
        own: Callable[[], dict[str, float]] = getattr(env.unwrapped, "measure", dict)
        return found | own()
    finally:
        env.close()


def env_share(run: RunConfig) -> float:
    """The `share` of `measure_env`, of an environment with a MuJoCo model."""
    env = envs.factory(run)()
    try:
        return _stepping(env)["share"]
    finally:
        env.close()


def foreign_render_speedup(env: gymnasium.Env, draw: Callable[[], np.ndarray], repeats: int = 20) -> float:
    """How many times faster `draw` is than the `render()` of another package's environment.

    Args:
        env: made with `render_mode="rgb_array"`, and reset.
        draw: our picture of the same scene, of the same size.

    Raises:
        ConfigError: the two pictures differ in shape, so that they cannot be compared; or the environment does not
            draw what it drew before, once we have drawn.
    """
    name = envs.name_of(env)
    first: Any = env.render()
    theirs, ours = np.shape(first), np.shape(draw())
    if theirs != ours:
        raise ConfigError(f"render: {name} draws {theirs}, but we draw {ours}")
    viewer = getattr(getattr(env.unwrapped, "mujoco_renderer", None), "viewer", None)

    def foreign() -> Any:
        # Gymnasium's viewer draws into whatever OpenGL context is current, which ours is now.
        if viewer is not None:
            viewer.make_context_current()
        return env.render()

    if np.abs(np.subtract(first, foreign(), dtype=np.float64)).mean() > 1:
        raise ConfigError(f"render: {name} draws something else once another renderer has drawn")
    return race(draw, foreign, repeats).share


def _speedup_of_adapted(world: Any, env_id: str) -> float | None:
    """Against the environment as its own package makes it, with its own camera; null where it cannot be so small."""

    def draw() -> np.ndarray:
        world.show(world.observation, begins=False)  # as after a step
        return world.render(world.cameras[0], SMALL, SMALL)

    with suppress(TypeError, ConfigError):
        plain = gymnasium.make(env_id, **{**world.kwargs, "render_mode": "rgb_array", "width": SMALL, "height": SMALL})
        try:
            plain.reset(seed=0)
            return foreign_render_speedup(plain, draw)
        finally:
            plain.close()
    return None


def _suite(env: gymnasium.Env) -> str:
    """The part of our simulators that an environment comes from; "" for one that is not ours."""
    package, _, rest = str(env.spec.entry_point if env.spec else "").partition(".")
    return rest.partition(".")[0] if package == "sims" else ""


def _stepping(env: gymnasium.Env) -> dict[str, float]:
    """Steps a second, and the share of a bare loop's."""
    env.action_space.seed(0)
    actions = cycle([env.action_space.sample() for _ in range(64)])
    env.reset(seed=0)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()

    world: Any = getattr(env.unwrapped, "world", None)
    if getattr(world, "model", None) is None:
        return {"steps_per_s": STEPS / float(np.median([seconds(step, STEPS) for _ in range(ROUNDS)]))}
    bare = _Bare(env, world, actions)
    try:
        outcome = race(step, bare.step, STEPS)
    finally:
        bare.close()
    return {"steps_per_s": 1 / outcome.ours, "share": outcome.share}


class _Bare:
    """An episode of random actions over again, as bare physics and pictures: the controls are those it was told."""

    def __init__(self, env: gymnasium.Env, world: Any, actions: Any) -> None:
        images = ObservationShape.of(env.observation_space).images
        self._cameras = [(world.camera_id(key.removeprefix(IMAGES)), shape[:2]) for key, shape in images.items()]
        self._substeps = _substeps(env, world)
        self._start = np.empty(mujoco.mj_stateSize(world.model, _STATE))
        mujoco.mj_getState(world.model, world.data, self._start, _STATE)
        self._model = copy.copy(world.model)
        self._model.vis.quality.offsamples = self._model.vis.quality.shadowsize = 0  # as our own scenes are drawn
        self._controls, ended = [], False
        while not ended:
            _, _, terminated, truncated, _ = env.step(next(actions))
            self._controls.append(world.data.ctrl.copy())
            ended = terminated or truncated
        env.reset()
        self._data, self._steps = mujoco.MjData(self._model), 0
        sizes = {size for _, size in self._cameras}
        self._renderers = {size: mujoco.Renderer(self._model, *size) for size in sizes}

    def step(self) -> None:
        if self._steps % len(self._controls) == 0:
            mujoco.mj_setState(self._model, self._data, self._start, _STATE)
        self._data.ctrl[:] = self._controls[self._steps % len(self._controls)]
        self._steps += 1
        mujoco.mj_step(self._model, self._data, self._substeps)
        for camera, size in self._cameras:
            self._renderers[size].update_scene(self._data, camera)
            self._renderers[size].render()

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()


def _substeps(env: gymnasium.Env, world: Any) -> int:
    """Physics steps of one step: what another package's environment says, else what the frame rate means."""
    inner = getattr(world, "env", env).unwrapped
    said = getattr(inner, "frame_skip", None) or getattr(inner, "n_substeps", None)
    return int(said or round(1.0 / env.metadata["render_fps"] / world.model.opt.timestep))


def _line(found: dict[str, Any]) -> str:
    return "  ".join(f"{key} {value:.3g}" if isinstance(value, float) else str(value) for key, value in found.items())
