"""Overrides of several values, in Hydra's grammar. Each combination of values is a run.

`seed=1,2,3`, `seed=range(1,4)`, `env=choice(reach,push)`, `env=glob(gui_*)`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException, OverrideParseException

from vla_rl import paths
from vla_rl.registry import ConfigError

SWEEP_FILE = "sweep.json"
"""What tells the runs of a sweep, in its folder."""
MOST_RUNS = 1_000
OF_A_RUN = ("run_dir", "resume", "plugins")
"""Keys that a sweep has once, for all of its runs."""
_NAME = 80
"""Letters of a run's folder, at most."""


@dataclass(frozen=True)
class Planned:
    """One run of a sweep. name: its folder's. overrides: all of its own, those that vary last."""

    name: str
    overrides: tuple[str, ...]


def expand(overrides: Sequence[str], config_dir: Path | None = None) -> list[Planned]:
    """The runs of a sweep: every combination of the values given, the last key's changing fastest.

    Raises:
        ConfigError: values that cannot be listed one by one; a key that a sweep has once; more than MOST_RUNS.
    """
    fixed, axes = [], list[tuple[str, list[str]]]()
    for text in overrides:
        found = _values(text, config_dir)
        if found is None:
            fixed.append(text)
        else:
            axes.append(found)
    twice = [key for key, _ in axes]
    for key in twice:
        if twice.count(key) > 1:
            raise ConfigError(f"{key}: given several values twice; list them all in one place")
    count = 1
    for _, values in axes:
        count *= len(values)
    if count > MOST_RUNS:
        told = " x ".join(f"{len(values)} of {key}" for key, values in axes)
        raise ConfigError(f"-m: {count} runs ({told}), at most {MOST_RUNS}")
    chosen = itertools.product(*([(key, value) for value in values] for key, values in axes))
    width = len(str(count - 1))
    return [
        Planned(_folder_name(f"{number:0{width}d}", pairs), (*fixed, *(f"{key}={value}" for key, value in pairs)))
        for number, pairs in enumerate(chosen)
    ]


def _folder_name(number: str, pairs: Sequence[tuple[str, str]]) -> str:
    told = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in pairs)
    return re.sub(r"[^\w.,=+-]+", "_", f"{number}_{told}".rstrip("_"))[:_NAME]


def _values(text: str, config_dir: Path | None) -> tuple[str, list[str]] | None:
    """The key and the values of an override that has several; None of one that has not."""
    try:
        override: Override = OverridesParser.create().parse_overrides([text])[0]
    except OverrideParseException:
        return None  # which the config of each run tells better, or takes for a text
    if not override.is_sweep_override():
        return None
    key = override.key_or_group
    if key in OF_A_RUN:
        raise ConfigError(f"{key}: one for the whole sweep; got {text!r}")
    value = override.value()
    if isinstance(value, Glob):
        folders = (paths.shipped("configs") / key, *([config_dir / key] if config_dir else []))
        found = value.filter(paths.named_configs(*folders))
        if not found:
            raise ConfigError(f"{key}: {text!r} matches no file of the group")
        return key, found
    try:
        values = list(itertools.islice(override.sweep_string_iterator(), MOST_RUNS + 1))
    except (HydraException, ValueError) as error:
        raise ConfigError(f"{key}: {text!r} cannot be listed one by one; write {key}=a,b,c") from error
    if not values:
        raise ConfigError(f"{key}: {text!r} has no value")
    if len(set(values)) < len(values):
        raise ConfigError(f"{key}: {text!r} has a value twice")
    return key, values
