"""A run's config: its keys and types, composed from YAML and the command line, saved with the run.

Hydra composes groups of YAML files and nothing else; components are made by `vla_rl.registry`. Every
default stands in `configs/config.yaml`, so that file lists every key there is.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
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

from vla_rl import registry
from vla_rl.config import compose
from vla_rl.config.compose import CONFIG_FILE
from vla_rl.config.policy import HeadSettings, LoraSettings, PolicySettings
from vla_rl.registry import ADAPTER, ConfigError, nearest
from vla_rl.specs import HELD_OUT_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS

Component = dict[str, Any]
"""A mapping with `type`, from which the registry makes a component."""


Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy's random states take; all of them may seed a run."""
UserPath = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]
"""A file or a folder; `~` is the user's own."""


class _Part(BaseModel):
    """Frozen; unknown keys, missing keys, infinities and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EnvConfig(_Part):
    """Which environment, and what it shows.

    id: a Gymnasium id. sensors: what the observations hold, in order; null for an environment whose
    observations are its own. actions: a name for each of an action's numbers, for whoever reads, or null.
    kwargs: further settings of the environment. adapter: how another package's environment is shown (fields of
    `vla_rl/Adapter-v0`), or null.
    """

    id: str = Field(min_length=1)
    sensors: list[Component] | None
    actions: list[str] | None
    kwargs: dict[str, Any]
    adapter: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The id in short, as folders are named: `vla_rl/Reach-v0` is `reach`; or what the adapter says.

        Where one id stands for many tasks, the task's name follows: `metaworld_door-open`.
        """
        short = re.sub(r"-v\d+$", "", self.id.rsplit("/", 1)[-1]).lower()
        if self.adapter is not None and self.adapter.get("name"):
            short = str(self.adapter["name"])
        task = re.sub(r"-v\d+$", "", registry.task_named(self.id, self.kwargs)).lower()
        return f"{short}_{task}" if task and not short.endswith(task) else short


class PolicyConfig(_Part):
    """What acts. backbone: a registered backbone. head, lora: fields of HeadSettings and LoraSettings.

    train: what the actor's loss changes: the head only, LoRA in the backbone too, or everything.
    views: whether the backbone reads the cameras' pictures apart, each beside the instruction, or together.
    precision, compile: how a frozen backbone computes; auto measures what is faster, see `vla_rl.autotune.backbone`.
    """

    backbone: Component
    head: dict[str, Any]
    train: Literal["head", "lora", "all"]
    lora: dict[str, Any]
    views: Literal["apart", "together"]
    precision: Literal["auto", "float32", "bfloat16"]
    compile: Literal["auto", "always", "never"]

    def settings(self, plugins: Sequence[str] = (), stack: int = 1) -> PolicySettings:
        """What `Policy.build` wants. Raises ConfigError."""
        return PolicySettings(
            backbone=registry.build("backbones", self.backbone, plugins, "policy.backbone"),
            head=registry.validated(HeadSettings, self.head, "policy.head"),
            train=self.train,
            lora=registry.validated(LoraSettings, self.lora, "policy.lora"),
            stack=stack,
            views=self.views,
        )

    @property
    def name(self) -> str:
        """The backbone's type in short, as folders are named."""
        return str(self.backbone["type"]).rsplit(":", 1)[-1].lower()


class ReplayConfig(_Part):
    """What is remembered. capacity: transitions. n_step: of the backup. stack: frames an observation.

    ram_bytes, disk_bytes: limits, such as 4GB or 500MiB; null for none. With a limit of RAM, older frames are coded
    without loss, in RAM too, or in the run's folder where the disk has a limit.
    prefetch: batches that a thread makes ahead of the learner; the same ones as without it.
    cache: whether rows keep what the frozen backbone makes of them, or each batch is encoded; auto: what is faster.
    success_share: of a batch's own experience, rows that a reward followed. prioritised: whether the rest is drawn in
    proportion to |TD error| ** priority (arXiv 1511.05952), which weights make up for by the exponent `correction`.
    hindsight: a registered way to give rows other goals (arXiv 1707.01495), or null.
    """

    capacity: PositiveInt
    n_step: PositiveInt
    stack: PositiveInt
    ram_bytes: ByteSize | None
    disk_bytes: ByteSize | None
    prefetch: NonNegativeInt
    cache: Literal["auto", "always", "never"]
    success_share: Fraction
    prioritised: bool
    priority: NonNegativeFloat
    correction: Fraction
    hindsight: Component | None


