"""The Gymnasium environment that shows another package's as one of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from sims.adapters import goals, suites
from sims.adapters.sensors import entries
from sims.adapters.settings import Adapter, fill
from sims.adapters.world import ForeignWorld
from sims.observe import Observer
from vla_rl import registry
from vla_rl.actions.expert import expert_action, without_expert
from vla_rl.registry import ConfigError, SetupError, nearest
from vla_rl.specs import Observation

VIEW_SIZE = 256
"""Width and height of what `render` shows of a MuJoCo model."""


class AdaptedEnv(gymnasium.Env):
    """Another package's environment: its actions and physics, our observations, reward and success.

    The observations are what the sensors read (a `Dict`). The reward is 1 at success and 0 else, unless the
    settings ask for the environment's own; `info["is_success"]` is always there; the rest of `info` is the
    environment's. Its own end of an episode ends ours.

    Args:
        env_id: a Gymnasium id.
        sensors: what to observe: names, mappings with `type`, or sensors.
        env_kwargs: for `gymnasium.make(env_id)`; `max_episode_steps` is one.
        plugins: modules that `settings` and `sensors` may name.
        render_mode: "rgb_array" or None.
        settings: fields of `Adapter`.

    Raises:
        ConfigError: an id, setting, sensor or camera that does not exist or does not fit.
        SetupError: the environment's package is not installed.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (Gymnasium's)

    def __init__(
        self,
        env_id: str,
        sensors: Sequence[Any],
        env_kwargs: Mapping[str, Any] | None = None,
        plugins: Sequence[str] = (),
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        self.settings: Adapter = registry.validated(Adapter, settings, "env.adapter")
        self._threshold = self.settings.threshold()
        expert = self.settings.expert
        self._expert = expert and registry.build("experts", expert, plugins, "env.adapter.expert")
        if self.settings.suite is not None:
            suites.load(self.settings.suite, plugins)
        env = make(env_id, env_kwargs or {})
        try:
            self._open(env, env_kwargs or {}, sensors, plugins)
        except Exception:
            env.close()
            raise
        self.env_id = env_id
        self.render_mode = render_mode
        self.action_space = env.action_space
        self.metadata = self.metadata | {"render_fps": env.metadata.get("render_fps", 30)}
        if self.settings.reward == "success":
            self.reward_range = (0.0, 1.0)
            if self.settings.terminate:
                self.return_range = (0.0, 1.0)
        elif env.has_wrapper_attr("reward_range"):
            self.reward_range = env.get_wrapper_attr("reward_range")
        self._steps: int | None = None

    def _open(
        self, env: gymnasium.Env, kwargs: Mapping[str, Any], sensors: Sequence[Any], plugins: Sequence[str]
    ) -> None:
        """Look at a first episode, so that sensors can tell what they will read."""
        self.env = env
        goals.by_seed(env, kwargs)
        self.world = ForeignWorld(env, kwargs, self.settings.views())
        if self.settings.view is not None:
            self.world.camera_id(self.settings.view)
        self._view = self.settings.view or next(iter(self.world.cameras), None)
        self._begin(None, None)
        try:
            self._observer = Observer(sensors, self.world, plugins)
            self._observer.begin(self.world, np.random.default_rng(0))
            self._observer.read(self.world)  # holds every sensor against what it states
        except AttributeError as error:
            raise ConfigError(f"sensors: one of them reads what {env.unwrapped} does not show: {error}") from error
        self.observation_space = self._observer.space()
        self.marks = self._observer.marks

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode. `options` are the environment's."""
        super().reset(seed=seed)
        info = self._begin(seed, options)
        self._steps = 0
        self._observer.begin(self.world, self.np_random)
        return self._observer.read(self.world), {**info, "is_success": False, "episode_steps": 0}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act, as the environment understands it.

        `info["diverged"]` is there where MuJoCo's physics broke down; the episode is then truncated.

        Raises:
            ValueError: an action of another shape, or not finite.
        """
        if self._steps is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        observation, reward, terminated, truncated, info = self.env.step(self._checked(action))
        self._steps += 1
        self.world.show(observation, begins=False)
        diverged = self.world.diverged
        success = self._succeeded(info, terminated or truncated) and not diverged
        earned = float(success) if self.settings.reward == "success" else float(reward)
        terminated = (bool(terminated) and not diverged) or (success and self.settings.terminate)
        truncated = not terminated and (bool(truncated) or diverged)
        said = {**info, "is_success": success, "episode_steps": self._steps} | ({"diverged": True} if diverged else {})
        return self._observer.read(self.world, diverged), earned, terminated, truncated, said

    def render(self) -> np.ndarray | None:
        """A picture uint8 [height, width, 3] where the render mode is "rgb_array"."""
        if self.render_mode != "rgb_array":
            return None
        if self._view is None:
            return self.world.own_picture()
        return self.world.render(self._view, VIEW_SIZE, VIEW_SIZE)

    def expert_action(self) -> Any:
        """What the scripted expert would do now: the one of the settings, or the environment's own.

        Raises:
            ConfigError: there is neither.
        """
        if self._expert is not None:
            return self._expert.action(self.world)
        why = without_expert(self.env)
        if why:
            raise ConfigError(
                f"env.adapter.expert: null, and of {self.env_id} itself, {why}; name one, or train from reward alone "
                "(demos.episodes=0)"
            )
        return expert_action(self.env)

    def close(self) -> None:
        """Close the environment, and free the pictures' buffers."""
        self.world.close()
        self.env.close()

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> dict[str, Any]:
        """Reset the environment, and say what is to be done."""
        by_hand = getattr(self.env.unwrapped, "seed", None)
        if seed is not None and callable(by_hand):  # as before Gymnasium; Meta-World heeds nothing else
            by_hand(seed)
        observation, info = self.env.reset(seed=seed, options=options)
        self.world.show(observation, begins=True)
        shown = entries(observation) if isinstance(observation, Mapping | tuple) else {}
        self.world.instruction = fill(self.settings.instruction, {**self.world.kwargs, **shown, **info})
        if not self.world.instruction:
            raise ConfigError(f"env.adapter.instruction: {self.settings.instruction!r} is empty in this episode")
        return info

    def _succeeded(self, info: Mapping[str, Any], ends: bool) -> bool:
        """Whether `info` tells of success. Raises ConfigError where the last step of an episode does not tell."""
        if self.settings.success is None:
            return False
        keys = self.settings.success_keys
        key = next((key for key in keys if key in info), None)
        if key is not None:
            said = info[key]
            return self._threshold.holds(said) if self._threshold else said is not None and bool(said > 0)
        if not ends or (isinstance(self.settings.success, str) and self.settings.success != "auto"):
            return False  # some tell only at the end, or, as the config knows by name, only of success
        raise ConfigError(
            f"env.adapter.success: the info of {self.env_id} has no {' or '.join(map(repr, keys))}; "
            f"{nearest(keys[0], info)}. Name its key, give {{key, above}} or {{key, below}} for a number, "
            "or set success: null and reward: dense"
        )

    def _checked(self, action: Any) -> Any:
        """The action in its space's type, within its bounds."""
        space = self.action_space
        if not isinstance(space, gymnasium.spaces.Box):
            return action
        values = np.asarray(action, space.dtype)
        if values.shape != space.shape or not np.isfinite(values).all():
            raise ValueError(f"an action is {space.shape} finite numbers, got {action!r}")
        return np.clip(values, space.low, space.high)


def make(env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env:
    """The environment itself, ready to draw where it can.

    Raises:
        ConfigError: Gymnasium knows no such id, or the environment does not take these settings.
        SetupError: it lacks a package.
    """
    if env_id not in gymnasium.registry:
        raise ConfigError(
            f"env.id: no environment {env_id!r} is registered; {nearest(env_id, gymnasium.registry)} "
            "(env.adapter.suite names the package that registers it)"
        )
    if gymnasium.registry[env_id].entry_point is None:
        raise ConfigError(f"env.id: {env_id} makes vectors of environments only, and single ones are needed")
    try:
        return gymnasium.make(env_id, **{"render_mode": "rgb_array", "disable_env_checker": True, **kwargs})
    except TypeError as error:
        raise ConfigError(f"env.kwargs: {env_id} does not take these settings: {error}") from error
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise SetupError(f"env.id: {env_id} lacks a package: {error}") from error
    except (gymnasium.error.Error, ValueError) as error:
        raise ConfigError(f"env.id: {env_id} cannot be made: {error}") from error
