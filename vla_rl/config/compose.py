"""Plain values from groups of YAML files and `key=value` overrides: all that Hydra is used for."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import GrammarParseError, KeyValidationError, OmegaConfBaseException
from yaml import YAMLError

from vla_rl import paths
from vla_rl.config import sources
from vla_rl.registry import ConfigError, nearest
from vla_rl.specs import MOST_LETTERS

MOST_OVERRIDES = 1_000
CONFIG_FILE = "config.yaml"
"""The config that lies in a run's folder: what `resume=true` and `vla-rl eval` start from."""


EXPERIMENT = "experiment"
OPTIONAL = (EXPERIMENT, "distributed")
"""The groups that may be left out: `null` is their default."""
ENV, MORE, TASKS, HELD = "env", "more_envs", "tasks", "held_envs"
"""The group of which a run may have several: the first, the key of the others, and what lists them in a file of it; and
the key of those that are held."""
PLACES = {
    "action_space": "action_spaces",
    "algorithm.cost": "costs",
    "algorithm.credit": "credits",
    "algorithm.occupancy": "occupancies",
    "algorithm.adaptation": "adaptations",
    "algorithm": "algorithms",
    "policy.backbone": "backbones",
    "env.sensors": "sensors",
    "env.adapter.expert": "experts",
    "replay.hindsight": "goals",
    "replay.on_episode": "listeners",
    "train.rehearsal": "rehearsals",
}
"""Where components stand, and of which group they are."""


def split(
    overrides: Sequence[str], config_dir: Path | None, texts: Collection[str] = ()
) -> tuple[list[Override], list[Override]]:
    """The overrides that choose a group's file, and those that set a value.

    texts: keys whose values are texts, or paths, so that a value is what was typed: `2026_11_28` is no number there,
    and `a, b` no list. Elsewhere what Hydra cannot read, such as `tür (left)`, is a text too.

    Raises:
        ConfigError: what is no override; or no file, where there must be one.
    """
    if len(overrides) > MOST_OVERRIDES:
        raise ConfigError(
            f"{len(overrides)} overrides, at most {MOST_OVERRIDES}; write a file for --config-dir instead"
        )
    folders = [paths.shipped("configs"), *([config_dir] if config_dir else [])]
    groups: list[Override] = []
    values: list[Override] = []
    for text in overrides:
        override = _parse(text, texts)
        names_file = isinstance(override.value(), str | None) or bool(_listed(override))
        is_group = any((folder / override.key_or_group).is_dir() for folder in folders)
        if is_group and override.value() is None:
            left_out = _optional(override, folders)
            groups = [each for each in groups if each.key_or_group != left_out]
            values += [] if left_out == EXPERIMENT else [override]  # a saved config may have one
        else:
            (groups if is_group and names_file else values).append(override)
    return groups, values


def _optional(override: Override, folders: Sequence[Path]) -> str:
    """The group of which nothing is chosen. Raises ConfigError where something must be."""
    group = override.key_or_group
    if group not in OPTIONAL:
        known = ", ".join(paths.named_configs(*(folder / group for folder in folders)))
        raise ConfigError(f"{group}: null, but every run needs one; known: {known}")
    return group


def _parse(text: str, texts: Collection[str]) -> Override:
    """One override. Raises ConfigError unless it sets one key to one value."""
    if len(text) > MOST_LETTERS:
        named, _, value = text.partition("=")
        raise ConfigError(f"{named[:60]}: {len(value)} characters, at most {MOST_LETTERS}")
    if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise ConfigError(f"cannot read {text!r}: it is no UTF-8")
    override = _read(text, texts)
    key = override.key_or_group
    if not key or override.package is not None:
        raise ConfigError(f"cannot read {text!r}: the key is empty or holds an '@'; expected key=value")
    if override.is_delete():
        raise ConfigError(f"{key}: keys cannot be deleted ({text!r}); set it to null")
    if override.is_sweep_override():
        raise ConfigError(
            f"{key}: one value a run; got {text!r} (a list is written [a,b], a text with a comma \"{key}='a, b'\"; "
            "with -m there is a run for each)"
        )
    if override.value() == "":
        raise ConfigError(f"{key}: {text!r} gives no value; write {key}=null for none")
    return override