class DemosConfig(_Part):
    """Demonstrations. episodes: 0 trains from reward alone. path: their folder, or a LeRobotDataset's.

    noise: standard deviation added to the expert's action. seed: of the first episode, a training seed; the next
    one's is one more.
    """

    episodes: NonNegativeInt
    noise: NonNegativeFloat
    seed: Annotated[int, Field(ge=0, lt=TRAINING_SEEDS.stop)]
    path: UserPath | None

    @property
    def folder(self) -> Path:
        """Where the demonstrations lie; `load` fills in a default from the environment."""
        assert self.path is not None, "a config is made by load()"
        return self.path


class SftConfig(_Part):
    """The supervised start. steps: 0 leaves the head as it starts, which points at the first thing mentioned.

    feature_noise: standard deviation added to the pointed-at places.
    label_smoothing: demonstrated bins and cells are spread over their neighbours, by so many bins.
    """

    steps: NonNegativeInt
    batch_size: PositiveInt
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    label_smoothing: NonNegativeFloat
    feature_noise: NonNegativeFloat


class TrainConfig(_Part):
    """Reinforcement learning. Every `*_every` counts environment decisions, and 0 means never.

    steps: decisions in all. minutes: stop earlier after so long. checkpoint: the policy to start from.
    num_envs: environments. workers: processes that step them, several in each; 0 for the trainer's own; auto: one for
    each core beside the trainer's. step_timeout: seconds that a worker has for its environments' step or reset, and for
    making each, in evaluation too, before it is ended with the run; null for any.
    groups: of environments that are acted for in turn; those of one are stepped while the policy acts for the others.
    updates_per_step: updates of the algorithm a decision. learning_starts: decisions before the first. keep:
    checkpoints kept, and the last.
    """

    steps: PositiveInt
    minutes: PositiveFloat | None
    checkpoint: UserPath | None
    num_envs: PositiveInt
    workers: NonNegativeInt | Literal["auto"]
    step_timeout: PositiveFloat | None
    groups: PositiveInt
    updates_per_step: PositiveFloat
    learning_starts: NonNegativeInt
    log_every: NonNegativeInt
    eval_every: NonNegativeInt
    eval_episodes: Annotated[int, Field(gt=0, le=len(VALIDATION_SEEDS))]
    save_every: NonNegativeInt
    keep: PositiveInt


class EvalConfig(_Part):
    """Evaluation on held-out seeds. best_of: decide by the critic among so many samples; 0 acts greedily.

    seed: the first is HELD_OUT_SEEDS.start + seed. checkpoint: whose policy. videos: episodes filmed.
    num_envs: episodes that run together. workers: processes that step them, several in each; 0 for the evaluator's own;
    auto: one for each core, none where there is one, or where train.workers is 0. Training keeps them, and their
    environments, for all validations.
    after_episodes: a world that shifts in mid-run is as a training meets it after so many episodes, in all of its
    environments together; null: as it was when the checkpoint was made.
    """

    checkpoint: UserPath | None
    episodes: PositiveInt
    seed: NonNegativeInt
    best_of: NonNegativeInt
    num_envs: PositiveInt
    workers: NonNegativeInt | Literal["auto"]
    videos: NonNegativeInt
    after_episodes: NonNegativeInt | None

    @model_validator(mode="after")
    def _check_seeds(self) -> EvalConfig:
        """Episodes beyond the held-out seeds would be left out without a word."""
        most = len(HELD_OUT_SEEDS) - self.episodes
        if self.seed > most:
            raise ConfigError(f"eval.seed: at most {most} leaves room for {self.episodes} episode(s), got {self.seed}")
        return self


