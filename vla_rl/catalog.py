"""What a config may name: every registered component with its parameters, for `vla-rl list`."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from vla_rl import registry
from vla_rl.registry import ConfigError


class Entry(TypedDict):
    """One registered component. `error` says why it cannot be used here; null where it can."""

    name: str
    summary: str
    parameters: list[dict[str, Any]]
    error: str | None


def describe_group(group: str) -> list[Entry]:
    """Every component of a group, by name; one that cannot be imported is listed with its error."""
    found = []
    for name, point in registry.entries(group).items():
        try:
            component = registry.load(point)
        except ConfigError as error:
            found.append(Entry(name=name, summary="not available here", parameters=[], error=str(error)))
            continue
        found.append(Entry(name=name, summary=_summary(component), parameters=_parameters(component), error=None))
    return found


def to_text(groups: Mapping[str, Sequence[Entry]]) -> str:
    """The groups as a person reads them."""
    lines = []
    for group, members in groups.items():
        lines.append(f"{group}:")
        for entry in members:
            lines.append(f"  {entry['name']}  {entry['summary']}")
            lines += [f"      {_line(parameter)}" for parameter in entry["parameters"]]
            lines += [f"      {entry['error']}"] if entry["error"] else []
        lines.append("" if members else "  (none)\n")
    return "\n".join(lines).rstrip()


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
