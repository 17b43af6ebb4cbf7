"""Environments by Gymnasium id: made, looked at, and what they say of a step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from vla_rl import registry
from vla_rl.actions.command import Commands
from vla_rl.registry import ConfigError
from vla_rl.specs import COST, IMAGES, LARGEST, STATE, TALLIES, TASK, Mark

if TYPE_CHECKING:
    from vla_rl.config import RunConfig

SUCCESS = ("is_success", "success")
"""The words of an `info` that tell of success; the first one that is there counts."""
SPOILT = ("invalid", "diverged")
"""Those that tell that an episode tells nothing of who acted in it: its world broke, or its physics."""


FAR = 1000.0
"""So many times as wide as its space may a number lie outside of it, which many environments state too narrowly."""


@dataclass(frozen=True)
class ObservationShape:
    """What the observations of an environment hold: cameras by key, and the length of the state."""

    images: dict[str, tuple[int, ...]]
    state: int

    @classmethod
    def of(cls, space: gymnasium.Space) -> ObservationShape:
        """Raises ValueError where the space is not a Dict of at least one camera and an instruction."""
        if not isinstance(space, gymnasium.spaces.Dict):
            raise ValueError(f"expected a Dict observation space, got {space}")
        images = {key: tuple(part.shape or ()) for key, part in space.items() if key.startswith(IMAGES)}
        for key, wanted in ((f"{IMAGES}<camera>", bool(images)), (TASK, TASK in space.spaces)):
            if not wanted:
                raise ValueError(f"the policy needs {key!r} among the observations, got {list(space.keys())}")
        state = space[STATE].shape if STATE in space.spaces else (0,)
        return cls(images=images, state=int(np.prod(state or (0,))))


@dataclass(frozen=True)
class Past:
    """How many episodes a run has had, which decides what a world that shifts in mid-run is like.

    stride: how many more each further episode of one environment makes: as many as the run has environments, or 0
    where the world is to stay as it is, as in an evaluation.
    """

    episodes: int = 0
    stride: int = 0


def marks(env: gymnasium.Env) -> tuple[Mark, ...]:
    """The places that the state tells of; an environment that has such sensors says them as its `marks`."""
    return tuple(env.get_wrapper_attr("marks")) if env.has_wrapper_attr("marks") else ()


def shifts(env: gymnasium.Env) -> bool:
    """Whether its world becomes another in mid-run; see `Past`."""
    return bool(env.has_wrapper_attr("shifts") and env.get_wrapper_attr("shifts"))


def possible_returns(env: gymnasium.Env, gamma: float, stride: int = 1, limited: bool = True) -> tuple[float, float]:
    """The least and the greatest discounted return from any step on, as far as `env` says; else without bounds.

    An environment that knows it has it as `return_range`. Another's follows from its `reward_range`, of one step, and
    from its limit of steps.

    Args:
        env: the environment. gamma: discount of one decision.
        stride: steps of a decision.
        limited: whether nothing counts as following the limit of steps.
    """
    if env.has_wrapper_attr("return_range"):
        least, most = env.get_wrapper_attr("return_range")
        return float(least), float(most)
    least, most = env.get_wrapper_attr("reward_range") if env.has_wrapper_attr("reward_range") else (-np.inf, np.inf)
    limit = env.spec.max_episode_steps if env.spec and limited else None
    decisions = np.inf if limit is None else -(-limit // stride)
    whole = decisions if gamma == 1 else (1 - gamma**decisions) / (1 - gamma)
    # An episode may end at once, or go on as long as it may.
    return stride * min(least, least * whole), stride * max(most, most * whole)


def register_installed() -> None:
    """Let every installed package register its environments (entry points `gymnasium.envs`).

    Gymnasium before 1.0 did this on import; now whoever knows only an id has to.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some register once more what their import has registered
        for point in entry_points(group="gymnasium.envs"):
            point.load()()


