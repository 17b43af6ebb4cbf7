"""What the policy meets, worked out once; and where each lane of a run acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import gymnasium
import numpy as np

from vla_rl.envs.make import ObservationShape
from vla_rl.registry import ConfigError
from vla_rl.specs import ActionSpace, Mark


@dataclass(frozen=True)
class EnvSpec:
    """What the policy meets: the observations' shapes, decisions fitted to the environment's actions, marks, the bounds
    of an episode's discounted return, and whether the world shifts in mid-run. Of several environments, what they have
    in common."""

    observation: ObservationShape
    actions: gymnasium.Space
    tokens: ActionSpace
    marks: tuple[Mark, ...] = ()
    returns: tuple[float, float] = (-np.inf, np.inf)
    shifts: bool = False


@dataclass(frozen=True)
class Lane:
    """One place where a run acts. make: makes the environment there, picklable where there are workers. task: its
    name."""

    make: Callable[[], gymnasium.Env]
    task: str


def lanes(makers: Mapping[str, Callable[[], gymnasium.Env]], count: int) -> list[Lane]:
    """`count` lanes, dealt out to the tasks in turn; `makers` by the task's name.

    Raises:
        ConfigError: fewer lanes than tasks.
    """
    if count < len(makers):
        raise ConfigError(
            f"train.num_envs: {count}, but the run has {len(makers)} environments; give each at least one"
        )
    tasks = list(makers.items())
    return [Lane(make, task) for task, make in (tasks[lane % len(tasks)] for lane in range(count))]


def joint(specs: Mapping[str, EnvSpec]) -> EnvSpec:
    """The spec of several environments that one policy acts in, by name.

    Raises:
        ConfigError: one observes or does something else than the first; says what.
    """
    (name, first), *others = specs.items()
    for other, spec in others:
        for what, ours, theirs in (
            ("observes", _seen(first.observation), _seen(spec.observation)),
            ("takes the actions", str(first.actions), str(spec.actions)),
            ("marks", str(first.marks), str(spec.marks)),
        ):
            if ours != theirs:
                raise ConfigError(
                    f"more_envs: {other} {what} {theirs}, and {name} {ours}; one policy acts in all environments of a "
                    "run, so that they need the same: tasks of one robot, or screens with the same gestures "
                    "(env.sensors=... and env.kwargs=... set it for all of them)"
                )
    ends = [spec.returns for spec in specs.values()]
    returns = min(low for low, _ in ends), max(high for _, high in ends)
    return replace(first, returns=returns, shifts=any(spec.shifts for spec in specs.values()))


def _seen(shape: ObservationShape) -> str:
    pictures = [f"{key} {list(size)}" for key, size in shape.images.items()]
    return ", ".join([*pictures, f"a state of {shape.state}"])
