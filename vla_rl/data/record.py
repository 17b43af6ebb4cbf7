"""Recording demonstrations from an environment's scripted expert."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vla_rl import config, envs, specs
from vla_rl.actions import horizon
from vla_rl.actions.command import Commands
from vla_rl.actions.expert import expert_action, without_expert
from vla_rl.data import coverage
from vla_rl.data.files import Demonstrations, Episode, save
from vla_rl.data.flat import pack
from vla_rl.envs import ObservationShape
from vla_rl.registry import ConfigError
from vla_rl.specs import STATE, TASK, ActionSpace, kept_text

if TYPE_CHECKING:
    from vla_rl.config import RunConfig

TRIES = 10
"""At most this many episodes are tried for each that is wanted."""
DRAWS = 1000
"""At most this many random actions are drawn until there is a decision for one."""


def record(run: RunConfig | str, *overrides: str) -> Path:
    """Record `run.demos.episodes` successful episodes of the scripted expert into `run.demos.path`.

    run: a config, or the first of the overrides, as on the command line: `record("env=reach", "demos.episodes=8")`.
    Of several environments, so many of each, in folders of their names there.

    Warns of words and kinds of instruction that the environment asks for and none of them has.

    Raises:
        ConfigError: the environment has no scripted expert, or succeeds too rarely; the run's action space does not fit
            the environment's actions, or has no decision for one of the expert's.
        FileExistsError: the folder exists already.
        ValueError: a seed is held out for evaluation.
    """
    run = config.given(run, overrides, "demos")
    each = run.each()
    there = next((one.demos.folder for one in each if one.demos.folder.exists()), None)
    if there is not None:
        raise FileExistsError(f"demos.path: {there} exists already; name another folder, or remove it first")
    for one in each:
        _record(one)
    return run.demos.folder


def _record(run: RunConfig) -> None:
    """Record one environment's."""
    env = envs.factory(run, past=envs.Past())()
    try:
        tokens = envs.bind_tokens(run.action_space, env.action_space, run.plugins)
        demonstrations = demonstrate(env, run.demos.episodes, run.demos.noise, run.demos.seed, tokens)
        wanted = coverage.asked(env, run.demos.seed + demonstrations.meta["tried"])
    finally:
        env.close()
    for lack in coverage.lacking([text for episode in demonstrations for text in episode.tasks], wanted):
        print(f"warning: {lack}; record more with demos.episodes", file=sys.stderr)
    save(demonstrations, run.demos.folder)


def demonstrate(
    env: gymnasium.Env, episodes: int, noise: float = 0.0, seed: int = 0, tokens: ActionSpace | None = None
) -> Demonstrations:
    """The first `episodes` successful episodes of the expert, on seeds from `seed` on.

    With `noise` the expert is pushed off its path, so that its labels also show how to come back:
    to an action of a Box, Gaussian noise of `noise` times half the Box's range is added, and the sum is
    clipped to the Box; so it is in each part of a Dict or a Tuple; in any other space, a uniformly random action
    replaces the expert's with probability `noise`; a command is replaced as a whole. The label is always what the
    expert itself would have done in that state.

    tokens: the action space that shall be trained with; nothing is done that it has no decision for.

    Raises:
        ConfigError: the environment has no scripted expert, or it succeeds in fewer than 1 of `TRIES`
            episodes; `tokens` have no decision for one of its actions; or its observations cannot be kept, see
            `storable`.
    """
    if episodes == 0:
        raise ConfigError("demos.episodes: 0, so that there is nothing to record")
    specs.check_training_seed(seed, episodes * TRIES, "demos.seed")
    name, shape, why = envs.name_of(env), _shape(env), without_expert(env)
    if why:
        raise ConfigError(
            f"env.id: {name} {why.removeprefix('it ')}, so nothing can be recorded; "
            "record with another environment, or train from reward alone (demos.episodes=0)"
        )
    kept: list[Episode] = []
    tried = 0
    with _progress() as progress:
        bar = progress.add_task(f"demonstrations of {name}", total=episodes, rate="")
        while len(kept) < episodes:
            if tried == episodes * TRIES:
                raise ConfigError(
                    f"demos: the expert of {name} succeeded in only {len(kept)} of {tried} episodes with "
                    f"noise {noise}; lower demos.noise, or check the environment, and that its info tells `is_success`"
                )
            episode, success = play(env, seed + tried, noise, tokens)
            tried += 1
            if success:
                kept.append(episode)
            progress.update(bar, completed=len(kept), rate=f"{len(kept)} of {tried} tried succeeded")
    meta = {"env": name, "noise": noise, "seed": seed, "tried": tried}
    return Demonstrations(tuple(kept), shape, meta)


