"""A run's config: its keys and types, composed from YAML and the command line, saved with the run.

Hydra composes groups of YAML files and nothing else; components are made by `vla_rl.registry`. Every
default stands in `configs/config.yaml`, so that file lists every key there is.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from yaml import YAMLError

from vla_rl import paths, registry
from vla_rl.registry import ConfigError, nearest

CONFIG_FILE = "config.yaml"
"""The config that lies in a run's folder: what `resume=true` and `vla-rl eval` read."""

Component = dict[str, Any]
"""A mapping with `type`, from which the registry makes a component."""


class _Part(BaseModel):
    """Frozen; unknown keys, missing keys, infinities and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EnvConfig(_Part):
    """Which environment, and what it shows.

    id: a Gymnasium id. sensors: what the observations hold, in order; null for an environment whose
    observations are its own. kwargs: further settings of the environment.
    """

    id: str = Field(min_length=1)
    sensors: list[Component] | None
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """The id in short, as folders are named: `vla_rl/Reach-v0` is `reach`."""
        return re.sub(r"-v\d+$", "", self.id.rsplit("/", 1)[-1]).lower()


class PolicyConfig(_Part):
    """What acts. backbone: a registered backbone. head, lora: see `vla_rl.models.settings`.

    train: what the actor's loss changes: the head only, LoRA in the backbone too, or everything.
    """

    backbone: Component
    head: dict[str, Any]
    train: Literal["head", "lora", "all"]
    lora: dict[str, Any]

    @property
    def name(self) -> str:
        """The backbone's type in short, as folders are named."""
        return str(self.backbone["type"]).rsplit(":", 1)[-1].lower()


class ReplayConfig(_Part):
    """What is remembered. capacity: transitions. n_step: of the backup. stack: frames an observation."""

    capacity: PositiveInt
    n_step: PositiveInt
    stack: PositiveInt


class DemosConfig(_Part):
    """Demonstrations. noise: standard deviation added to the expert's action. path: their folder."""

    episodes: NonNegativeInt
    noise: NonNegativeFloat
    seed: NonNegativeInt
    path: Path | None

    @property
    def folder(self) -> Path:
        """Where the demonstrations lie; `load` fills in a default from the environment."""
        assert self.path is not None, "a config is made by load()"
        return self.path


class SftConfig(_Part):
    """The supervised start. feature_noise: standard deviation added to the pointed-at places."""

    steps: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    label_smoothing: float = Field(ge=0, lt=1)
    feature_noise: NonNegativeFloat


class TrainConfig(_Part):
    """Reinforcement learning. Every `*_every` counts environment decisions, and 0 means never.

    steps: decisions in all. minutes: stop earlier after so long. checkpoint: the policy to start from.
    num_envs: stepped together, in processes of their own with `workers`. updates_per_step: updates of the
    algorithm a decision. learning_starts: decisions before the first. keep: checkpoints kept, and the last.
    """

    steps: PositiveInt
    minutes: PositiveFloat | None
    checkpoint: Path | None
    num_envs: PositiveInt
    workers: bool
    updates_per_step: PositiveFloat
    learning_starts: NonNegativeInt
    log_every: NonNegativeInt
    eval_every: NonNegativeInt
    eval_episodes: PositiveInt
    save_every: NonNegativeInt
    keep: PositiveInt


class EvalConfig(_Part):
    """Evaluation on held-out seeds. best_of: decide by the critic among so many samples; 0 acts greedily.

    seed: the first is HELD_OUT_SEEDS.start + seed. checkpoint: whose policy. videos: episodes filmed.
    """

    checkpoint: Path | None
    episodes: PositiveInt
    seed: NonNegativeInt
    best_of: NonNegativeInt
    num_envs: PositiveInt
    videos: NonNegativeInt


