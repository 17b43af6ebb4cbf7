"""Names -> components: built-in and entry-point names, and the user's own `module:Class`.

A component is a frozen dataclass; its fields are its config. A mapping {"type": name, field: value}
becomes an instance, with the path of the offending key in every error. Nothing is imported unless it
is registered by an installed package or lies in a module that the run's own `plugins` list names.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

GROUPS = ("sensors", "action_spaces", "envs", "algorithms", "backbones")


class ConfigError(ValueError):
    """A config that cannot be used. The message names the full path, the value and the nearest good one."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def entries(group: str) -> dict[str, EntryPoint]:
    """The registered names of a group, sorted, without importing what they name."""
    assert group in GROUPS, group
    found = {point.name: point for point in entry_points(group=f"vla_rl.{group}")}
    return dict(sorted(found.items()))


def resolve(group: str, name: str, plugins: Sequence[str] = (), path: str = "type") -> type:
    """The class that `name` names: a registered name, or `module:Class` from a listed module.

    Raises:
        ConfigError: unknown name; a module that `plugins` does not list (refused before the import);
            a listed module that lacks the class.
    """
    if ":" not in str(name):
        known = entries(group)
        if name not in known:
            raise ConfigError(f"{path}: unknown name {name!r} among {group}; {nearest(name, known)}")
        return known[name].load()
    module, _, attribute = name.partition(":")
    if module not in plugins:
        raise ConfigError(
            f"{path}: {name!r} lies in module {module!r}, which the run's `plugins` do not list "
            f"(listed: {', '.join(plugins) or 'none'}); add it there to let the config import it"
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path}: cannot import {module!r}: {error}") from error
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ConfigError(f"{path}: {name!r} is not a dataclass of module {module!r}")
    return found


def build(group: str, config: Any, plugins: Sequence[str] = (), path: str = "") -> Any:
    """The component that `config` describes: an instance already, a name, or {"type": name, ...}.

    Nested mappings with a `type` are components of the same group.

    Raises:
        ConfigError: see the module's text.
    """
    path = path or group
    if isinstance(config, str):
        config = {"type": config}
    if not isinstance(config, Mapping):
        if dataclasses.is_dataclass(config):
            return config
        raise ConfigError(f"{path}: expected a name or a mapping with `type`, got {config!r}")
    if "type" not in config:
        raise ConfigError(f"{path}: lacks the key 'type', one of {', '.join(entries(group))}")
    component = resolve(group, config["type"], plugins, f"{path}.type")
    values = {key: _nested(group, value, plugins, f"{path}.{key}") for key, value in config.items() if key != "type"}
    return validated(component, values, path)


def parameters(component: type) -> dict[str, dataclasses.Field]:
    """The fields of a component that a config may set."""
    return {field.name: field for field in dataclasses.fields(component) if field.init}


def validated(component: type, values: Mapping[str, Any], path: str) -> Any:
    """`component(**values)` after checking names and types (JSON's types: no "1" for 1).

    Raises:
        ConfigError: unknown key, missing key, wrong type, or a value that the component refuses.
    """
    known = parameters(component)
    for key in values:
        if key not in known:
            raise ConfigError(f"{path}.{key}: unknown key; {nearest(key, known)}")
    hints = get_type_hints(component)
    checked = {}
    for key, value in values.items():
        if _holds_component(value):
            checked[key] = value
            continue
        try:
            adapter = TypeAdapter(hints[key], config=ConfigDict(arbitrary_types_allowed=True))
            checked[key] = adapter.validate_json(json.dumps(value), strict=True)
        except (ValidationError, TypeError) as error:
            raise ConfigError(f"{path}.{key}: {_reason(error)} (got {value!r})") from error
    missing = [
        name for name, field in known.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{path}.{missing[0]}: missing; {component.__name__} needs it")
    try:
        return component(**checked)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


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
    return dataclasses.is_dataclass(value)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(dict.fromkeys(problem["msg"] for problem in error.errors()))
    return str(error)
