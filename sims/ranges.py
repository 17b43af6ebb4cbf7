"""Fields of a task that must lie in a range."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any


def within(default: float, low: float, high: float) -> Any:
    """A field that must lie in [`low`, `high`]."""
    return field(default=default, metadata={"range": (low, high)})


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless `low` <= `value` <= `high`."""
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {value}")


def check_fields(task: Any) -> None:
    """Hold a dataclass's fields made by `within` against their ranges. Raises ValueError."""
    for each in fields(task):
        if "range" in each.metadata:
            check_range(each.name, getattr(task, each.name), *each.metadata["range"])
