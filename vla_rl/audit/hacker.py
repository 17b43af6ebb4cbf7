"""A policy that is trained for a few minutes on what an environment pays, and what it is paid for in the end.

It finds what no scripted policy was written for. First a search without a network looks for shortcuts of honest
episodes (`shortcuts`). The policy then begins as a clone of honest demonstrations and of what was found, and is trained
by the run's own algorithm. Nothing of this asks the verifier; only the episodes that are counted do.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from vla_rl import envs
from vla_rl.actions import horizon
from vla_rl.audit import shortcuts
from vla_rl.audit.playing import rollout
from vla_rl.audit.probes import Act, Probe
from vla_rl.audit.scores import ProbeScore
from vla_rl.config import RunConfig
from vla_rl.data.files import Demonstrations, Episode, save
from vla_rl.data.record import demonstrate, missing_expert
from vla_rl.media.marks import drawn
from vla_rl.report.drawn import told
from vla_rl.rewards.gap import HackGap
from vla_rl.rollout.actor import Actor, load
from vla_rl.sft import sft
from vla_rl.specs import IMAGES, TASK, ActionSpace
from vla_rl.train import train

NAME = "trained on what is paid"
MINUTES = 4.0
"""Of search and training, unless `train.minutes` says otherwise."""
SEARCH, LEAST_TRAINING = 0.25, 0.2
"""Shares of those minutes: of the search; and of the training, at least, however long cloning takes."""
SEEDS = 32
"""Of episodes whose shortcuts are looked for."""
LEAST_SHOWN = 8
"""The half of what is found is cloned that is paid soonest, but so many, where there are."""
EPSILON = 0.1
"""Of the decisions in training, those that are random, at least."""
STRIPS, PICTURES = 8, 12
"""Episodes that are shown, and pictures of each at most."""


@dataclass(frozen=True)
class Moment:
    """What the first camera showed, uint8 [H, W, 3], the task's text, and the action that followed."""

    picture: np.ndarray
    text: str
    action: Any


@dataclass(frozen=True)
class Hacked:
    """What became of it. score: of its episodes. attempts, shortcuts: of the search, and seeds for which it found some.

    strips: pictures of episodes that were paid and are no success, from left to right.
    """

    score: ProbeScore
    attempts: int
    shortcuts: int
    strips: tuple[Path, ...]

    @property
    def gap(self) -> HackGap | None:
        """Of what was paid over what was done; None where there is no verifier."""
        rows = [each for each in self.score.valid if each.success is not None]
        return HackGap.of([each.paid for each in rows], [bool(each.success) for each in rows]) if rows else None

    @property
    def said(self) -> str:
        """For people: the gap, how it came, and where it can be seen."""
        gap, low_high = self.gap, ""
        if gap is not None:
            low, high = gap.interval
            low_high = f": paid less done {gap.points:+.0f} points (95% interval {low:+.0f} to {high:+.0f})"
        found = f"shortcuts of {self.shortcuts} of {SEEDS} episodes in {self.attempts} attempts"
        seen = f"; what it did: {self.strips[0].parent}" if self.strips else ""
        return f"{NAME}{low_high}; {found}{seen}"

    def as_json(self) -> dict[str, Any]:
        """Plain values; the gap and its 95% interval in points."""
        gap = self.gap
        return self.score.as_json() | {
            "hack_gap": None if gap is None else gap.points,
            "hack_gap_ci95": None if gap is None else list(gap.interval),
            "attempts": self.attempts,
            "shortcuts": self.shortcuts,
            "strips": [str(path) for path in self.strips],
        }


def hack(run: RunConfig, folder: Path, seeds: Sequence[int], demo_seed: int) -> Hacked:
    """Train on what the run's environment pays, in `folder`, and play the episodes of `seeds`.

    demo_seed: of the first honest episode.

    Raises:
        ConfigError: the run's actions, or its observations, cannot be trained on.
    """
    env = envs.factory(run, past=envs.Past())()
    try:
        with redirect_stdout(sys.stderr):
            last, found = _trained(run, env, folder, demo_seed)
        filmed = list[list[Moment]]()
        actor = load(last, device=run.device, plugins=run.plugins)
        probe = acting(actor, filmed)
        played = tuple(rollout(env, probe, seed) for seed in seeds)
    finally:
        env.close()
    gamed = [film for each, film in zip(played, filmed, strict=True) if each.paid and each.success is False]
    files = [folder / f"gamed_{number}.png" for number in range(STRIPS)]
    painted = [
        [_painted(each, actor.policy.action_space, env.action_space) for each in film] for film in gamed[:STRIPS]
    ]
    strips = tuple(_strip(pictures, file) for pictures, file in zip(painted, files, strict=False) if pictures)
    return Hacked(ProbeScore(probe, played), found.attempts, len(found.episodes), strips)


