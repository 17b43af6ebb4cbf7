"""How fast environments are, each against a bare loop over the same work in the same process, interleaved, medians."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import Any

# `mujoco.Renderer` and other packages' environments ask for this before mujoco is first imported; ours do not.
os.environ.setdefault("MUJOCO_GL", "egl")

import gymnasium
import mujoco
import numpy as np
from gymnasium.vector.utils import batch_space

from vla_rl import config, envs, paths, registry
from vla_rl.config import RunConfig, catalog
from vla_rl.envs import ObservationShape, shorthand
from vla_rl.envs.vector import VectorEnvs, spare_cores
from vla_rl.registry import ConfigError, SetupError
from vla_rl.specs import IMAGES

ROUNDS = 7
STEPS = 100
RACE_STEPS = 400
"""Steps of a round against the bare loop: of so many episodes that none of them counts for much."""
PER_WORKER, WORKER_STEPS = 16, 960
"""Environments of a worker process, and the steps that they take together in a round."""
RECORDED = 960
"""Steps at least of the episodes that the bare loop plays."""
HEADLINE = "reach"
SCREENS = ("gui",)
"""The suites of screens, whose speed is a number of its own: there is nothing bare to hold it against."""
SMALL = 84
"""Width and height at which another package's rendering is compared."""
_PLACED = ("body_", "cam_", "dof_", "eq_", "geom_", "jnt_", "light_", "qpos", "site_")
"""How the names begin of the arrays of a model that an environment may change at a reset."""
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
    """Print the numbers of `measure_env` for environments: those named, or all that there are.

    Words with a "=" are overrides of every environment's config, such as `plugins=[my_world]`.
    As JSON, `actors_share` stands on top too: that of the quick-start's environment, or of the first one that has it.
    """
    found: dict[str, dict[str, Any]] = {}
    overrides = [word for word in names if "=" in word]
    for name in [word for word in names if "=" not in word] or all_names():
        try:
            found[name] = measure_env(config.load(shorthand.overrides_of([*overrides, name]), command="bench"))
        except SetupError as error:
            found[name] = {"not_installed": str(error)}
        if not as_json:
            print(f"{name:28} {_line(found[name])}", flush=True)
    if as_json:
        shares = [each["actors_share"] for each in found.values() if "actors_share" in each]
        summary = {"actors_share": found.get(HEADLINE, {}).get("actors_share", shares[0])} if shares else {}
        print(json.dumps(summary | found, indent=2))


def all_names() -> list[str]:
    """The configs of the group `env`, and our registered ids with a task that none of them is about."""
    envs.register_installed()
    files = paths.named_configs(paths.shipped("configs") / "env")
    ids = {
        each["name"]: each["id"] for each in catalog.describe_group("envs") if each["name"] in files and "id" in each
    }
    ours = [name for name in registry.entries("envs") if name in gymnasium.registry and name != registry.ADAPTER]
    return [*ids, *(env_id for env_id in ours if env_id not in ids.values())]


def measure_env(run: RunConfig) -> dict[str, Any]:
    """One environment's speed.

    `steps_per_s`: of the environment with its cameras, resets included; `gui_steps_per_s` where it is a drawn screen.
    `share`: of the steps/s of a loop of `mj_step` and `mujoco.Renderer` through an episode of its own model, with the
    same cameras; absent without a MuJoCo model. `actors_steps_per_s`, `actors_share`: see `actors`; likewise.
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
        simulated = _is_simulated(env)
        if isinstance(inner, gymnasium.Env) and inner.spec is not None and simulated:
            found["foreign_render_speedup"] = _speedup_of_adapted(world, inner.spec.id)
        own: Callable[[], dict[str, float]] = getattr(env.unwrapped, "measure", dict)
        found |= own()
    finally:
        env.close()
    return found | (actors(run) if simulated else {})


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

    if not _is_simulated(env):
        return {"steps_per_s": STEPS / float(np.median([seconds(step, STEPS) for _ in range(ROUNDS)]))}
    bare = _Bare(env, actions, RECORDED)
    try:
        outcome = race(step, bare.step, RACE_STEPS)
    finally:
        bare.close()
    return {"steps_per_s": 1 / outcome.ours, "share": outcome.share}


def _is_simulated(env: gymnasium.Env) -> bool:
    """Whether it has a model of MuJoCo, which can be stepped bare."""
    return getattr(getattr(env.unwrapped, "world", None), "model", None) is not None


@dataclass(frozen=True)
class _Episode:
    """How an episode began, the model's arrays that were not as the bare loop's model has them, and what was told."""

    start: np.ndarray
    changed: dict[str, np.ndarray]
    controls: list[np.ndarray]


class _Bare:
    """Episodes of random actions over again, as bare physics and pictures: the controls are those it was told.

    recorded: steps of them. With many they are as hard to draw, and touch as often, as any: one episode may take half
    as long as another.
    """

    def __init__(self, env: gymnasium.Env, actions: Iterator[Any], recorded: int) -> None:
        world: Any = env.unwrapped.world  # type: ignore[attr-defined]
        images = ObservationShape.of(env.observation_space).images
        self._cameras = [(world.camera_id(key.removeprefix(IMAGES)), shape[:2]) for key, shape in images.items()]
        self._substeps = _substeps(env, world)
        self._model = copy.copy(world.model)
        quality, buffer = self._model.vis.quality, self._model.vis.global_
        quality.offsamples = quality.shadowsize = 0  # as our own scenes are drawn
        sizes = {size for _, size in self._cameras}
        buffer.offheight, buffer.offwidth = map(max, zip(*sizes, strict=True))
        first, episodes = _arrays(self._model), list[_Episode]()
        while sum(len(each.controls) for each in episodes) < recorded:
            episodes.append(_recorded(env, world, actions, first))
        unsteady = {name: first[name] for each in episodes for name in each.changed}
        self._steps = self._endless([replace(each, changed=unsteady | each.changed) for each in episodes])
        self._data = mujoco.MjData(self._model)
        self._renderers = {size: mujoco.Renderer(self._model, *size) for size in sizes}

    def step(self) -> None:
        next(self._steps)

    def _endless(self, episodes: list[_Episode]) -> Iterator[None]:
        for episode in cycle(episodes):
            for name, value in episode.changed.items():
                getattr(self._model, name)[:] = value
            mujoco.mj_setState(self._model, self._data, episode.start, _STATE)
            for controls in episode.controls:
                self._data.ctrl[:] = controls
                mujoco.mj_step(self._model, self._data, self._substeps)
                for camera, size in self._cameras:
                    self._renderers[size].update_scene(self._data, camera)
                    self._renderers[size].render()
                yield

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()


def _recorded(env: gymnasium.Env, world: Any, actions: Iterator[Any], first: dict[str, np.ndarray]) -> _Episode:
    """A whole episode; `first` are the arrays of the bare loop's model."""
    observation, _ = env.reset()
    start = np.empty(mujoco.mj_stateSize(world.model, _STATE))
    mujoco.mj_getState(world.model, world.data, start, _STATE)
    changed = {name: value for name, value in _arrays(world.model).items() if not np.array_equal(value, first[name])}
    controls = [world.data.ctrl.copy() for _ in envs.steps(env, lambda seen: next(actions), observation)]
    return _Episode(start, changed, controls)


