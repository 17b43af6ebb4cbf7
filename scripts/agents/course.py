"""What every agent meets: the same environment, demonstrations, seeds and evaluation; and the file of its curve.

Imports nothing heavier than numpy, so that an agent with an environment of packages of its own meets the same.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from vla_rl import config, envs
from vla_rl.config import RunConfig
from vla_rl.data import demos as recorded
from vla_rl.data.demos import Episode
from vla_rl.specs import HELD_OUT_SEEDS, IMAGES, STATE, TASK, TRAINING_SEEDS, training_seeds

PIXELS, NUMBERS = "pixels", "numbers"
"""Keys of what a rival sees: uint8 [3 x cameras, H, W], and float32 [state + words]."""
PAUSE = re.compile(r"\b(?:to|onto|on|into|in|for|beside)\b")
"""Where the second thing of an instruction begins, if it has one."""
READ = 300
"""Instructions that the vocabulary is gathered from; the first seeds' of training."""

Seen = dict[str, np.ndarray]
Act = Callable[[Seen], np.ndarray]
"""Observations of a batch -> actions in [-1, 1], float32 [B, A], greedy."""


@dataclass(frozen=True)
class Words:
    """An instruction as numbers: which words stand in its first part, and which in its last.

    A bag of words alone would not say which colour is the block's and which the mark's.
    """

    vocabulary: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Words:
        return cls(tuple(sorted({word for text in texts for word in text.lower().split()})))

    @property
    def size(self) -> int:
        return 2 * len(self.vocabulary)

    def __call__(self, text: str) -> np.ndarray:
        """float32 [size], 0 or 1. Words that are not in the vocabulary are left out."""
        *first, last = PAUSE.split(text.lower())
        parts = (set(" ".join(first).split()), set(last.split()))
        return np.array([word in part for part in parts for word in self.vocabulary], np.float32)


class Flat(gymnasium.ObservationWrapper):
    """Both cameras as channels of one picture; the state, and after it the words."""

    def __init__(self, env: gymnasium.Env, words: Words) -> None:
        super().__init__(env)
        self.words = words
        assert isinstance(env.observation_space, gymnasium.spaces.Dict)
        self.cameras = [key for key in env.observation_space if key.startswith(IMAGES)]
        height, width, _ = env.observation_space[self.cameras[0]].shape
        numbers = env.observation_space[STATE].shape[0] + words.size
        self.observation_space = gymnasium.spaces.Dict(
            {
                PIXELS: gymnasium.spaces.Box(0, 255, (3 * len(self.cameras), height, width), np.uint8),
                NUMBERS: gymnasium.spaces.Box(-np.inf, np.inf, (numbers,), np.float32),
            }
        )

    def observation(self, observation: dict[str, Any]) -> Seen:
        pictures = np.concatenate([observation[key] for key in self.cameras], axis=-1)
        numbers = np.concatenate([observation[STATE], self.words(observation[TASK])]).astype(np.float32)
        return {PIXELS: np.ascontiguousarray(pictures.transpose(2, 0, 1)), NUMBERS: numbers}


@dataclass(frozen=True)
class Transitions:
    """An episode as a rival remembers it: observations [T + 1], and of each step action, reward and termination [T].

    An episode that is over without `terminated` was cut short: its last observation's value counts on.
    """

    seen: Seen
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray

    def __len__(self) -> int:
        return len(self.reward)


@dataclass
class Course:
    """A task with a seed, as an agent of this image size meets it."""

    run: RunConfig
    seed: int
    words: Words
    shown: tuple[Transitions, ...]

    def env(self) -> gymnasium.Env:
        """One environment, as rivals see it; actions float32 in [-1, 1]."""
        return Flat(envs.factory(self.run)(), self.words)

    @cached_property
    def shape(self) -> dict[str, tuple[int, ...]]:
        """Of each part of an observation."""
        return {key: value.shape[1:] for key, value in self.shown[0].seen.items()}

    @property
    def actions(self) -> int:
        """Entries of an action."""
        return self.shown[0].action.shape[1]

    @property
    def first_seed(self) -> int:
        """What the training's environment is first reset with, as ours begin; later episodes follow from it."""
        return training_seeds(self.seed, 0, 1)[0]

    def evaluate(self, act: Act, episodes: int = 100, together: int = 25) -> float:
        """Share of successes on the held-out seeds that ours are reported on, one episode a seed."""
        waiting = list(HELD_OUT_SEEDS[:episodes])[::-1]
        lanes = [self.env() for _ in range(min(together, episodes))]
        seen = [lane.reset(seed=waiting.pop())[0] for lane in lanes]
        running, successes = list(range(len(lanes))), 0
        while running:
            actions = act({key: np.stack([seen[i][key] for i in running]) for key in seen[running[0]]})
            for i, action in zip(tuple(running), actions, strict=True):
                seen[i], _, terminated, truncated, info = lanes[i].step(action)
                if terminated or truncated:
                    successes += envs.succeeded(info)
                    if waiting:
                        seen[i] = lanes[i].reset(seed=waiting.pop())[0]
                    else:
                        running.remove(i)
                        lanes[i].close()
        return successes / episodes


def settings(task: str, seed: int, image_size: int | None, folder: Path) -> list[str]:
    """The overrides of a run of `task` with demonstrations of its own in `folder`, those of scripts/quickstart.py.

    image_size: None for the recipe's own.
    """
    size = [f"env.image_size={image_size}"] if image_size else []
    path = folder / f"demos_{task}_{seed}_{image_size or 'own'}"
    return [f"experiment={task}", f"seed={seed}", f"demos.path={path}", f"demos.seed={1000 * seed}", *size]


