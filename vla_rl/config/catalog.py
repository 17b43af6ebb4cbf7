"""What a config may name: every registered component with its parameters, for `vla-rl list`."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import gymnasium
import yaml

from vla_rl import paths, registry
from vla_rl.config import compose
from vla_rl.registry import ADAPTER, ConfigError


class Entry(TypedDict):
    """One registered component. `error` says why it cannot be used here; null where it can.

    An environment's name is what `env=` takes; `id` is Gymnasium's, `suite` the family that it belongs to, `sensors`
    what is observed, `actions` a name for each of an action's numbers, null where they have none. `installed` says
    whether it can be made here. `tasks`: of a name that stands for several environments, theirs; it has no `id`.
    """

    name: str
    summary: str
    parameters: list[dict[str, Any]]
    error: str | None
    id: NotRequired[str]
    suite: NotRequired[str]
    sensors: NotRequired[list[str]]
    tasks: NotRequired[list[str]]
    actions: NotRequired[list[str] | None]
    installed: NotRequired[bool]


def describe_group(group: str) -> list[Entry]:
    """Every component of a group, by name; one that cannot be imported is listed with its error.

    The environments are the configs of the group `env`, and the registered ones that have no config.
    """
    if group == "envs":
        return describe_envs(paths.shipped("configs") / "env")
    return [_described(name, registry.entries(group)[name]) for name in registry.entries(group)]


def describe_envs(folder: Path) -> list[Entry]:
    """Every `<name>.yaml` of a folder (but for `_<name>.yaml`, which others build on), then the tasks without one."""
    found = [_described_env(name, file) for name, file in paths.named_configs(folder).items()]
    known = {entry["id"] for entry in found if "id" in entry} | {ADAPTER}
    bare = {"sensors": None, "actions": None}
    return found + [_task(name, {"id": name, **bare}) for name in registry.entries("envs") if name not in known]


def _described(name: str, point: Any) -> Entry:
    try:
        component = registry.load(point)
    except ConfigError as error:
        return Entry(name=name, summary="not available here", parameters=[], error=str(error))
    return Entry(name=name, summary=_summary(component), parameters=_parameters(component), error=None)


def _described_env(name: str, file: Path) -> Entry:
    config = _composed(file)
    if compose.TASKS in config:
        entry = Entry(name=name, summary="", parameters=[], error=None, tasks=list(config[compose.TASKS]))
    else:
        entry = _task(name, config) if config.get("adapter") is None else _adapted(name, config)
    first = file.read_text("utf-8").partition("\n")[0]
    return {**entry, "summary": first.removeprefix("#").strip()} if first.startswith("#") else entry


def _adapted(name: str, config: Mapping[str, Any]) -> Entry:
    """Another package's environment; its parameters are those of `env.adapter`."""
    component = registry.resolve("envs", ADAPTER)
    settings = registry.validated(component, config["adapter"], f"{name}: adapter")
    parameters = [{**each, "name": f"adapter.{each['name']}"} for each in _parameters(component)]
    return {
        **Entry(name=name, summary="", parameters=parameters, error=None),
        **_common(name, config),
        "suite": settings.suite or "gymnasium",
        "installed": settings.installed,
    }


def _task(name: str, config: Mapping[str, Any]) -> Entry:
    """An environment of our own: its summary and parameters are its task's, its suite the package of its module."""
    spec = _registered().get(config["id"])
    if spec is None:
        error = f"{config['id']} is not registered"
        nothing = Entry(name=name, summary="not available here", parameters=[], error=error)
        return {**nothing, **_common(name, config), "suite": "", "installed": False}
    entry = _described(name, registry.entries("envs")[spec.kwargs["task"]])
    suite = str(spec.entry_point).split(".")[1]
    missing = "" if entry["error"] else _missing(registry.entries("envs")[spec.kwargs["task"]])
    return {**entry, **_common(name, config), "suite": suite, "installed": not (entry["error"] or missing)}


def _missing(point: Any) -> str:
    """What a task says that it lacks here, in its class method `missing`; "" for most, which have none."""
    return getattr(registry.load(point), "missing", str)()


def _registered() -> Mapping[str, Any]:
    """Gymnasium's environments, ours among them; other packages, which would take long to import, are left alone."""
    for point in entry_points(group="gymnasium.envs", name="vla_rl"):
        point.load()()
    return gymnasium.registry


def _common(name: str, config: Mapping[str, Any]) -> Any:
    """What a config says of any environment."""
    sensors = [sensor.get("name") or sensor["type"] for sensor in config.get("sensors") or ()]
    return {"name": name, "id": config["id"], "sensors": sensors, "actions": config.get("actions")}


def _composed(file: Path) -> dict[str, Any]:
    """A config of the group `env` over those that its `defaults` name, as Hydra composes them (which takes longer)."""
    own = yaml.safe_load(file.read_text("utf-8")) or {}
    merged: dict[str, Any] = {}
    for name in own.pop("defaults", ()):
        if name != "_self_":
            merged = _merged(merged, _composed(file.parent / f"{str(name).rpartition('/')[2]}.yaml"))
    return _merged(merged, own)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`: mappings merge, anything else replaces."""
    both = {key: _merged(below[key], value) for key, value in above.items() if _both_mappings(below.get(key), value)}
    return {**below, **above, **both}


def _both_mappings(one: Any, other: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(other, Mapping)


def to_text(groups: Mapping[str, Sequence[Entry]]) -> str:
    """The groups as a person reads them."""
    lines = []
    for group, members in groups.items():
        lines.append(f"{group}:")
        for entry in members:
            lines.append(f"  {entry['name']}  {entry['summary']}")
            lines += [f"      {_where(entry)}"] if "id" in entry else []
            lines += [f"      {', '.join(entry['tasks'])}"] if "tasks" in entry else []
            own = [each for each in entry["parameters"] if not each["name"].startswith("adapter.")]
            lines += [f"      {_line(parameter)}" for parameter in own]
            lines += [f"      {entry['error']}"] if entry["error"] else []
        lines.append("" if members else "  (none)\n")
    return "\n".join(lines).rstrip()


def _where(entry: Entry) -> str:
    state = "" if entry["installed"] else ", not installed"
    return f"{entry['id']} ({entry['suite']}{state}); sensors: {', '.join(entry['sensors'])}"


def _summary(component: Any) -> str:
    return (inspect.getdoc(component) or "").partition("\n")[0]


def _parameters(component: Any) -> list[dict[str, Any]]:
    """Name, type, and the default where there is one, of everything that a config may set."""
    if dataclasses.is_dataclass(component):
        fields = registry.parameters(component).values()  # type: ignore[arg-type]
        return [_parameter(field.name, field.type, _default(field)) for field in fields]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(component).parameters.values()
    return [_parameter(each.name, each.annotation, each.default) for each in signature if each.kind in kinds]


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def _parameter(name: str, annotation: Any, default: Any) -> dict[str, Any]:
    kind = "" if annotation is inspect.Parameter.empty else annotation
    entry = {"name": name, "type": kind if isinstance(kind, str) else inspect.formatannotation(kind)}
    return (
        entry
        if default is inspect.Parameter.empty
        else entry | {"default": json.loads(json.dumps(default, default=str))}
    )


def _line(parameter: Mapping[str, Any]) -> str:
    text = f"{parameter['name']}: {parameter['type']}" if parameter["type"] else str(parameter["name"])
    return f"{text} = {json.dumps(parameter['default'], ensure_ascii=False)}" if "default" in parameter else text
