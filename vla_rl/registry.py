"""Names -> components: built-in and entry-point names, and the user's own `module:Class`.

A component is a frozen dataclass; its fields are its config. A mapping {"type": name, field: value}
becomes an instance, with the path of the offending key in every error, and `describe` turns the instance
into such a mapping again. Nothing is imported unless it is registered by an installed package or lies in
a module that the run's own `plugins` list names; those are imported when the run begins.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import json
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from vla_rl.specs import readable, shown

GROUPS = (
    "envs",
    "sensors",
    "controls",
    "experts",
    "tools",
    "action_spaces",
    "backbones",
    "goals",
    "listeners",
    "rehearsals",
    "algorithms",
    "costs",
    "credits",
    "occupancies",
    "adaptations",
)
ADAPTER = "vla_rl/Adapter-v0"
"""The environment, registered among `envs`, that shows another package's as one of ours."""


GROUP = "group"
"""In the metadata of a component's field: the components that it takes are of this group, not of its own."""
SETTINGS = "settings"
"""In the metadata of a component's field: what it takes is a dataclass of settings, of one type, and no component."""
RENAMED = {("algorithms", "parl"): "pa_rl"}
"""Names that configs and checkpoints of the last release have, by group, and what they are called now."""
TASK_KEYS = ("env_name", "task_name", "name", "task")
"""What an environment's settings call the task, where one id stands for many of them."""


class ConfigError(ValueError):
    """A config that cannot be used. The message names the full path, the value and the nearest good one."""


class SetupError(RuntimeError):
    """This machine lacks something that the run needs. The message names it and how to get it."""


class FaultError(RuntimeError):
    """What runs cannot go on or tells nothing, since its environments or its numbers have gone wrong."""


MOST_NAMES = 60
"""That a message lists."""


