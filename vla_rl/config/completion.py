"""What a shell may complete: commands and flags by argparse, overrides by the config's keys and files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import argcomplete

from vla_rl import paths, registry
from vla_rl.config import loading
from vla_rl.config.schema import RunConfig

GROUPS = ("env", "policy", "algorithm", "experiment", "distributed")
"""The folders of `configs/`, whose files a key of that name chooses."""


def script(shell: str) -> str:
    """What `eval` takes in that shell: "bash" or "zsh"."""
    return argcomplete.shellcode(["vla-rl"], shell=shell)


def answer(top: argparse.ArgumentParser) -> None:
    """Answer the shell, which has asked by environment variables, and end."""
    for command in next(each.choices for each in top._actions if isinstance(each, argparse._SubParsersAction)).values():
        for action in command._actions:
            if action.dest == "overrides":
                bare = (action.metavar or "").startswith("ENV")
                action.completer = lambda prefix, bare=bare, **_: list(overrides(prefix, bare))
    argcomplete.autocomplete(top, validator=lambda word, prefix: word.startswith(prefix))


def overrides(prefix: str, bare: bool = False) -> Iterable[str]:
    """The overrides that begin with `prefix`, up to their "="; behind it what the key may be. bare: environments' names
    alone, too."""
    key, equals, _ = prefix.partition("=")
    found = [f"{key}={value}" for value in values(key)] if equals else [f"{name}=" for name in keys()]
    if bare and not equals:
        found += files("env")
    return (text for text in found if text.startswith(prefix))


def keys() -> list[str]:
    """Every key that takes a value."""
    known = loading._key_paths(RunConfig)
    leaves = [key for key in known if not any(other.startswith(f"{key}.") for other in known)]
    algorithm = registry.resolve("algorithms", "pa_rl")
    return sorted({*leaves, *GROUPS, *(f"algorithm.{name}" for name in registry.parameters(algorithm))})


def values(key: str) -> list[str]:
    """What a key may be, where that is a choice."""
    if key in GROUPS:
        return files(key)
    hint: Any = RunConfig
    for part in key.split("."):
        fields = get_type_hints(hint) if isinstance(hint, type) else {}
        hint = fields.get(part)
    if hint is bool:
        return ["true", "false"]
    return [str(each) for each in get_args(hint)] if get_origin(hint) is Literal else []


def files(group: str) -> list[str]:
    """The names of a group's files."""
    return list(paths.named_configs(Path(paths.shipped("configs"), group)))
