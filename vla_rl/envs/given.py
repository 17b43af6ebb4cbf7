"""A vector environment of Gymnasium's that somebody else made, as the trainer sees environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from vla_rl.actions import horizon
from vla_rl.envs.make import Bounds, ObservationShape, earned, spoilt
from vla_rl.envs.spec import EnvSpec
from vla_rl.envs.token_env import bind_tokens
from vla_rl.envs.vector import Lanes, Steps
from vla_rl.registry import ConfigError
from vla_rl.specs import TASK, ActionSpace

if TYPE_CHECKING:
    from vla_rl.config import RunConfig

OF_VECTORS = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers")
"""What `gymnasium.make_vec` keeps among the settings of one environment."""


def taking(run: RunConfig, given: VectorEnv) -> RunConfig:
    """The run in environments that somebody else made.

    Raises:
        ConfigError: it wants them in groups; or it would validate, and nothing tells how to make another.
    """
    if run.train.groups != 1:
        raise ConfigError(f"train.groups: {run.train.groups}, but given environments step together; set it to 1")
    if given.spec is None and run.train.eval_every:
        raise ConfigError(
            f"train.eval_every: {run.train.eval_every}, but nothing tells how to make another {type(given).__name__} "
            "to validate in; set it to 0, and call vla_rl.evaluate(checkpoint, env=...) yourself"
        )
    spec, kwargs = given.spec, {}
    name = spec.id if spec else type(given.unwrapped).__name__
    if spec:
        kwargs = {key: value for key, value in spec.kwargs.items() if key not in OF_VECTORS}
    own = {"id": name, "kwargs": kwargs, "sensors": None, "adapter": None, "actions": None, "image_size": None}
    env = run.env.model_copy(update=own)
    settings = run.train.model_copy(update={"num_envs": given.num_envs})
    return run.model_copy(update={"env": env, "more_envs": (), "train": settings})


def given_spec(envs: VectorEnv, action_space: Any, plugins: Sequence[str] = ()) -> EnvSpec:
    """What a policy meets in a vector environment as it is.

    Raises:
        ConfigError: its observations are not what a policy reads, the action space does not fit its actions, or its
            episodes begin otherwise than in the step after an end.
    """
    mode = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    if AutoresetMode(mode) is not AutoresetMode.NEXT_STEP:
        raise ConfigError(
            f"envs: autoreset_mode is {AutoresetMode(mode).name}, so that an episode's last observation is not shown; "
            "make it with autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP"
        )
    tokens = bind_tokens(action_space, envs.single_action_space, plugins)
    if horizon(tokens) > 1:
        raise ConfigError("action_space: chunk takes several steps of one environment; a vector environment takes one")
    try:
        shape = ObservationShape.of(envs.single_observation_space)
    except ValueError as error:
        raise ConfigError(f"envs: {error}") from error
    return EnvSpec(observation=shape, actions=envs.single_action_space, tokens=tokens)


class GivenEnvs:
    """The environments of a `gymnasium.vector.VectorEnv`, which take decisions; they are not closed.

    A step of an environment that it marks as spoilt (`invalid` in its info) teaches nothing; what it raises ends the
    run.
    """

    def __init__(self, envs: VectorEnv, tokens: ActionSpace) -> None:
        self.count, self._envs, self._tokens = envs.num_envs, envs, tokens
        self.observation_space = envs.single_observation_space
        self.action_space = gymnasium.spaces.MultiDiscrete([slot.choices for slot in tokens.slots])
        self.name = envs.spec.id if envs.spec else type(envs.unwrapped).__name__
        parts = self.observation_space.items()  # type: ignore[attr-defined]
        floats = {key: part for key, part in parts if isinstance(part, gymnasium.spaces.Box) and part.dtype.kind == "f"}
        self._bounds = [Bounds.of(key, part) for key, part in floats.items()]
        self._sent: Any = None

    def describe(self) -> str:
        """How many there are, in a line for people."""
        return f"environments: {self.count} of {self.name}, as they were given"

    def reset(self, seed: int | Sequence[int]) -> Steps:
        """Begin an episode in every environment, of its own seed."""
        seeds = range(seed, seed + self.count) if isinstance(seed, int) else seed
        observation, infos = self._envs.reset(seed=[int(each) for each in seeds])  # type: ignore[arg-type]
        none = np.zeros(self.count, bool)
        return self._shown(observation, np.zeros(self.count), none, none, infos)

    def send(self, actions: np.ndarray, lanes: Lanes) -> None:
        """Have all take a step, by decisions int64 [count, K]; `receive` says what came of it."""
        assert len(actions) == self.count, "all lanes step together"
        decoded = [self._tokens.decode(np.array(decision, np.int64)) for decision in actions]
        space = self._envs.single_action_space
        empty: Any = gymnasium.vector.utils.create_empty_array(space, self.count)
        self._sent = gymnasium.vector.utils.concatenate(space, decoded, empty)

    def send_anew(self, lanes: Lanes) -> None:
        """Begin some episodes before they end, which a vector environment of Gymnasium's cannot.

        Raises:
            ValueError: always.
        """
        raise ValueError("envs: given environments step together, so that nobody can take over one of them")

    def receive(self) -> Steps:
        """What came of the step that was sent.

        Raises:
            ValueError: a reward or numbers of an observation that cannot be learned from.
        """
        return self._shown(*self._envs.step(self._sent))

    def snapshot(self) -> list[dict[str, Any] | None]:
        """Nothing is known of where they stand."""
        return [None] * self.count

    def restore(self, snapshots: Mapping[int, dict[str, Any]]) -> dict[int, Exception]:
        """Nothing, since there are no snapshots."""
        assert not snapshots, snapshots
        return {}

    def close(self) -> None:
        """Nothing: whoever made them closes them."""

    def _shown(self, observation: Mapping[str, Any], reward: Any, terminated: Any, truncated: Any, infos: Any) -> Steps:
        told = listed(infos, self.count)
        shown = {
            key: np.array(value) if isinstance(value, np.ndarray) else list(value) for key, value in observation.items()
        }
        shown[TASK] = [str(text) for text in shown[TASK]]
        for bounds in self._bounds:
            for value, info in zip(shown[bounds.key], told, strict=True):
                if not spoilt(info):
                    bounds.check(value)
        rewards = np.array([earned(each, info) for each, info in zip(reward, told, strict=True)])
        return Steps(shown, rewards, np.array(terminated, bool), np.array(truncated, bool), told)


def listed(infos: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The info of each of `count` environments, of Gymnasium's joint one: arrays with a mask `_key` beside each."""
    found: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, values in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        there = infos.get(f"_{key}", np.ones(count, bool))
        rows: Sequence[Any] = listed(values, count) if isinstance(values, Mapping) else values
        for i in np.flatnonzero(there).tolist():
            found[i][key] = rows[i]
    return found