def make_env(
    env_id: str,
    sensors: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
    render_mode: str | None = None,
    adapter: Mapping[str, Any] | None = None,
    past: Past | None = None,
) -> gymnasium.Env:
    """The environment `env_id` with these sensors; its actions are its own.

    With `adapter`, it is another package's environment, shown as those settings say. The `plugins` are imported, as
    the process that makes it may be another than the one that read the config. A world that shifts in mid-run (it
    has a method `continue_after(episodes, stride)`) goes on from `past`; None: it counts its own episodes.

    Raises:
        ConfigError: no such id (the nearest one is named), or settings that it does not take.
        SetupError: its package is not installed.
    """
    registry.import_listed(plugins)
    options = dict(kwargs or {})
    twice = sorted({"sensors", "plugins"} & options.keys()) if sensors is not None and adapter is None else []
    if twice or ("render_mode" in options and adapter is None):
        name = twice[0] if twice else "render_mode"
        where = {"sensors": "env.sensors", "plugins": "the run's `plugins`"}.get(name, "the command")
        raise ConfigError(f"env.kwargs.{name}: {where} says that; leave it out of env.kwargs")
    if adapter is not None:
        options = {"env_id": env_id, "env_kwargs": options, **adapter}
        env_id = registry.ADAPTER
    if sensors is not None:
        options |= {"sensors": list(sensors), "plugins": tuple(plugins)}
    if env_id not in gymnasium.registry:
        register_installed()
    if env_id not in gymnasium.registry:
        raise ConfigError(
            f"env.id: no environment {env_id!r} is registered; {registry.nearest(env_id, gymnasium.registry)} "
            "(One of your own: list the module that registers it in `plugins`.)"
        )
    try:
        env = gymnasium.make(env_id, render_mode=render_mode, disable_env_checker=True, **options)
    except ConfigError:
        raise
    except TypeError as error:
        said = str(error).partition(" was raised from the environment creator")[0]
        hint = "; env.sensors=null for an environment that shows its own observations" if "'sensors'" in said else ""
        raise ConfigError(f"env.kwargs: {env_id} does not take these settings: {said}{hint}") from error
    except ValueError as error:
        raise ConfigError(f"env: {error}") from error
    if past is not None and env.has_wrapper_attr("continue_after"):
        env.get_wrapper_attr("continue_after")(past.episodes, past.stride)
    return env


def name_of(env: gymnasium.Env) -> str:
    """Its Gymnasium id, of an adapted one the id of the environment within; and its task, where an id has several."""
    known = env.spec.id if env.spec else type(env.unwrapped).__name__
    kwargs = env.spec.kwargs if env.spec else {}
    if known == registry.ADAPTER:
        known, kwargs = env.unwrapped.env_id, kwargs["env_kwargs"]  # type: ignore[attr-defined]
    return f"{known} {registry.task_named(known, kwargs)}".rstrip()


def factory(run: RunConfig, render_mode: str | None = None, past: Past | None = None) -> partial[gymnasium.Env]:
    """A picklable maker of the run's environment, with its own actions."""
    return partial(
        make_env,
        env_id=run.env.id,
        sensors=run.env.sized(run.plugins),
        kwargs=run.env.kwargs,
        adapter=run.env.adapter,
        plugins=tuple(run.plugins),
        render_mode=render_mode,
        past=past,
    )