def _read(text: str, texts: Collection[str]) -> Override:
    """One override, as Hydra reads it or as a text."""
    try:
        read = _hydra(text)
    except OverrideParseException as error:
        key, equals, value = text.partition("=")
        try:
            bare = _hydra(f"{key}=x")
        except OverrideParseException:
            bare = None
        if not equals or bare is None:
            raise ConfigError(f"cannot read {text!r}: expected key=value, such as train.steps=1000") from error
        if bare.key_or_group not in texts and value.strip()[:1] in ("[", "{", "'", '"'):
            raise ConfigError(
                f"{bare.key_or_group}: cannot read {value!r}; in a list or a mapping, a text that is not made of "
                "letters a to z, digits and . / - _ is quoted: ['pick (red)', 'tür'], {key: 'a=b'}"
            ) from error
        return as_text(text)
    if read.key_or_group not in texts or read.is_delete() or read.value() is None:
        return read
    value = text.partition("=")[2].strip()
    in_hydras_words = value[:1] in ("'", '"') or "\\" in value
    return read if in_hydras_words and isinstance(read.value(), str) else as_text(text)


def as_text(text: str) -> Override:
    """The override with its value as it was typed, whatever that looks like."""
    key, _, value = text.partition("=")
    return _hydra(f"{key}={QuotedString(value.strip(), Quote.single).with_quotes()}")


def _hydra(text: str) -> Override:
    return OverridesParser.create().parse_overrides([text])[0]


def _listed(override: Override) -> list[str]:
    """The names of several environments that an override lists; none where it does not."""
    value = override.value()
    if override.key_or_group != ENV or not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return []
    return [str(each) for each in value]


def compose(groups: Sequence[Override], config_dir: Path | None) -> DictConfig:
    """The shipped `config.yaml` with the chosen groups' files, the user's own among them.

    Of several environments, listed by `env=[reach,push]` or as `tasks` in a file of the group, the first is `env` and
    the others are `more_envs`. What else such a file says holds for each of them.
    """
    rest = [each for each in groups if each.key_or_group != ENV]
    chosen = [each for each in groups if each.key_or_group == ENV][-1:]
    names, common = _listed(chosen[0]) if chosen else [], OmegaConf.create()
    if not names:
        tree = _composed([*rest, *chosen], config_dir)
        if not _is_group(tree):
            return tree
        common = tree.env
        names = _task_names(common.pop(TASKS))
    trees = [_composed([*rest, _hydra(f"{ENV}={name}")], config_dir) for name in names]
    within = next((name for name, tree in zip(names, trees, strict=True) if _is_group(tree)), None)
    if within is not None:
        raise ConfigError(f"env.tasks: {within!r} lists several environments itself; list them here instead")
    tree = trees[0]
    tree[MORE] = [OmegaConf.merge(each.env, common) for each in trees[1:]]
    tree.env = OmegaConf.merge(tree.env, common)
    return tree


def hold(tree: DictConfig, groups: Sequence[Override], config_dir: Path | None) -> None:
    """Have `held_envs` be the files of the group env that `train.held` names.

    Raises:
        ConfigError: there is no such file, or it lists several environments.
    """
    names = OmegaConf.select(tree, "train.held", default=None) or []
    rest = [each for each in groups if each.key_or_group != ENV]
    found = {str(name): _composed([*rest, _hydra(f"{ENV}={name}")], config_dir) for name in names}
    within = next((name for name, each in found.items() if _is_group(each)), None)
    if within is not None:
        raise ConfigError(f"train.held: {within!r} lists several environments itself; list them here instead")
    tree[HELD] = [each.env for each in found.values()]


def _is_group(tree: DictConfig) -> bool:
    return isinstance(tree.get(ENV), DictConfig) and TASKS in tree.env