def course(task: str, seed: int, image_size: int, folder: Path) -> Course:
    """The course; demonstrations are recorded where they are missing: the same episodes in pictures of that size."""
    run = config.load(settings(task, seed, image_size, folder), command="demos")
    if not run.demos.folder.exists():
        try:
            recorded.record(run)
        except OSError:  # another run that began at the same time was first
            if not run.demos.folder.exists():
                raise
    env = envs.factory(run)()
    try:
        words = Words.of([str(env.reset(seed=each)[0][TASK]) for each in TRAINING_SEEDS[:READ]])
        flat = Flat(env, words)
        shown = tuple(_transitions(episode, flat) for episode in recorded.load(run.demos.folder))
    finally:
        env.close()
    return Course(run, seed, words, shown)


def _transitions(episode: Episode, flat: Flat) -> Transitions:
    rows = []
    for step in range(len(episode) + 1):
        observation = {key: value[step] for key, value in episode.observations.items()}
        rows.append(flat.observation(observation | {TASK: episode.tasks[step]}))
    seen = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return Transitions(seen, episode.action.astype(np.float32), episode.reward, episode.terminated)


class Step(NamedTuple):
    """A step of the training's environment. over: its episode is, and `following` is the last thing seen of it."""

    seen: Seen
    action: np.ndarray
    reward: float
    terminated: bool
    over: bool
    following: Seen


def steps(course: Course, act: Callable[[Seen, int], np.ndarray]) -> Iterator[Step]:
    """The training's environment, stepped without end; `act`: what an observation is answered with after so many."""
    env = course.env()
    seen, _ = env.reset(seed=course.first_seed)
    for made in itertools.count():
        action = act(seen, made)
        following, reward, terminated, truncated, _ = env.step(action)
        over = bool(terminated or truncated)
        yield Step(seen, action, float(reward), bool(terminated), over, following)
        seen = env.reset()[0] if over else following


@dataclass
class Curve:
    """An agent's success by environment steps and minutes of training, written anew whenever it is longer.

    `minutes` are by the clock, `cpu_minutes` the processor's in this process, which other work on the machine changes
    little. Both clocks stand still while something else is done within `pause`, such as an evaluation.
    """

    path: Path
    about: dict[str, Any]
    points: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._begun = _clocks()

    @property
    def minutes(self) -> float:
        return self.took[0]

    @property
    def took(self) -> tuple[float, float]:
        """Minutes by the clock and of the processor."""
        minutes, cpu_minutes = (_clocks() - self._begun) / 60
        return float(minutes), float(cpu_minutes)

    @contextmanager
    def pause(self) -> Iterator[None]:
        stopped = _clocks()
        yield
        self._begun = self._begun + _clocks() - stopped

    def add(self, env_steps: int, success: float, took: tuple[float, float] | None = None) -> None:
        """Note a success, a share of 1. took: minutes by the clock and of the processor, where others have measured."""
        minutes, cpu_minutes = self.took if took is None else took
        times = {"minutes": round(minutes, 3), "cpu_minutes": round(cpu_minutes, 3)}
        self.points.append({"env_steps": env_steps, **times, "pc_success": round(100 * success, 2)})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(self.about | {"curve": self.points}, indent=1) + "\n", "utf-8")
        draft.replace(self.path)
        print(f"{self.path.stem}: {env_steps} steps, {minutes:.1f} minutes: {100 * success:.0f}%", flush=True)


def _clocks() -> np.ndarray:
    """Seconds by the clock, and of the processor: this process's, and its children's that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.monotonic(), time.process_time() + children.ru_utime + children.ru_stime])


@dataclass(frozen=True)
class Plan:
    """How long, and how often success is measured. steps: of the environment. minutes: of training, at most.

    until: percent of success that end the run when reached.
    """

    steps: int
    every: int
    episodes: int = 100
    minutes: float = float("inf")
    until: float = 101.0

    def over(self, curve: Curve, env_steps: int) -> bool:
        reached = max((point["pc_success"] for point in curve.points), default=0.0) >= self.until
        return env_steps >= self.steps or curve.minutes >= self.minutes or reached


def watch(course: Course, plan: Plan, curve: Curve, act: Act, env_steps: int) -> None:
    """Measure success where it is due, with the clock stopped."""
    if env_steps % plan.every == 0 or plan.over(curve, env_steps):
        with curve.pause():
            success = course.evaluate(act, plan.episodes)
        curve.add(env_steps, success)


class Learner(Protocol):
    """An agent that `play` has act and learn."""

    def act(self, seen: Seen, env_steps: int) -> np.ndarray:
        """What one observation is answered with while learning, after so many steps; float32 [A]."""

    def greedy(self, seen: Seen) -> np.ndarray:
        """The same of a batch of observations where it is measured."""

    def remember(self, step: Step) -> None:
        """Keep a step."""

    def learn(self, env_steps: int) -> None:
        """Update once."""


def play(course: Course, learner: Learner, plan: Plan, curve: Curve, updates_per_step: float, starts: int) -> None:
    """Act, remember, learn, and measure, until the run is over. starts: steps before the first update."""
    owed = 0.0
    for made, step in enumerate(steps(course, learner.act), 1):
        learner.remember(step)
        owed += updates_per_step * (made >= starts)
        for _ in range(int(owed)):
            learner.learn(made)
        owed -= int(owed)
        watch(course, plan, curve, learner.greedy, made)
        if plan.over(curve, made):
            return