def still(space: gymnasium.Space) -> Any:
    """What comes nearest to doing nothing: the middle of a Box (0 where it has no end), else the first choice.

    Of commands it is the first kind, which is `wait` on screens.
    """
    spaces = gymnasium.spaces
    if isinstance(space, Commands) and not space.takes[space.kinds[0]]:
        return space.command(space.kinds[0])
    if isinstance(space, spaces.Box):
        with np.errstate(invalid="ignore", over="ignore"):
            middle = (space.low.astype(np.float64) + space.high) / 2
        ends = np.isfinite(space.low) & np.isfinite(space.high)
        return np.where(ends, middle, np.clip(0.0, space.low, space.high)).astype(space.dtype)
    if isinstance(space, spaces.Discrete):
        return space.dtype.type(space.start)
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        return np.zeros(space.shape, space.dtype) + getattr(space, "start", 0)
    if isinstance(space, spaces.Dict):
        return {key: still(part) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(still(part) for part in space)
    if isinstance(space, spaces.OneOf):
        return 0, still(space[0])
    return space.sample()


def batched(observation: Mapping[str, Any]) -> dict[str, Any]:
    """One observation as a batch of one."""
    return {key: [value] if isinstance(value, str) else np.asarray(value)[None] for key, value in observation.items()}


def spoilt(info: Mapping[str, Any]) -> bool:
    """Whether an episode tells nothing of who acted in it; see `SPOILT`."""
    return any(info.get(word) for word in SPOILT)


def succeeded(info: Mapping[str, Any]) -> bool:
    """Whether an episode ended in success: `is_success`, or `success` as some environments call it, is above 0.

    What is absent, None or NaN is no success.

    Raises:
        ValueError: what is said is no number or truth value, nor an array of one.
    """
    key = next((key for key in SUCCESS if info.get(key) is not None), None)
    if key is None:
        return False
    said = np.asarray(info[key])
    if said.size != 1 or said.dtype.kind not in "biuf":
        raise ValueError(f"info[{key!r}]: expected True or False, got {info[key]!r}")
    return bool(said.item() > 0)


def earned(reward: Any, info: Mapping[str, Any]) -> float:
    """A step's reward as a number; 0 where it is not finite because the environment spoilt the step.

    Raises:
        ValueError: no finite number, nor an array of one; or one beyond `LARGEST`.
    """
    if isinstance(reward, float | int) and -LARGEST <= reward <= LARGEST:
        return float(reward)
    number = np.asarray(reward)
    if number.size == 1 and number.dtype.kind in "biuf":
        if (np.abs(number) <= LARGEST).all():
            return float(number.item())
        if spoilt(info):
            return 0.0
    raise ValueError(f"reward: expected one finite number, got {reward!r}; none may be larger than {LARGEST:g}")


def spent(info: Mapping[str, Any]) -> float:
    """What a step cost, by `info["cost"]`; 0 where nothing is said, or where the environment spoilt the step.

    Raises:
        ValueError: no finite number, nor an array of one.
    """
    said = info.get(COST)
    if said is None:
        return 0.0
    try:
        return earned(said, info)
    except ValueError as error:
        raise ValueError(f"info[{COST!r}]: {str(error).removeprefix('reward: ')}") from error


def tallied(info: Mapping[str, Any]) -> dict[str, float]:
    """What an `info` tells of its episode so far, see `specs.TALLIES`; what is no finite number is left out."""
    told = {name: info[name] for name in TALLIES if isinstance(info.get(name), int | float | np.number)}
    return {name: float(value) for name, value in told.items() if math.isfinite(value)}


def check_finite(key: str, value: np.ndarray) -> None:
    """Raises ValueError, naming the observation's `key` and the entry, where a number of `value` is not finite."""
    if value.dtype.kind != "f":
        return
    flat = value.ravel()
    if math.isfinite(flat.dot(flat)):  # a quarter of the time of asking each; it may overflow, so ask if it is not
        return
    if not np.isfinite(value).all():
        entry = tuple(map(int, np.argwhere(~np.isfinite(value))[0]))
        raise ValueError(f"{key}: entry {list(entry)} is {value[entry]}; every number must be finite")


@dataclass(frozen=True)
class Bounds:
    """What numbers of an observation are believed: those that lie within their space, or not far outside.

    key: of the observation. lowest, highest: as the space's shape. surely: where no number is larger in size, all are
    believed; below 0 where that is not known.
    """

    key: str
    lowest: np.ndarray
    highest: np.ndarray
    surely: float

    @classmethod
    def of(cls, key: str, space: gymnasium.spaces.Box) -> Bounds:
        """Of the numbers of a space; those without an end may be as large as `LARGEST`."""
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        ends = np.isfinite(low) & np.isfinite(high)
        far = np.where(ends, FAR * (high - low), np.inf)
        with np.errstate(over="ignore"):  # LARGEST itself is beyond float16
            lowest = np.clip(low - far, -LARGEST, LARGEST).astype(space.dtype)
            highest = np.clip(high + far, -LARGEST, LARGEST).astype(space.dtype)
        return cls(key, lowest, highest, float(np.minimum(-lowest, highest).min(initial=LARGEST)))

    def check(self, value: np.ndarray) -> None:
        """Raises ValueError, naming the entry, where a number of `value` is not finite, or not believed."""
        flat = value.ravel()
        # A sixth of the time of asking each number; no number is larger in size than the root of the sum of squares.
        with np.errstate(over="ignore"):
            if self.surely > 0 and flat.dot(flat) <= self.surely**2:
                return
        fits = (self.lowest <= value) & (value <= self.highest)
        if fits.all():
            return
        entry = tuple(map(int, np.argwhere(~fits)[0]))
        why = "far outside its space" if np.isfinite(value[entry]) else "every number must be finite"
        raise ValueError(f"{self.key}: entry {list(entry)} is {value[entry]}; {why}")