class RunConfig(_Part):
    """Everything that decides a run. Made by `load`; frozen.

    seed: of whatever is random, in every process a stream of its own; any number of 32 bits.
    mixed_precision: what a training computes in, acting as well as learning; a policy's pointers and head stay exact.
    plugins: the modules (or packages) whose classes the config may name as `module:Class`; imported first, so that
    environments and else that they register are known.
    action_space, algorithm: the components themselves, built and checked.
    """

    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    mixed_precision: Literal["no", "fp16", "bf16"]
    plugins: list[str]
    run_dir: UserPath | None
    resume: bool
    tracker: str | None
    env: EnvConfig
    action_space: Any
    policy: PolicyConfig
    algorithm: Any
    replay: ReplayConfig
    demos: DemosConfig
    sft: SftConfig
    train: TrainConfig
    eval: EvalConfig

    @field_validator("plugins")
    @classmethod
    def _import(cls, value: list[str]) -> list[str]:
        registry.import_listed(value)
        return value

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
        if self.env.adapter is not None:
            settings = registry.validated(registry.resolve("envs", ADAPTER), self.env.adapter, "env.adapter")
            if settings.expert is not None:
                registry.build("experts", settings.expert, self.plugins, "env.adapter.expert")
            if self.env.sensors is None:
                raise ConfigError(
                    "env.sensors: null, but an adapted environment shows what its sensors read; list some"
                )
        self.policy.settings(self.plugins)
        if self.replay.hindsight is not None:
            registry.build("goals", self.replay.hindsight, self.plugins, "replay.hindsight")
        return self

    def to_yaml(self) -> str:
        """The whole config; `load` reads it back to an equal one."""
        return compose.to_yaml(self.model_dump(mode="json"))

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
        overrides: `key=value` for a value, `group=name` for a file of a group, as in Hydra; but where a key takes a
            text or a path, its value is what was typed.
        config_dir: a folder of the user's own groups, beside the shipped ones.
        base: the saved `config.yaml` to start from. Default: the run's that `resume=true run_dir=FOLDER`
            goes on with, or that made the checkpoint which `eval` measures. An override that chooses a
            group's file composes afresh instead.
        command: names the default folder, `outputs/<command>/<date>/<time>-<4 letters>_<env>_<policy>`: one for each
            call, also where several are made in one second.

    Raises:
        ConfigError: anything wrong, with the full path, the value and the nearest good one.
    """
    groups, values = compose.split(overrides, config_dir, _text_keys(RunConfig))
    given = {override.key_or_group: override.value() for override in values}
    if given.get("resume") is True:
        base = compose.saved(given.get("run_dir"))
    elif base is None and command == "eval":
        base = compose.beside(given.get("eval.checkpoint"))
    kept = None if groups or base is None else compose.read(base, given.get("plugins"))
    tree = compose.compose(groups, config_dir) if kept is None else kept
    for override in values:
        compose.assign(tree, override)
    for override in {override.key_or_group: override for override in values}.values():
        if isinstance(override.value(), int | float) and _takes_text(tree, override.key_or_group):
            compose.assign(tree, compose.as_text(override.input_line or ""))
    return validate(compose.plain(tree), command)


def validate(values: Mapping[str, Any], command: str = "train") -> RunConfig:
    """A RunConfig of plain values, its default folders filled in. Raises ConfigError."""
    try:
        run = RunConfig.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(_message(error)) from error
    if run.run_dir is None and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("run_dir: null; give it where several processes work together, so that they share a folder")
    name = f"{run.env.name}_{run.policy.name}"
    # Runs that are started by a script in one second get folders of their own.
    moment = f"{time.strftime('%H-%M-%S')}-{secrets.token_hex(2)}"
    run_dir = run.run_dir or Path("outputs", command, time.strftime("%Y-%m-%d"), f"{moment}_{name}")
    demos = run.demos.model_copy(update={"path": run.demos.path or Path("outputs", "demos", run.env.name)})
    return run.model_copy(update={"run_dir": run_dir, "demos": demos})


_GROUPS = {
    "action_space": "action_spaces",
    "algorithm": "algorithms",
    "policy.backbone": "backbones",
    "env.sensors": "sensors",
    "env.adapter.expert": "experts",
    "replay.hindsight": "goals",
}
"""Where components stand, and of which group they are."""


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
    group = next((group for place, group in _GROUPS.items() if f"{holder}.".startswith(f"{place}.")), None)
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