def _task_names(value: Any) -> list[str]:
    """What `tasks` lists. Raises ConfigError where that is not at least one name."""
    names = list(value) if isinstance(value, ListConfig) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"env.tasks: expected a list of files of the group env, such as [reach, push]; got {value}")
    return names


def _composed(groups: Sequence[Override], config_dir: Path | None) -> DictConfig:
    """As `compose`, with one file of each group."""
    chosen = [f"{override.key_or_group}={override.get_value_element_as_str()}" for override in groups]
    if config_dir is not None:
        if not config_dir.is_dir():
            raise ConfigError(f"--config-dir: {config_dir} is not a folder")
        quoted = str(config_dir.resolve()).replace("'", "\\'")
        chosen.append(f"hydra.searchpath=['{sources.SCHEME}://{quoted}']")
    try:
        with initialize_config_dir(str(paths.shipped("configs")), version_base="1.3", job_name="vla_rl"):
            tree = hydra_compose("config", overrides=chosen)
    except MissingConfigException as error:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        raise ConfigError(f"{group}: no config file {name!r}; {nearest(name, error.options or ())}") from error
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        named = " ".join(f"{each.key_or_group}={each.value()}" for each in groups) or CONFIG_FILE
        raise ConfigError(f"{named}: {one_line(error)}") from error
    OmegaConf.set_struct(tree, False)
    return tree


def check_plugins(tree: DictConfig, plugins: Any, file: Path) -> None:
    """Raise ConfigError where a file lists modules that `plugins`, the command line's, does not."""
    listed = plugins if isinstance(plugins, list) else []
    missing = [str(name) for name in tree.get("plugins") or () if name not in listed]
    if missing:
        raise ConfigError(
            f"plugins: {file} needs the modules {missing}; give plugins=[{','.join(missing)}] to let it import them"
        )


def assign(tree: DictConfig, override: Override) -> None:
    """Set one value; a mapping merges into what is there, but a component (with `type`) takes its place.

    What is set of `env` is set of each of several environments.
    """
    key, value = override.key_or_group, override.value()
    _assign(tree, key, value)
    if key.startswith(f"{ENV}."):
        for index in range(len(tree.get(MORE) or ())):
            _assign(tree, f"{MORE}.{index}{key.removeprefix(ENV)}", value)


def _assign(tree: DictConfig, key: str, value: Any) -> None:
    replaces = isinstance(value, dict) and "type" in value
    try:
        OmegaConf.update(tree, key, value, merge=not replaces, force_add=True)
    except GrammarParseError as error:
        raise ConfigError(
            f"{key}: cannot be set to {value!r}: {one_line(error)}; `${{key}}` stands for another key's value, and "
            "`\\${` for these two signs themselves"
        ) from error
    except (OmegaConfBaseException, AssertionError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"{key}: cannot be set to {value!r}: {one_line(error)}") from error


def has(tree: DictConfig, key: str) -> bool:
    """Whether a dotted key is there, perhaps as null; "" is the tree itself."""
    holder, _, name = key.rpartition(".")
    found = OmegaConf.select(tree, holder, default=None) if holder else tree
    return not key or (isinstance(found, DictConfig) and name in found)


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain values such that `read` and `plain` give them back."""
    return OmegaConf.to_yaml(OmegaConf.create(_escaped(dict(values))))


def _escaped(value: Any) -> Any:
    """`value`, in whose texts OmegaConf sees no interpolation."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def plain(tree: DictConfig) -> dict[str, Any]:
    """The tree as plain values, its interpolations resolved."""
    try:
        values = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {one_line(error)}") from error
    assert isinstance(values, dict), values
    return {str(key): value for key, value in values.items()}


def one_line(error: BaseException) -> str:
    """What an error says; Hydra hides some causes behind an empty one."""
    cause = error.__cause__ or error.__context__
    if not str(error) and cause is not None:
        return one_line(cause)
    if isinstance(error, KeyValidationError):
        return "a key is empty or is not text"
    # OmegaConf puts its own bookkeeping on the lines after the first.
    text = str(error).partition("\n")[0] if isinstance(error, OmegaConfBaseException) else str(error)
    return " ".join(text.split())