class RunConfig(_Part):
    """Everything that decides a run. Made by `load`; frozen.

    plugins: the modules (or packages) whose classes the config may name as `module:Class`.
    action_space, algorithm: the components themselves, built and checked.
    """

    seed: NonNegativeInt
    device: Literal["auto", "cpu", "cuda"]
    mixed_precision: Literal["no", "fp16", "bf16"]
    plugins: list[str]
    run_dir: Path | None
    resume: bool
    env: EnvConfig
    action_space: Any
    policy: PolicyConfig
    algorithm: Any
    replay: ReplayConfig
    demos: DemosConfig
    sft: SftConfig
    train: TrainConfig
    eval: EvalConfig

    @field_validator("action_space", "algorithm", mode="before")
    @classmethod
    def _build(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None, info
        group = {"action_space": "action_spaces"}.get(info.field_name, "algorithms")
        return registry.build(group, value, info.data.get("plugins", ()), info.field_name)

    @field_serializer("action_space", "algorithm")
    def _describe(self, value: Any, info: Any) -> Component:
        return registry.describe(value, {"action_space": "action_spaces"}.get(info.field_name, "algorithms"))

    @model_validator(mode="after")
    def _check_components(self) -> RunConfig:
        """Name what is wrong in a sensor or the policy before anything is built from it."""
        for index, sensor in enumerate(self.env.sensors or ()):
            registry.build("sensors", sensor, self.plugins, f"env.sensors[{index}]")
        registry.build("backbones", self.policy.backbone, self.plugins, "policy.backbone")
        return self

    def to_yaml(self) -> str:
        """The whole config; `load` reads it back to an equal one."""
        return OmegaConf.to_yaml(OmegaConf.create(self.model_dump(mode="json")))

    def save(self, folder: Path) -> Path:
        """Write `config.yaml` into the run's folder, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        target, draft = folder / CONFIG_FILE, folder / f".{CONFIG_FILE}.part"
        draft.write_text(self.to_yaml(), "utf-8")
        return draft.replace(target)


def load(
    overrides: Sequence[str] = (), *, config_dir: Path | None = None, base: Path | None = None, command: str = "train"
) -> RunConfig:
    """The config of a run: `configs/config.yaml`, or a saved one, and then the overrides, left to right.

    Args:
        overrides: `key=value` for a value, `group=name` for a file of a group, as in Hydra.
        config_dir: a folder of the user's own groups, beside the shipped ones.
        base: the saved `config.yaml` to start from. With `resume=true run_dir=FOLDER` it is FOLDER's.
            A command that names a group composes afresh instead.
        command: names the default folder, `outputs/<command>/<date>/<time>_<env>_<policy>`.

    Raises:
        ConfigError: anything wrong, with the full path, the value and the nearest good one.
    """
    groups, values = _split(overrides, config_dir)
    given = {override.key_or_group: override.value() for override in values}
    if given.get("resume") is True:
        base = _saved(given.get("run_dir"))
    tree = _read(base, given.get("plugins")) if base and not groups else _compose(groups, config_dir)
    for override in values:
        _set(tree, override)
    return validate(_plain(tree), command)


def validate(values: Mapping[str, Any], command: str = "train") -> RunConfig:
    """A RunConfig of plain values, its default folders filled in. Raises ConfigError."""
    try:
        run = RunConfig.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(_message(error)) from error
    name = f"{run.env.name}_{run.policy.name}"
    run_dir = run.run_dir or Path("outputs", command, time.strftime("%Y-%m-%d"), f"{time.strftime('%H-%M-%S')}_{name}")
    demos = run.demos.model_copy(update={"path": run.demos.path or Path("outputs", "demos", run.env.name)})
    return run.model_copy(update={"run_dir": run_dir, "demos": demos})


def _split(overrides: Sequence[str], config_dir: Path | None) -> tuple[list[Override], list[Override]]:
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


def _compose(groups: Sequence[Override], config_dir: Path | None) -> DictConfig:
    """The shipped `config.yaml` with the chosen groups' files, the user's own among them."""
    chosen = [f"{override.key_or_group}={override.get_value_element_as_str()}" for override in groups]
    if config_dir is not None:
        if not config_dir.is_dir():
            raise ConfigError(f"--config-dir: {config_dir} is not a folder")
        quoted = str(config_dir.resolve()).replace("'", "\\'")
        chosen.append(f"hydra.searchpath=['file://{quoted}']")
    try:
        with initialize_config_dir(str(paths.shipped("configs")), version_base="1.3", job_name="vla_rl"):
            tree = compose("config", overrides=chosen)
    except MissingConfigException as error:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        raise ConfigError(f"{group}: no config file {name!r}; {nearest(name, error.options or ())}") from error
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(_one_line(error)) from error
    OmegaConf.set_struct(tree, False)
    return tree


def _saved(run_dir: Any) -> Path:
    """The config of the run that `resume=true` goes on with."""
    if not run_dir:
        raise ConfigError("resume: give run_dir=FOLDER too, the folder of the run to go on with")
    file = Path(str(run_dir)) / CONFIG_FILE
    if not file.is_file():
        raise ConfigError(f"resume: {run_dir} holds no {CONFIG_FILE}, so there is no run to go on with")
    return file


def _read(file: Path, plugins: Any) -> DictConfig:
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


def _set(tree: DictConfig, override: Override) -> None:
    """Set one value; a mapping merges into what is there, but a component (with `type`) takes its place."""
    key, value = override.key_or_group, override.value()
    replaces = isinstance(value, dict) and "type" in value
    try:
        OmegaConf.update(tree, key, value, merge=not replaces, force_add=True)
    except (OmegaConfBaseException, AssertionError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"{key}: cannot be set to {value!r}: {_one_line(error)}") from error


def _plain(tree: DictConfig) -> dict[str, Any]:
    """The tree as plain values, its interpolations resolved."""
    try:
        values = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_one_line(error)}") from error
    assert isinstance(values, dict), values
    return {str(key): value for key, value in values.items()}


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
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if problem["type"] == "missing":
        return f"{path}: missing; {CONFIG_FILE} of the shipped configs has every key"
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key (got {value!r}); {_nearest_key(location)}"
    return f"{path}: {registry.reason(problem)} (got {value!r})"


def _nearest_key(location: Sequence[str | int]) -> str:
    """A hint for an unknown key: the same word elsewhere, or the nearest in its place."""
    *parents, key = location
    model: Any = RunConfig
    for parent in parents:
        model = model.model_fields[parent].annotation
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


def _one_line(error: BaseException) -> str:
    # OmegaConf puts its own bookkeeping on the lines after the first.
    text = str(error).partition("\n")[0] if isinstance(error, OmegaConfBaseException) else str(error)
    return " ".join(text.split())
