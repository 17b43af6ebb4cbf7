"""A task of an environment, by its name or as it is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import gymnasium

from vla_rl import registry

T = TypeVar("T")


def settings_of(env: type[gymnasium.Env], *components: type) -> frozenset[str]:
    """What a config may tell an environment beside its task, the task's fields left out.

    That is: arguments of its class and of those that it extends, fields of the components, and what Gymnasium takes.
    """
    names = {field for component in components for field in registry.parameters(component)}
    made_by = [vars(each)["__init__"] for each in env.__mro__[:-1] if "__init__" in vars(each)]
    for function in (*made_by, gymnasium.make):
        arguments = inspect.signature(function).parameters.values()
        names |= {each.name for each in arguments if each.kind is not inspect.Parameter.VAR_KEYWORD}
    return frozenset(names - {"self"})


def task_of(
    task: str | T, plugins: Sequence[str], parameters: Mapping[str, Any], own: frozenset[str], path: str = ""
) -> T:
    """The task itself, where it is given; else the one of the group `envs` of that name, with these parameters.

    Args:
        task: a registered name, a "module:Class" of `plugins`, or a task.
        parameters: fields of a task that is given by name.
        own: the environment's other settings; see `settings_of`.
        path: what errors call the parameters; by default the task's name.

    Raises:
        ConfigError: no such name, parameters that do not fit it, parameters for a task that is given itself, or a task
            with a field that no config could set, since the environment has a setting of that name.
    """
    if isinstance(task, str):
        kind = registry.resolve("envs", task, plugins, "task")
        hidden = sorted(own & registry.parameters(kind).keys())
        if hidden:
            raise registry.ConfigError(
                f"task: {task}: its field {hidden[0]!r} has the name of a setting of the environment, which would take "
                "what a config says; give the field another name"
            )
        made: T = registry.validated(kind, parameters, path or task)
        return made
    if parameters:
        raise registry.ConfigError(f"{', '.join(parameters)}: set the fields of the task itself, which is given")
    return task
