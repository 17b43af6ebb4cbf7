"""Plain values from groups of YAML files and `key=value` overrides: all that Hydra is used for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import KeyValidationError, OmegaConfBaseException
from yaml import YAMLError

from vla_rl import paths
from vla_rl.registry import ConfigError, nearest

CONFIG_FILE = "config.yaml"
"""The config that lies in a run's folder: what `resume=true` and `vla-rl eval` start from."""


def split(overrides: Sequence[str], config_dir: Path | None) -> tuple[list[Override], list[Override]]:
    """The overrides that choose a group's file, and those that set a value."""
    folders = [paths.shipped("configs"), *([config_dir] if config_dir else [])]
    groups: list[Override] = []
    values: list[Override] = []
    for text in overrides:
        override = _parse(text)
        names_file = isinstance(override.value(), str | None)
        is_group = any((folder / override.key_or_group).is_dir() for folder in folders)
        (groups if is_group and names_file else values).append(override)
    return groups, values


def _parse(text: str) -> Override:
    """One override. Raises ConfigError unless it sets one key to one value."""
    try:
        override = OverridesParser.create().parse_overrides([text])[0]
    except OverrideParseException as error:
        raise ConfigError(f"cannot read {text!r}: expected key=value, such as train.steps=1000") from error
    key = override.key_or_group
    if not key or override.package is not None:
        raise ConfigError(f"cannot read {text!r}: the key is empty or holds an '@'; expected key=value")
    if override.is_delete():
        raise ConfigError(f"{key}: keys cannot be deleted ({text!r}); set it to null")
    if override.is_sweep_override():
        raise ConfigError(f"{key}: one value a run; got {text!r} (a list is written [a,b])")
    if override.value() == "":
        raise ConfigError(f"{key}: {text!r} gives no value; write {key}=null for none")
    return override


def compose(groups: Sequence[Override], config_dir: Path | None) -> DictConfig:
    """The shipped `config.yaml` with the chosen groups' files, the user's own among them."""
    chosen = [f"{override.key_or_group}={override.get_value_element_as_str()}" for override in groups]
    if config_dir is not None:
        if not config_dir.is_dir():
            raise ConfigError(f"--config-dir: {config_dir} is not a folder")
        quoted = str(config_dir.resolve()).replace("'", "\\'")
        chosen.append(f"hydra.searchpath=['file://{quoted}']")
    try:
        with initialize_config_dir(str(paths.shipped("configs")), version_base="1.3", job_name="vla_rl"):
            tree = hydra_compose("config", overrides=chosen)
    except MissingConfigException as error:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        raise ConfigError(f"{group}: no config file {name!r}; {nearest(name, error.options or ())}") from error
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        named = " ".join(f"{each.key_or_group}={each.value()}" for each in groups) or CONFIG_FILE
        raise ConfigError(f"{named}: {_one_line(error)}") from error
    OmegaConf.set_struct(tree, False)
    return tree


def saved(run_dir: Any) -> Path:
    """The config of the run that `resume=true` goes on with."""
    if not run_dir:
        raise ConfigError("resume: give run_dir=FOLDER too, the folder of the run to go on with")
    file = Path(str(run_dir)) / CONFIG_FILE
    if not file.is_file():
        raise ConfigError(f"resume: {run_dir} holds no {CONFIG_FILE}, so there is no run to go on with")
    return file


def beside(checkpoint: Any) -> Path | None:
    """The config of the run that made a checkpoint, where it was kept: RUN/checkpoints/STEP/pretrained_model."""
    if not checkpoint:
        return None
    folder = Path(str(checkpoint)).resolve()
    files = (each / CONFIG_FILE for each in (folder, *list(folder.parents)[:3]))
    return next((file for file in files if file.is_file()), None)


def read(file: Path, plugins: Any) -> DictConfig:
    """A saved config, less where it ran. It may not widen what the user's command lets a config import."""
    try:
        tree = OmegaConf.load(file)
    except (OSError, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"{file}: {_one_line(error)}") from error
    if not isinstance(tree, DictConfig):
        raise ConfigError(f"{file}: expected the keys of a run")
    listed = plugins if isinstance(plugins, list) else []
    missing = [name for name in tree.get("plugins") or () if name not in listed]
    if missing:
        raise ConfigError(
            f"plugins: {file} needs the modules {missing}; give plugins=[{','.join(map(str, missing))}] "
            "to let it import them"
        )
    tree.run_dir, tree.resume = None, False
    return tree


def assign(tree: DictConfig, override: Override) -> None:
    """Set one value; a mapping merges into what is there, but a component (with `type`) takes its place."""
    key, value = override.key_or_group, override.value()
    replaces = isinstance(value, dict) and "type" in value
    try:
        OmegaConf.update(tree, key, value, merge=not replaces, force_add=True)
    except (OmegaConfBaseException, AssertionError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"{key}: cannot be set to {value!r}: {_one_line(error)}") from error


def plain(tree: DictConfig) -> dict[str, Any]:
    """The tree as plain values, its interpolations resolved."""
    try:
        values = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_one_line(error)}") from error
    assert isinstance(values, dict), values
    return {str(key): value for key, value in values.items()}


def _one_line(error: BaseException) -> str:
    """What an error says; Hydra hides some causes behind an empty one."""
    cause = error.__cause__ or error.__context__
    if not str(error) and cause is not None:
        return _one_line(cause)
    if isinstance(error, KeyValidationError):
        return "a key is empty or is not text"
    # OmegaConf puts its own bookkeeping on the lines after the first.
    text = str(error).partition("\n")[0] if isinstance(error, OmegaConfBaseException) else str(error)
    return " ".join(text.split())
