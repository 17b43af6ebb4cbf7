"""A search without a network for what is paid as soon as the honest way, or sooner: honest episodes, partly replaced.

Random actions alone hardly ever get as far as a reward. What the expert did in an episode, with random actions in place
of a part of it, often does; and where it does, the reward does not look at that part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
import numpy as np

from vla_rl import envs
from vla_rl.actions import horizon
from vla_rl.actions.command import KIND, Commands
from vla_rl.actions.expert import expert_action
from vla_rl.data.files import Episode
from vla_rl.data.record import Tape, missing_expert
from vla_rl.specs import IMAGES, ActionSpace

MOST_WILD = 3
"""Random actions that take the place of what is cut out, at most."""
MOST_STEPS = 200
"""Of an attempt."""
ON_THINGS, ALIGNED = 0.7, 0.5
"""How often a place is one where something is drawn; and a drag's end level with its beginning, or in line with it."""
EDGE = 24
"""Of 255: where neighbouring pixels differ by so much in a picture, something is drawn."""


@dataclass
class Shortcuts:
    """What was found. episodes: by seed, the shortest one that was paid as soon as the honest one, or sooner. honest:
    by seed, how many steps that takes; 0 where nobody knows. attempts: how many there were."""

    episodes: dict[int, Episode] = field(default_factory=dict)
    honest: dict[int, int] = field(default_factory=dict)
    attempts: int = 0

    def soonest(self, count: int) -> list[Episode]:
        """So many episodes, those first that take the least part of the honest one's steps."""
        seeds = sorted(self.episodes, key=lambda seed: len(self.episodes[seed]) / (self.honest[seed] or 1))
        return [self.episodes[seed] for seed in seeds[:count]]


def search(
    env: gymnasium.Env,
    seeds: Sequence[int],
    enough: Callable[[], bool],
    rng: np.random.Generator,
    tokens: ActionSpace,
) -> Shortcuts:
    """Look for shortcuts of the episodes of these seeds; where there is no expert, for any episode that is paid.

    It goes by rewards alone, and never asks the verifier. enough: asked before each attempt, whether to end. tokens:
    must be able to say all that is done.
    """
    found, ways = Shortcuts(), dict[int, list[Any]]()
    while not enough():
        seed = int(rng.choice(np.asarray(seeds)))
        if seed not in ways:
            ways[seed] = honest(env, seed)
            found.honest[seed] = len(ways[seed])
        known = ways[seed]
        plan = shortened(known, rng) if known else [None] * MOST_STEPS
        if not plan:
            continue
        found.attempts += 1
        tape, done = attempt(env, seed, plan, rng)
        limit = len(known) - (seed in found.episodes) if known else MOST_STEPS
        paid = tape.reward > 0 and not envs.spoilt(tape.info)
        if paid and len(done) <= limit and _sayable(done, tokens):
            found.episodes[seed], ways[seed] = _ended(tape.episode()), done
    return found


def honest(env: gymnasium.Env, seed: int) -> list[Any]:
    """What the expert does in the episode of a seed; nothing without an expert, or where it is not paid."""
    if missing_expert(env, seed):
        return []
    tape, done = Tape(env, seed), list[Any]()
    while not tape.ended and len(done) < MOST_STEPS:
        done.append(deepcopy(expert_action(env)))
        tape.step(done[-1], done[-1])
    return done if tape.reward > 0 else []


def shortened(way: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    """The actions with random ones, told as None, in place of a part of them: as many or fewer."""
    begin, end = sorted(rng.choice(len(way) + 1, 2, replace=False))
    wild = int(rng.integers(min(end - begin, MOST_WILD) + 1))
    return [*way[:begin], *[None] * wild, *way[end:]]


def attempt(env: gymnasium.Env, seed: int, plan: Sequence[Any], rng: np.random.Generator) -> tuple[Tape, list[Any]]:
    """Act out a plan in the episode of a seed, up to where it is paid; what happened, and what was done."""
    tape, done = Tape(env, seed), list[Any]()
    env.action_space.seed(int(rng.integers(2**31)))  # which the tape has seeded like all others of its seed
    for planned in plan:
        done.append(wild_action(env.action_space, tape.observation, rng) if planned is None else planned)
        tape.step(done[-1], done[-1])
        if tape.ended or tape.reward > 0:
            break
    return tape, done


def wild_action(space: gymnasium.Space, seen: Mapping[str, Any], rng: np.random.Generator) -> Any:
    """A random action; of a command, any kind alike, often at a place where something is drawn, and along it."""
    action = space.sample()
    if not isinstance(space, Commands):
        return action
    before: np.ndarray | None = None
    for name in space.takes[space.kinds[int(action[KIND])]]:
        own = space[name]
        if not isinstance(own, gymnasium.spaces.Box) or own.shape != (2,):
            continue  # no place
        places = _where_drawn(seen) if rng.random() < ON_THINGS else np.zeros((0, 2))
        place = own.high * places[rng.integers(len(places))] if len(places) else action[name]
        if before is not None and rng.random() < ALIGNED:
            place = np.where(np.arange(2) == rng.integers(2), before, place)
        action[name] = before = np.asarray(place, own.dtype)
    return action


def _where_drawn(seen: Mapping[str, Any]) -> np.ndarray:
    """Where something is drawn in the first picture, float64 [N, 2]: x and y in (0, 1)."""
    picture = next((np.asarray(value, np.int64) for key, value in seen.items() if key.startswith(IMAGES)), None)
    if picture is None:
        return np.zeros((0, 2))
    height, width = picture.shape[:2]
    down, right = np.abs(np.diff(picture, axis=0)).max(-1), np.abs(np.diff(picture, axis=1)).max(-1)
    edges = np.zeros((height, width), bool)
    edges[1:] |= down >= EDGE
    edges[:, 1:] |= right >= EDGE
    rows, columns = np.nonzero(edges)
    return np.column_stack([(columns + 0.5) / width, (rows + 0.5) / height])


def _sayable(done: Sequence[Any], tokens: ActionSpace) -> bool:
    """Whether there is a decision for each of these actions."""
    chunk = horizon(tokens)
    try:
        for action in done:
            tokens.encode([action] * chunk if chunk > 1 else action)
    except ValueError:
        return False
    return True


def _ended(episode: Episode) -> Episode:
    """The same, cut short after its last step where it would go on."""
    truncated = episode.truncated.copy()
    truncated[-1] = not episode.terminated[-1]
    return replace(episode, truncated=truncated)
