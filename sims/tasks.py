"""A task of an environment, by its name or as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from vla_rl import registry

T = TypeVar("T")


def task_of(task: str | T, plugins: Sequence[str], parameters: Mapping[str, Any], path: str = "") -> T:
    """The task itself, where it is given; else the one of the group `envs` of that name, with these parameters.

    Args:
        task: a registered name, a "module:Class" of `plugins`, or a task.
        parameters: fields of a task that is given by name.
        path: what errors call the parameters; by default the task's name.

    Raises:
        ConfigError: no such name, parameters that do not fit it, or parameters for a task that is given itself.
    """
    if isinstance(task, str):
        made: T = registry.validated(registry.resolve("envs", task, plugins, "task"), parameters, path or task)
        return made
    if parameters:
        raise registry.ConfigError(f"{', '.join(parameters)}: set the fields of the task itself, which is given")
    return task
