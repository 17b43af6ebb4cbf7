"""Scripted experts: expressions that read a page, see experts.js, and give a gesture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from sims.screen.interaction import Gesture
from vla_rl.registry import ConfigError

_FUNCTIONS = (files("sims.web") / "experts.js").read_text("utf-8")

MINIWOB = tuple(re.findall(r'^  "([a-z0-9-]+)": ', _FUNCTIONS, re.M))
"""The tasks of MiniWoB that there is an expert for."""


def code(expression: str) -> str:
    """An expression that may call the functions of experts.js."""
    return f"(() => {{ {_FUNCTIONS}\nreturn ({expression}); }})()"


def gesture(said: Any, shift: tuple[float, float]) -> Gesture:
    """The gesture that an expert gave, its places moved by `shift` pixels. Raises ConfigError where it is none."""
    known = {"kind", "at", "to", "text", "key"}
    if not isinstance(said, Mapping) or "kind" not in said or not set(said) <= known:
        raise ConfigError(f"an expert gives {{kind: ..., at: [x, y], to: [x, y], text: ..., key: ...}}, got {said!r}")
    places = {name: (said[name][0] + shift[0], said[name][1] + shift[1]) for name in ("at", "to") if name in said}
    return Gesture(**{**said, **places})
