"""From YAML and the command line to a `RunConfig`, or to an error that says what to write instead.

Hydra composes groups of YAML files and nothing else; components are made by `vla_rl.registry`.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import BaseModel, ValidationError

from vla_rl import registry
from vla_rl.config import compose, saved
from vla_rl.config.compose import CONFIG_FILE
from vla_rl.config.schema import RunConfig
from vla_rl.registry import ADAPTER, ConfigError, nearest
from vla_rl.specs import readable, shown


def load(
    overrides: Sequence[str] = (), *, config_dir: Path | None = None, base: Path | None = None, command: str = "train"
) -> RunConfig:
    """The config of a run: `configs/config.yaml`, or a saved one, and then the overrides, left to right.

    Args:
        overrides: `key=value` for a value, `group=name` for a file of a group, as in Hydra; but where a key takes a
            text or a path, its value is what was typed.
        config_dir: a folder of the user's own groups, beside the shipped ones.
        base: the saved `config.yaml` to start from. Default: the run's that `resume=true run_dir=FOLDER`
            goes on with, or that made the checkpoint which `eval` measures. An override that chooses a
            group's file composes afresh instead. To `eval` and `export` it is a stranger's: what leads out of its
            folder is withheld with a warning, see `vla_rl.config.saved` and `RunConfig.withheld`.
        command: names the default folder, `outputs/<command>/<date>/<time>-<4 letters>_<env>_<policy>`: one for each
            call, also where several are made in one second.

    Raises:
        ConfigError: anything wrong, with the full path, the value and the nearest good one.
    """
    groups, values = compose.split(overrides, config_dir, _text_keys(RunConfig))
    given = {override.key_or_group: override.value() for override in values}
    resumes = given.get("resume") is True
    if resumes:
        base = saved.to_resume(given.get("run_dir"))
    elif base is None and command == "eval":
        base = saved.beside(given.get("eval.checkpoint"))
    own = resumes or command not in saved.OF_STRANGERS
    kept = None if groups or base is None else saved.read(base, given.get("plugins"), own)
    if kept is not None:
        tree = _completed(kept.tree, base)
    else:
        tree = _composed(groups, config_dir, given.get("plugins") or ())
        compose.check_plugins(tree, given.get("plugins"), config_dir or Path("configs"))
    held = [override for override in values if override.key_or_group == "train.held"]
    for override in held:
        compose.assign(tree, override)
    if kept is None or held:
        compose.hold(tree, groups, config_dir)
    for override in values:
        compose.assign(tree, override)
    for override in {override.key_or_group: override for override in values}.values():
        if isinstance(override.value(), int | float) and _takes_text(tree, override.key_or_group):
            compose.assign(tree, compose.as_text(override.input_line or ""))
    run = validate(compose.plain(tree), command)
    withheld = {} if kept is None else saved.still_withheld(kept, tree)
    if withheld:
        warnings.warn(f"{base}: {saved.told(withheld)}", stacklevel=2)
    return run.telling(withheld, (key for override in (*groups, *values) for key in _named(override)))


def given(run: RunConfig | str, overrides: Sequence[str], command: str) -> RunConfig:
    """The config that a function of a command's name was given: as one, or as overrides, which `load` takes.

    Raises:
        ConfigError: overrides of a config, which is frozen; or what `load` raises.
    """
    if isinstance(run, str):
        return load([run, *overrides], command=command)
    if overrides:
        raise ConfigError(f"{command}: overrides {list(overrides)} of a RunConfig, which is frozen; give both to load")
    return run


def validate(values: Mapping[str, Any], command: str = "train") -> RunConfig:
    """A RunConfig of plain values, its default folders filled in. Raises ConfigError."""
    try:
        run = RunConfig.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(_message(error)) from error
    if run.run_dir is None and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("run_dir: null; give it where several processes work together, so that they share a folder")
    name = f"{run.env_name}_{run.policy.name}"
    # Runs that are started by a script in one second get folders of their own.
    moment = f"{time.strftime('%H-%M-%S')}-{secrets.token_hex(2)}"
    run_dir = run.run_dir or Path("outputs", command, time.strftime("%Y-%m-%d"), f"{moment}_{name}")
    demos = run.demos.model_copy(update={"path": run.demos.path or _demos(run)})
    return run.model_copy(update={"run_dir": run_dir, "demos": demos})


def _named(override: Override) -> list[str]:
    """The dotted keys that an override gives: its own, and those inside a mapping."""
    key, value = override.key_or_group, override.value()
    return [key, *(f"{key}.{name}" for name in value)] if isinstance(value, dict) else [key]


def _demos(run: RunConfig) -> Path:
    """Where demonstrations lie by default: in a folder of each environment's name."""
    return Path("outputs", "demos") if run.more_envs else Path("outputs", "demos", run.env.name)