def storable(observation: Mapping[str, Any], shape: ObservationShape) -> dict[str, np.ndarray]:
    """What demonstrations keep of an observation: pictures uint8 as they are, the state's numbers as float32 [n].

    Raises:
        ConfigError: pictures of another dtype, a state that is not of numbers, or other shapes than the environment's
            observation space has; names the key.
    """
    found = {key: np.asarray(observation[key]) for key in shape.images}
    for key, picture in found.items():
        if picture.dtype != np.uint8:
            raise ConfigError(
                f"demos: {key}: pictures are kept as uint8 from 0 to 255, and the environment gives {picture.dtype}; "
                "have it give uint8, such as (255 * picture).round().astype(np.uint8) of one from 0 to 1"
            )
    if shape.state:
        numbers = np.asarray(observation[STATE])
        if numbers.dtype.kind not in "biuf":
            raise ConfigError(
                f"demos: {STATE}: the state is kept as float32, and the environment gives {numbers.dtype}; "
                "have it give real numbers"
            )
        found[STATE] = numbers.reshape(-1).astype(np.float32)
    for key, size in {**shape.images, **({STATE: (shape.state,)} if shape.state else {})}.items():
        if found[key].shape != size:
            raise ConfigError(
                f"demos: {key}: the environment gives {list(found[key].shape)}, and its observation_space says "
                f"{list(size)}; have it say what it gives"
            )
    return found


def _shape(env: gymnasium.Env) -> ObservationShape:
    try:
        return ObservationShape.of(env.observation_space)
    except ValueError as error:
        raise ConfigError(f"env {envs.name_of(env)}: nothing could train on it: {error}") from error


def missing_expert(env: gymnasium.Env, seed: int = 0) -> str:
    """Why there is no scripted expert to ask, in words; "" where there is one. Begins an episode."""
    why = without_expert(env)
    if why:
        return why
    env.reset(seed=seed)
    try:
        expert_action(env)
    except ConfigError as error:
        return str(error)
    return ""


class Tape:
    """One episode as somebody acts it out. The same seed and actions give the same episode.

    What it keeps are copies: an environment or an expert may return the same array again and again, changed in place.

    Raises:
        ConfigError: observations that cannot be kept, see `storable`, before anything is done.
        ValueError: numbers of an observation that are not finite, where the environment does not call it spoilt.

    Attributes:
        observation: what was seen last.
        ended: whether the episode is over.
        info: what the environment said of its last step.
    """

    def __init__(self, env: gymnasium.Env, seed: int) -> None:
        self.env, self.seed = env, seed
        env.action_space.seed(seed)
        self.ended, self._verified, self._shape = False, False, _shape(env)
        self._seen, self._tasks = list[dict[str, np.ndarray]](), list[str]()
        self._steps = list[tuple[Any, Any, float, bool, bool]]()
        self._see(*env.reset(seed=seed))

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def task(self) -> str:
        """The instruction."""
        return self._tasks[0]

    @property
    def succeeded(self) -> bool:
        """Whether the episode is over and ended in success."""
        return self.ended and envs.succeeded(self.info) and not envs.spoilt(self.info)

    @property
    def verified(self) -> bool:
        """Whether the environment itself has told of success or failure, in this or in an earlier step."""
        return self._verified

    def judge(self, success: bool) -> None:
        """Have the episode end in its last step, since somebody says so; a success pays 1."""
        action, label, reward, _, _ = self._steps[-1]
        self._steps[-1] = (action, label, reward + float(success), True, False)
        self.info["is_success"], self.ended = success, True

    @property
    def reward(self) -> float:
        """The sum of the rewards so far."""
        return sum(step[2] for step in self._steps)

    def step(self, action: Any, label: Any) -> None:
        """Carry out `action`, where `label` was the right one."""
        assert not self.ended, "the episode is over"
        done, right = (pack(each, self.env.action_space) for each in (action, label))  # before it may be changed
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._see(observation, info)
        self._steps.append((done, right, envs.earned(reward, info), bool(terminated), bool(truncated)))
        self.ended = bool(terminated or truncated)

    def _see(self, observation: Any, info: dict[str, Any]) -> None:
        """Keep what was shown."""
        self.observation, self.info = copy.deepcopy(observation), dict(info)
        self._verified = self._verified or any(word in info for word in envs.SUCCESS)
        self._seen.append(storable(self.observation, self._shape))
        self._tasks.append(kept_text(str(self.observation[TASK]), TASK))
        if envs.spoilt(info):  # such an episode is not kept
            return
        try:
            for key, value in self._seen[-1].items():
                envs.check_finite(key, value)
        except ValueError as error:
            error.add_note(f"in the episode of seed {self.seed}, after {len(self._seen) - 1} step(s)")
            raise

    def episode(self) -> Episode:
        """What happened so far; at least one step."""
        actions, labels, rewards, terminations, truncations = zip(*self._steps, strict=True)
        return Episode(
            tasks=tuple(self._tasks),
            seed=self.seed,
            observations={key: np.stack([row[key] for row in self._seen]) for key in self._seen[0]},
            action=np.stack(actions),
            label=np.stack(labels),
            reward=np.asarray(rewards, np.float32),
            terminated=np.asarray(terminations, np.bool_),
            truncated=np.asarray(truncations, np.bool_),
        )