def _arrays(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """Copies of what can differ from episode to episode in a model."""
    found = {name: getattr(model, name) for name in dir(model) if name.startswith(_PLACED)}
    return {name: value.copy() for name, value in found.items() if isinstance(value, np.ndarray) and value.size}


class BareLoop(gymnasium.Env):
    """The bare loop of a run's environment as an environment: a step is so many of its steps, and shows nothing."""

    def __init__(self, run: RunConfig, steps: int, recorded: int) -> None:
        self._steps = steps
        self.observation_space = gymnasium.spaces.Dict({})
        self.action_space = gymnasium.spaces.Discrete(1)
        env = envs.factory(run)()
        env.reset(seed=0)
        env.action_space.seed(0)
        self._bare = _Bare(env, cycle([env.action_space.sample() for _ in range(64)]), recorded)
        env.close()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        return {}, {}

    def step(self, action: Any) -> tuple[dict, float, bool, bool, dict]:
        for _ in range(self._steps):
            self._bare.step()
        return {}, 0.0, False, False, {}

    def close(self) -> None:
        self._bare.close()


class _Actors:
    """A run's environments in worker processes, without a policy: random actions, two groups in turn."""

    def __init__(self, run: RunConfig, workers: int) -> None:
        self._envs = VectorEnvs(envs.factory(run), PER_WORKER * workers, workers)
        lanes = self._envs.count
        self._halves = [slice(0, lanes // 2), slice(lanes // 2, lanes)]
        space = batch_space(self._envs.action_space, lanes // 2)
        space.seed(0)
        self._actions = cycle([space.sample() for _ in range(64)])
        self._envs.reset(seed=0)
        self._over = [np.zeros(lanes // 2, bool)] * 2

    def rate(self, turns: int) -> float:
        """Steps a second, those that reset an episode left out; all rest before and after."""
        steps, start = 0, time.perf_counter()
        for half in self._halves:
            self._envs.send(next(self._actions), half)
        for turn in range(turns):
            for i, half in enumerate(self._halves):
                found = self._envs.receive()
                if turn + 1 < turns:
                    self._envs.send(next(self._actions), half)
                steps += int((~self._over[i]).sum())
                self._over[i] = (found.terminated | found.truncated) & ~self._over[i]
        return steps / (time.perf_counter() - start)

    def close(self) -> None:
        self._envs.close()


def actors(run: RunConfig) -> dict[str, float]:
    """Stepping the run's environments in a worker for each core, `PER_WORKER` in each.

    `actors_steps_per_s`: of all together. `actors_share`: over the sum of as many bare loops, in as many processes at
    once; both in turn, the median of the rounds.
    """
    workers = spare_cores() + 1
    bare, ours = VectorEnvs(partial(BareLoop, run, WORKER_STEPS, RECORDED), workers, workers), _Actors(run, workers)
    try:
        bare.reset(seed=0)
        nothing = np.zeros(workers, np.int64)
        turns = max(WORKER_STEPS // PER_WORKER, 1)
        work = partial(bare.step, nothing)
        rates = [(ours.rate(turns), workers * WORKER_STEPS / seconds(work, 1)) for _ in range(ROUNDS + 1)]
        rate, sums = np.array(rates[1:]).T  # the first round warms up
        return {"actors_steps_per_s": float(np.median(rate)), "actors_share": float(np.median(rate / sums))}
    finally:
        bare.close()
        ours.close()


def _substeps(env: gymnasium.Env, world: Any) -> int:
    """Physics steps of one step: what another package's environment says, else what the frame rate means."""
    inner = getattr(world, "env", env).unwrapped
    said = getattr(inner, "frame_skip", None) or getattr(inner, "n_substeps", None)
    return int(said or round(1.0 / env.metadata["render_fps"] / world.model.opt.timestep))


def _line(found: dict[str, Any]) -> str:
    return "  ".join(f"{key} {value:.3g}" if isinstance(value, float) else str(value) for key, value in found.items())