def _composed(groups: Sequence[Override], config_dir: Path | None, plugins: Any) -> DictConfig:
    """The chosen groups' files as one config, where an experiment's algorithm and policy may give way to others.

    What the experiment sets for its own ones, and the others lack, is left out with a warning.
    """
    tree = compose.compose(groups, config_dir)
    chosen = {each.key_or_group: each.value() for each in groups}
    if compose.EXPERIMENT not in chosen:
        return tree
    without = {name: [each for each in groups if each.key_or_group != name] for name in (compose.EXPERIMENT, "policy")}
    alone = partial(compose.compose, without[compose.EXPERIMENT], config_dir)
    left_out = dict[str, list[str]]()
    if "algorithm" in chosen and isinstance(tree.get("algorithm"), DictConfig):
        left_out["algorithm"] = _drop_foreign(tree, plugins, alone)
    if "policy" in chosen:
        own = compose.compose(without["policy"], config_dir).policy
        if own.backbone.get("type") != tree.policy.backbone.get("type"):
            left_out["policy"] = _prefer(tree.policy, alone().policy)
    for group, keys in left_out.items():
        if keys:
            warnings.warn(
                f"{group}={chosen[group]}: has no {', '.join(keys)}, which experiment={chosen[compose.EXPERIMENT]} "
                "sets; left out",
                stacklevel=3,
            )
    return tree


def _drop_foreign(tree: DictConfig, plugins: Any, alone: Callable[[], DictConfig]) -> list[str]:
    """Leave settings out that the algorithm lacks, unless its own file, by `alone`, has them; which these were."""
    try:
        component = registry.resolve("algorithms", tree.algorithm.get("type"), plugins)
    except ConfigError:  # which `validate` tells with its path
        return []
    foreign = set(tree.algorithm) - {"type", *get_type_hints(component)}
    if foreign:
        foreign -= set(alone().algorithm)
        for key in foreign:
            del tree.algorithm[key]
    return sorted(foreign)


def _prefer(policy: DictConfig, alone: DictConfig) -> list[str]:
    """Have a policy's own backbone, and what its head reads, in place of what suits another one; which differed."""
    said = []
    for part, names in (("backbone", set(policy.backbone) | set(alone.backbone)), ("head", {"reads"})):
        for name in sorted(names):
            if policy[part].get(name) == alone[part].get(name):
                continue
            said.append(f"{part}.{name}={policy[part].get(name)}")
            if name in alone[part]:
                policy[part][name] = alone[part][name]
            else:
                del policy[part][name]
    return said


def _completed(tree: DictConfig, file: Path | None) -> DictConfig:
    """A saved config with every key that there has come to be since, as the shipped configs have it."""
    lacks = [
        key for key in _key_paths(RunConfig) if not compose.has(tree, key) and compose.has(tree, key.rpartition(".")[0])
    ]
    if lacks:
        shipped = compose.compose([], None)
        for key in lacks:
            OmegaConf.update(tree, key, OmegaConf.select(shipped, key), force_add=True)
        named = ", ".join(f"{key}={OmegaConf.select(tree, key)}" for key in lacks)
        warnings.warn(f"{file}: of an older version; what it lacks is as now shipped: {named}", stacklevel=3)
    return tree


def _text_keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    """The dotted keys of a model whose values are texts or paths."""
    found = set[str]()
    for name, hint in get_type_hints(model).items():
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            found |= _text_keys(hint, f"{prefix}{name}.")
        elif _is_text(hint):
            found.add(prefix + name)
    return found


def _is_text(hint: Any) -> bool:
    """Whether a type's values are texts or paths, and not numbers."""
    kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
    return not kinds.isdisjoint((str, Path)) and kinds.isdisjoint((bool, int, float))


def _takes_text(tree: DictConfig, key: str) -> bool:
    """Whether a key is a field of a component, in the tree as it is now, that takes a text or a path."""
    holder, _, field = key.rpartition(".")
    found = OmegaConf.select(tree, holder, default=None) if holder else None
    plugins = tree.get("plugins")
    listed = list(plugins) if isinstance(plugins, ListConfig) else []
    group = next((group for place, group in compose.PLACES.items() if f"{holder}.".startswith(f"{place}.")), None)
    try:
        if holder == "env.adapter":
            component = registry.resolve("envs", ADAPTER)
        elif group is not None and isinstance(found, DictConfig):
            component = registry.resolve(group, found.get("type"), listed, holder)
        else:
            return False
    except ConfigError:  # which `validate` tells with its path
        return False
    return _is_text(get_type_hints(component).get(field))


def _message(error: ValidationError) -> str:
    """The first problem in full, and the number of the others."""
    problems = error.errors()
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return _problem(problems[0]) + more


def _problem(problem: Any) -> str:
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return str(cause)
    location, value = problem["loc"], problem["input"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{readable(part)}" for part in location).lstrip(".")
    if problem["type"] == "missing":
        return f"{path}: missing; {CONFIG_FILE} of the shipped configs has every key"
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key (got {shown(value)}); {_nearest_key(location)}"
    return f"{path}: {registry.reason(problem)} (got {shown(value)})"


def _nearest_key(location: Sequence[str | int]) -> str:
    """A hint for an unknown key: the same word elsewhere, or the nearest in its place."""
    *parents, key = location
    model: Any = RunConfig
    for parent in parents:
        held = model.model_fields[parent].annotation
        model = next(each for each in (*get_args(held), held) if hasattr(each, "model_fields"))
    near = nearest(key, model.model_fields)
    same = [path for path in _key_paths(RunConfig) if path.rsplit(".", 1)[-1] == key]
    return f"did you mean {' or '.join(map(repr, same))}?" if same else near


def _key_paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key of a model, parts included."""
    found = []
    for name, field in model.model_fields.items():
        found.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _key_paths(field.annotation, f"{prefix}{name}.")
    return found