def nearest(name: object, known: Iterable[object]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them, where they are not too many."""
    names = sorted({str(each) for each in known})
    close = difflib.get_close_matches(str(name)[:100], names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return (
        f"known: {', '.join(names) or 'none'}" if len(names) <= MOST_NAMES else f"there are {len(names)}: vla-rl list"
    )


def task_named(env_id: str, kwargs: Mapping[str, Any]) -> str:
    """What an environment's settings call its task, such as `door-open-v3`; "" where they do not, or the id says it."""
    task = next((kwargs[key] for key in TASK_KEYS if isinstance(kwargs.get(key), str)), "")
    task = task.rpartition(":")[2].rpartition("/")[2]
    return "" if task.lower() in env_id.lower() else task


def entries(group: str) -> dict[str, EntryPoint]:
    """The registered names of a group, sorted, without importing what they name."""
    assert group in GROUPS, group
    return dict(_installed(group, tuple(sys.path)))


@functools.cache
def _installed(group: str, search_path: tuple[str, ...]) -> tuple[tuple[str, EntryPoint], ...]:
    """Reading every installed package's metadata takes milliseconds, so once for each search path."""
    found = {point.name: point for point in entry_points(group=f"vla_rl.{group}")}
    return tuple(sorted(found.items()))


def resolve(group: str, name: str, plugins: Sequence[str] = (), path: str = "type") -> type:
    """The class that `name` names: a registered name, or `module:Class` from a listed module.

    `plugins` lists modules; a package's name lists the modules inside it, too.

    Raises:
        ConfigError: unknown name; a module that `plugins` does not list (refused before the import);
            a listed module that lacks the class; a registered one that cannot be imported.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{path}: expected a name among {group}, got {shown(name)}; {nearest('', entries(group))}")
    if ":" not in name:
        known = entries(group)
        if (group, name) in RENAMED:
            now = RENAMED[group, name]
            warnings.warn(f"{path}: {name!r} is called {now!r} now; the old name goes next release", FutureWarning, 2)
            name = now
        if name not in known:
            raise ConfigError(f"{path}: unknown name {shown(name)} among {group}; {nearest(name, known)}")
        return _component(load(known[name], path), name, path)
    module, _, attribute = name.partition(":")
    if not any(module == plugin or module.startswith(f"{plugin}.") for plugin in plugins if plugin):
        allowing = ",".join([*plugins, shown(module)[1:-1]])
        raise ConfigError(
            f"{path}: {shown(name)} lies in module {shown(module)}, which the run's `plugins` do not list "
            f"(listed: {', '.join(plugins) or 'none'}); plugins=[{allowing}] lets it be imported"
        )
    try:
        there = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{path}: cannot import {shown(module)}: {error}") from error
    found = getattr(there, attribute, None)
    if found is None:
        classes = [each for each, value in vars(there).items() if dataclasses.is_dataclass(value)]
        raise ConfigError(f"{path}: module {shown(module)} has no {shown(attribute)}; {nearest(attribute, classes)}")
    return _component(found, name, path)


def import_listed(plugins: Sequence[str]) -> None:
    """Import the modules of a run's `plugins` list, so that what they register is there.

    Raises:
        ConfigError: one that cannot be imported; it is named.
    """
    for index, name in enumerate(plugins):
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"plugins[{index}]: a module is named as `import` names it, got {shown(name)}")
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"plugins[{index}]: cannot import {shown(name)}: {error} (modules are found where the command is run, "
                "on PYTHONPATH, and among the installed packages)"
            ) from error


def load(point: EntryPoint, path: str = "type") -> Any:
    """What a registered name names. Raises ConfigError where an installed package cannot deliver it."""
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path}: {point.name!r} is registered as {point.value}, but: {error}") from error


def named(reference: str) -> Any:
    """What `module:name` names, imported now: how a config that many read names what is heavy to import."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def build(group: str, config: Any, plugins: Sequence[str] = (), path: str = "") -> Any:
    """The component that `config` describes: an instance already, a name, or {"type": name, ...}.

    Nested mappings with a `type` are components of the same group, or of that which the field's metadata name.

    Raises:
        ConfigError: see the module's text.
    """
    path = path or group
    if isinstance(config, str):
        config = {"type": config}
    if not isinstance(config, Mapping):
        if _is_component(config):
            return config
        raise ConfigError(f"{path}: expected a name or a mapping with `type`, got {shown(config)}")
    if "type" not in config:
        raise ConfigError(f"{path}: lacks the key 'type', one of {', '.join(entries(group))}")
    component = resolve(group, config["type"], plugins, f"{path}.type")
    _check_keys(component, [key for key in config if key != "type"], path)
    values = {
        key: _nested(_group_of(component, key, group), value, plugins, f"{path}.{key}")
        for key, value in config.items()
        if key != "type"
    }
    return validated(component, values, path)


def describe(component: Any, group: str) -> dict[str, Any]:
    """The JSON mapping from which `build` makes an equal component; nested components likewise.

    The type is the registered name, or `module:Class` for a class that is not registered.

    Raises:
        ConfigError: a field's value has no JSON form.
    """
    kind = type(component)
    assert _is_component(component), component
    values = {
        name: _plain(_settings(component, field), _group_of(kind, name, group), f"{kind.__name__}.{name}")
        for name, field in parameters(kind).items()
    }
    return {"type": name_of(kind, group), **values}


def _settings(component: Any, field: dataclasses.Field) -> Any:
    """The value of a component's field; a dataclass of settings as a mapping."""
    value = getattr(component, field.name)
    return dataclasses.asdict(value) if field.metadata.get(SETTINGS) and value is not None else value


def name_of(component: type, group: str) -> str:
    """The registered name of a class, or `module:Class`."""
    reference = f"{component.__module__}:{component.__qualname__}"
    for name, point in entries(group).items():
        if point.value == reference or (point.attr == component.__qualname__ and load(point) is component):
            return name
    return reference


def parameters(component: type) -> dict[str, dataclasses.Field]:
    """The fields of a component that a config may set."""
    return {field.name: field for field in dataclasses.fields(component) if field.init}


def _check_keys(component: type, keys: Iterable[str], path: str) -> None:
    """Raise ConfigError for a key that the component lacks, with its own reason where it tells one."""
    known = parameters(component)
    for key in keys:
        if key not in known:
            refused = getattr(component, "refused", {}).get(key)
            raise ConfigError(f"{path}.{key}: {refused or f'unknown key; {nearest(key, known)}'}")


def _group_of(component: type, key: str, group: str) -> str:
    """Of which group the components are that a field takes; by default of the component's own."""
    field = parameters(component).get(key)
    return group if field is None else field.metadata.get(GROUP, group)


def validated(component: type, values: Mapping[str, Any], path: str) -> Any:
    """`component(**values)` after checking names and types (JSON's types: no "1" for 1).

    A component may say of keys that it lacks why, in a mapping `refused` of its class.

    Raises:
        ConfigError: unknown key, missing key, wrong type, or a value that the component refuses.
    """
    known = parameters(component)
    _check_keys(component, values, path)
    hints = get_type_hints(component)
    checked = {key: _checked(hints[key], value, f"{path}.{key}") for key, value in values.items()}
    for name, field in known.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"{path}.{name}: missing; {component.__name__} needs it")
    try:
        return component(**checked)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def reason(problem: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says, in words that tell what to write instead."""
    kind, value = problem["type"], problem.get("input")
    if kind in ("is_instance_of", "needs_python_object"):
        return "a component is needed: a mapping with `type`"
    if isinstance(value, str) and kind in ("int_type", "float_type") and _number(value) is not None:
        return f"a number is needed, and {value!r} is text; write {_number(value):g} without quotes"
    if isinstance(value, float) and kind == "int_type" and value.is_integer():
        return f"a whole number is needed; write {value:.0f}"
    return readable(problem["msg"], most=2_000)  # some name the value, however long it is


def _checked(hint: Any, value: Any, path: str) -> Any:
    """`value` as `hint` wants it; components, which were checked when they were built, pass."""
    if _holds_component(value):
        return value
    try:
        try:
            adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        except PydanticUserError:  # a dataclass or a pydantic model brings a config of its own
            adapter = TypeAdapter(hint)
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        reasons = dict.fromkeys(reason(problem) for problem in error.errors())
        raise ConfigError(f"{path}: {'; or '.join(reasons)} (got {shown(value)})") from error
    except TypeError as error:
        raise ConfigError(f"{path}: {error} (got {shown(value)})") from error


def _component(found: Any, name: str, path: str) -> type:
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ConfigError(f"{path}: {shown(name)} is not a dataclass, so it cannot be a component")
    return found


def _is_component(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _nested(group: str, value: Any, plugins: Sequence[str], path: str) -> Any:
    """`value` with every mapping that has a `type`, at any depth, built as a component of `group`."""
    if isinstance(value, Mapping):
        if "type" in value:
            return build(group, value, plugins, path)
        return {key: _nested(group, item, plugins, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_nested(group, item, plugins, f"{path}[{i}]") for i, item in enumerate(value)]
    return value


def _holds_component(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_component(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_component(item) for item in value)
    return _is_component(value)


def _plain(value: Any, group: str, path: str) -> Any:
    """`value` in JSON's types."""
    if _is_component(value):
        return describe(value, group)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, group, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, group, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ConfigError(f"{path}: a {type(value).__name__} cannot be written as JSON: {shown(value)}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