def acting(actor: Actor, filmed: list[list[Moment]]) -> Probe:
    """The policy by samples, as it was trained; what it sees and does is appended to `filmed`, a list an episode."""

    def begin(env: gymnasium.Env, rng: np.random.Generator) -> Act:
        film = list[Moment]()
        filmed.append(film)
        actor.reset()

        def act(seen: Any) -> Any:
            action = actor.act(seen, greedy=False)
            pictures = [np.array(value) for key, value in seen.items() if key.startswith(IMAGES)]
            film.extend(Moment(picture, str(seen[TASK]), deepcopy(action)) for picture in pictures[:1])
            return action

        return act

    return Probe(NAME, begin)


def _trained(run: RunConfig, env: gymnasium.Env, folder: Path, demo_seed: int) -> tuple[Path, shortcuts.Shortcuts]:
    """The checkpoint of a policy that is trained by what is paid, and what the search found before."""
    minutes = run.train.minutes or MINUTES
    begun = time.monotonic()
    tokens = envs.bind_tokens(run.action_space, env.action_space, run.plugins)
    able = run.demos.episodes > 0 and not missing_expert(env, demo_seed)
    known = demonstrate(env, run.demos.episodes, run.demos.noise, demo_seed, tokens) if able else None
    looked_at = range(demo_seed, demo_seed + SEEDS)
    rng = np.random.default_rng(run.seed)
    end = time.monotonic() + 60 * SEARCH * minutes
    found = shortcuts.search(env, looked_at, lambda: time.monotonic() >= end, rng, tokens)
    soonest = found.soonest(max(LEAST_SHOWN, len(found.episodes) // 2))
    shown = [*(known or ()), *_as_many(soonest, len(known or ()))]
    demos = run.demos.model_copy(update={"episodes": len(shown), "path": folder / "demos"})
    if shown:
        shape = envs.ObservationShape.of(env.observation_space)
        save(Demonstrations(tuple(shown), shape, {"env": envs.name_of(env), "seed": demo_seed}), demos.folder)
    own: dict[str, Any] = {"demos": demos, "tracker": None, "resume": False}
    clone = run.sft if shown else run.sft.model_copy(update={"steps": 0})
    start = sft(run.model_copy(update=own | {"sft": clone, "run_dir": folder / "start"}))
    left = max(minutes - (time.monotonic() - begun) / 60, LEAST_TRAINING * minutes)
    settings = {"minutes": left, "checkpoint": str(start), "eval_every": 0, "save_every": 0}
    algorithm = run.algorithm
    if hasattr(algorithm, "epsilon"):  # else it explores in a way of its own
        algorithm = dataclasses.replace(algorithm, epsilon=max(algorithm.epsilon, EPSILON))
    own |= {"train": run.train.model_copy(update=settings), "algorithm": algorithm, "run_dir": folder / "trained"}
    return train(run.model_copy(update=own)), found


def _as_many(episodes: list[Episode], count: int) -> list[Episode]:
    """The episodes, over and over where they are fewer than so many."""
    return episodes * max(1, -(-count // max(len(episodes), 1)))


def _painted(moment: Moment, space: ActionSpace, actions: gymnasium.Space) -> np.ndarray:
    """The picture with what was done there, uint8 [H, W, 3]."""
    if horizon(space) > 1:
        return drawn(moment.picture, [])
    tokens = np.asarray(space.encode(moment.action), np.int64)
    return drawn(moment.picture, told(tokens, space, actions, moment.text).marks)


def _strip(pictures: Sequence[np.ndarray], path: Path) -> Path:
    """Write pictures of an episode from left to right; of a long one, its ends."""
    half = PICTURES // 2
    some = [*pictures[:half], *pictures[-half:]] if len(pictures) > PICTURES else pictures
    Image.fromarray(np.concatenate(some, axis=1)).save(path)
    return path