def play(env: gymnasium.Env, seed: int, noise: float, tokens: ActionSpace | None = None) -> tuple[Episode, bool]:
    """One episode of the expert, and whether it succeeded. The same seed gives the same episode."""
    rng = np.random.default_rng((seed, 1))
    tape = Tape(env, seed)
    while not tape.ended:
        label = expert_action(env)
        refusal = tokens is not None and _refusal(label, tokens)
        if refusal:
            raise ConfigError(
                f"action_space: it has no decision for what the expert of {envs.name_of(env)} does: {refusal}"
            )
        tape.step(perturbed(label, env.action_space, noise, rng, tokens), label)
    return tape.episode(), tape.succeeded


def perturbed(
    action: Any, space: gymnasium.Space, noise: float, rng: np.random.Generator, tokens: ActionSpace | None = None
) -> Any:
    """`action` with the noise that `demonstrate` describes; `action` itself where `noise` is 0.

    With `tokens`, a random action that they have no decision for is drawn again.
    """
    usable = (lambda drawn: True) if tokens is None else (lambda drawn: not _refusal(drawn, tokens))
    return action if noise == 0 else _moved(action, space, noise, rng, usable)


def _moved(
    action: Any, space: gymnasium.Space, noise: float, rng: np.random.Generator, usable: Callable[[Any], bool]
) -> Any:
    """An action, or a part of one, with noise. usable: whether a random one may take its place."""
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Box):
        reach = (space.high.astype(np.float64) - space.low) / 2
        if not np.isfinite(reach).all():
            raise ConfigError(f"demos.noise: {space} has no bounds to scale noise by; set it to 0")
        moved = action + noise * reach * rng.standard_normal(space.shape)
        return np.clip(moved, space.low, space.high).astype(space.dtype)
    if isinstance(space, spaces.Dict | spaces.Tuple) and not isinstance(space, Commands):
        dealt = action if isinstance(space, spaces.Dict) else dict(enumerate(action))
        whole = dict if isinstance(space, spaces.Dict) else lambda parts: tuple(parts.values())

        def part(key: Any) -> Any:
            return _moved(dealt[key], space[key], noise, rng, lambda drawn: usable(whole({**dealt, key: drawn})))

        return whole({key: part(key) for key in dealt})
    if rng.random() >= noise:
        return action
    for _ in range(DRAWS):
        drawn = space.sample()
        if usable(drawn):
            return drawn
    raise ConfigError(f"demos.noise: action_space has no decision for any of {DRAWS} random actions of {space}")


def _refusal(action: Any, tokens: ActionSpace) -> str:
    """Why there is no decision for an action; "" where there is."""
    try:
        tokens.encode([action] * horizon(tokens) if horizon(tokens) > 1 else action)
    except ValueError as error:
        return str(error)
    return ""


def _progress() -> Progress:
    text = TextColumn("{task.fields[rate]}")
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn())
