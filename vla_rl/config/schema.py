"""A run's config: its keys and their types. Every default stands in `configs/config.yaml`, which so lists every key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ByteSize,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from vla_rl import registry
from vla_rl.config import compose, saved
from vla_rl.config.compose import CONFIG_FILE
from vla_rl.config.distributed import RayConfig
from vla_rl.config.parts import Component, EnvConfig, Fraction, Part, Seed, UserPath
from vla_rl.config.policy import MOST_STACK, HeadSettings, LoraSettings, PolicySettings, Remembers, Trainable
from vla_rl.registry import ADAPTER, ConfigError
from vla_rl.specs import HELD_OUT_SEEDS, TRAINING_SEEDS, VALIDATION_SEEDS, Signal, readable


class PolicyConfig(Part):
    """What acts. backbone: a registered backbone. head, lora: fields of HeadSettings and LoraSettings.

    train: what the actor's loss trains: only the head, also LoRA in the backbone, or everything.
    views: whether the backbone reads the camera images apart, each beside the instruction, or together.
    remembers: whether the pointers are corrected by what was seen before in the episode (true), or the head is told
    what was done before, by the words of the text (turns).
    precision, compile: how a frozen backbone computes; auto measures which is faster, see `vla_rl.autotune.backbone`.
    """

    backbone: Component
    head: dict[str, Any]
    train: Trainable
    lora: dict[str, Any]
    views: Literal["apart", "together"]
    remembers: Remembers
    precision: Literal["auto", "float32", "bfloat16"]
    compile: Literal["auto", "always", "never"]

    def settings(
        self, plugins: Sequence[str] = (), stack: int = 1, wrap: Callable[[Any], Any] = lambda backbone: backbone
    ) -> PolicySettings:
        """What `Policy.build` wants; `wrap` gives what stands for the backbone's settings. Raises ConfigError."""
        return PolicySettings(
            backbone=wrap(registry.build("backbones", self.backbone, plugins, "policy.backbone")),
            head=registry.validated(HeadSettings, self.head, "policy.head"),
            train=self.train,
            lora=registry.validated(LoraSettings, self.lora, "policy.lora"),
            stack=stack,
            views=self.views,
            remembers=self.remembers,
        )

    @property
    def name(self) -> str:
        """The backbone's type in short, as folders are named."""
        return str(self.backbone["type"]).rsplit(":", 1)[-1].lower()


class ReplayConfig(Part):
    """The replay buffer. capacity: transitions. n_step: of the backup. stack: frames per observation.

    ram_bytes, disk_bytes: limits, such as 4GB or 500MiB; null for none. With a RAM limit, older frames are compressed
    without loss. They stay in RAM, or go to the run's folder if the disk has a limit.
    prefetch: batches that a thread prepares ahead of the learner; they are the same batches as without it.
    cache: whether rows store the frozen backbone's features, or each batch is encoded; auto: the faster one.
    success_share: fraction of a batch's own experience that is drawn from rows that a reward followed. prioritised:
    whether the rest is drawn in proportion to |TD error| ** priority (arXiv 1511.05952). Importance weights with the
    exponent `correction` compensate for it.
    hindsight: a registered way to relabel rows with other goals (arXiv 1707.01495), or null.
    signals: further entries of an environment's `info` that rows store, besides cost and success: a list
    of {name, dtype, shape, summed}, see `vla_rl.specs.Signal`.
    on_episode: listeners that are called when an episode ends, see `vla_rl.replay.EpisodeListener`.
    """

    capacity: PositiveInt
    n_step: PositiveInt
    stack: Annotated[int, Field(ge=1, le=MOST_STACK)]
    ram_bytes: ByteSize | None
    disk_bytes: ByteSize | None
    prefetch: NonNegativeInt
    cache: Literal["auto", "always", "never"]
    success_share: Fraction
    prioritised: bool
    priority: NonNegativeFloat
    correction: Fraction
    hindsight: Component | None
    signals: tuple[Signal, ...]
    on_episode: list[Component]


class DemosConfig(Part):
    """Demonstrations. episodes: 0 trains from reward alone. path: their folder, or that of a LeRobotDataset.

    noise: standard deviation of the noise added to the expert's action. seed: of the first episode, a training seed;
    each further episode uses the next seed.
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


class SftConfig(Part):
    """The supervised start. steps: 0 leaves the head untrained; it then points at the first thing mentioned.

    backbone_lr: of the backbone, if it trains; null: as in `algorithm.backbone_lr`. backbone_warmup: steps over which
    that rate rises from 0.
    feature_noise: standard deviation of the noise added to the pointed-at places.
    label_smoothing: number of bins by which demonstrated bins and cells are spread over their neighbours.
    """

    steps: NonNegativeInt
    batch_size: PositiveInt
    lr: PositiveFloat
    backbone_lr: PositiveFloat | None
    backbone_warmup: NonNegativeInt
    weight_decay: NonNegativeFloat
    label_smoothing: NonNegativeFloat
    feature_noise: NonNegativeFloat


class TrainConfig(Part):
    """Reinforcement learning. Every `*_every` counts environment decisions, and 0 means never.

    steps: decisions in total. minutes: stop earlier after this time. checkpoint: the policy to start from.
    num_envs: number of environments. workers: processes that step them, several environments in each; 0: the trainer's
    own process; auto: one for each core besides the trainer's. step_timeout: seconds that a worker may take to step,
    reset or make its environments before it is terminated; null: no limit. restarts: how many times in a row a failed
    worker, or an environment that raised an error, is restarted; its episodes are invalid. Both also apply to
    evaluation. groups: groups of environments that act in turn; one group steps while the policy acts for the others.
    failed_starts: share of the episodes that begin where an earlier one, which failed, stood.
    updates_per_step: updates of the algorithm per decision. learning_starts: decisions before the first update. keep:
    number of newest checkpoints to keep. renew_every: if the trunk trains, critics read the features of a
    frozen copy of it; every so often the copy is replaced by the current trunk, and the features cached in the replay
    are encoded again. rehearsal: if the trunk trains, a registered source of images, or null. The trunk is held to
    read them as it did when the run began, with the weight `algorithm.rehearsal_weight`. rehearsal_rows: number of
    these images per actor update. held: files of the group env: tasks that the policy should still be able to do, and
    is not trained on. Every validation plays them too, and `algorithm.held_budget` bounds how far the policy goes from
    its start on their demonstrations.
    """

    steps: PositiveInt
    minutes: PositiveFloat | None
    checkpoint: UserPath | None
    num_envs: Annotated[int, Field(ge=1, le=1 << 16)]
    workers: NonNegativeInt | Literal["auto"]
    step_timeout: PositiveFloat | None
    restarts: NonNegativeInt
    groups: PositiveInt
    failed_starts: Fraction
    updates_per_step: PositiveFloat
    learning_starts: NonNegativeInt
    log_every: NonNegativeInt
    eval_every: NonNegativeInt
    eval_episodes: Annotated[int, Field(gt=0, le=len(VALIDATION_SEEDS))]
    save_every: NonNegativeInt
    keep: PositiveInt
    renew_every: NonNegativeInt
    rehearsal: Component | None
    rehearsal_rows: PositiveInt
    held: list[str]


class EvalConfig(Part):
    """Evaluation on held-out seeds. best_of: let the critic choose among this many samples and the
    greedy decision; 0 acts greedily.

    seed: the first seed is HELD_OUT_SEEDS.start + seed. checkpoint: the policy to evaluate. videos: episodes recorded.
    num_envs: episodes that run together. workers: processes that step them, several episodes in each; 0: the
    evaluator's own process; auto: one for each core, or none if there is one core or train.workers is 0. Training keeps
    the workers and their environments for all validations.
    after_episodes: a shifting world is as a training meets it after this many episodes in all of its environments
    together; null: as it was when the checkpoint was saved.
    """

    checkpoint: UserPath | None
    episodes: PositiveInt
    seed: NonNegativeInt
    best_of: NonNegativeInt
    num_envs: Annotated[int, Field(ge=1, le=1 << 16)]
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


@dataclass(frozen=True)
class _Named:
    """Keys of the command line. Runs of the same values are the same, whoever named them."""

    keys: frozenset[str] = field(default=frozenset(), compare=False)


class RunConfig(Part):
    """Everything that determines a run. Made by `load`; frozen.

    seed: seed of everything random, with a separate stream in every process; any 32-bit number.
    mixed_precision: the precision of training, for acting as well as learning; a policy's pointers and head stay exact.
    micro_batch_size: rows that the backbone reads at a time, at most; null: all rows of a batch. The batch and its
    gradient stay the same; smaller parts take less memory, and more time.
    gradient_checkpointing: if the backbone trains, whether its layers are computed once more for the gradient, instead
    of being kept: the same gradient in less memory, in about a third more time.
    optimizer: of the policy, in both commands that train: AdamW, with states in float32 or in 8 bits; the latter needs
    bitsandbytes, the extra `8bit`.
    sharding: of several processes, whether each keeps the whole backbone (null), or a share of its layers (fsdp).
    tf32: whether float32 is computed with TF32 on CUDA. cuda_graphs: whether decisions and updates are recorded there
    once and then replayed, where they can be; see docs/tutorials/gpus.md.
    plugins: modules (or packages) whose classes the config may name as `module:Class`. They are imported first, so
    environments and other components that they register are known.
    more_envs: further environments that the same policy learns to act in, besides `env`; see `envs`.
    held_envs: the environments that `train.held` names, as the run found them.
    action_space, algorithm: the components themselves, built and checked.
    distributed: how the environments are spread over machines; null for this one alone.
    """

    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    mixed_precision: Literal["no", "fp16", "bf16"]
    micro_batch_size: PositiveInt | None
    gradient_checkpointing: bool
    optimizer: Literal["adamw", "adamw_8bit"]
    sharding: Literal["fsdp"] | None
    tf32: bool
    cuda_graphs: bool
    plugins: list[str]
    run_dir: UserPath | None
    resume: bool
    tracker: str | None
    env: EnvConfig
    more_envs: tuple[EnvConfig, ...]
    held_envs: tuple[EnvConfig, ...]
    action_space: Any
    policy: PolicyConfig
    algorithm: Any
    replay: ReplayConfig
    demos: DemosConfig
    sft: SftConfig
    train: TrainConfig
    eval: EvalConfig
    distributed: RayConfig | None

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
        for number, env in enumerate(self.envs):
            self._check_env(env, f"more_envs[{number - 1}]" if number else "env")
        for number, env in enumerate(self.held_envs):
            self._check_env(env, f"held_envs[{number}]")
        names = [env.name for env in (*self.envs, *self.held_envs)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            key = "train.held" if twice in [env.name for env in self.held_envs] else "more_envs"
            raise ConfigError(f"{key}: {twice!r} is listed twice; success is told by name")
        if self.algorithm.needs.held and not self.held_envs:
            raise ConfigError("algorithm.held_budget: needs tasks to hold, such as train.held=[reach]; got none")
        self.policy.settings(self.plugins)
        if self.distributed is not None and self.distributed.actors > self.train.num_envs:
            raise ConfigError(
                f"distributed.actors: at most one for each of train.num_envs={self.train.num_envs} environments, got "
                f"{self.distributed.actors}"
            )
        if self.policy.remembers and self.algorithm.needs.shifts:
            raise ConfigError("algorithm.shift: moves pictures, and not what policy.remembers; use 0, or turn that off")
        if self.replay.hindsight is not None:
            registry.build("goals", self.replay.hindsight, self.plugins, "replay.hindsight")
        for index, listener in enumerate(self.replay.on_episode):
            registry.build("listeners", listener, self.plugins, f"replay.on_episode[{index}]")
        if self.train.rehearsal is not None:
            registry.build("rehearsals", self.train.rehearsal, self.plugins, "train.rehearsal")
        return self

    def _check_env(self, env: EnvConfig, path: str) -> None:
        if not re.fullmatch(r"[^/\\\0-\x1f]{1,100}", env.name) or env.name in (".", ".."):
            raise ConfigError(f"{path}: {readable(env.name, 120)!r} names no folder; give it a plain name")
        for index, sensor in enumerate(env.sized(self.plugins) or ()):
            registry.build("sensors", sensor, self.plugins, f"{path}.sensors[{index}]")
        if env.adapter is None:
            return
        settings = registry.validated(registry.resolve("envs", ADAPTER), env.adapter, f"{path}.adapter")
        if settings.expert is not None:
            registry.build("experts", settings.expert, self.plugins, f"{path}.adapter.expert")
        if env.sensors is None:
            raise ConfigError(f"{path}.sensors: null; an adapted environment shows what its sensors read: list some")

    _withheld: dict[str, Any] = PrivateAttr(default_factory=dict)
    _given: _Named = PrivateAttr(default_factory=_Named)

    @property
    def given(self) -> frozenset[str]:
        """The dotted keys and groups that the command line named; a run that takes its policy from a checkpoint heeds
        or refuses them, and passes over what was left as it is."""
        return self._given.keys

    @property
    def withheld(self) -> dict[str, Any]:
        """What the config of a checkpoint asked for and was not given, by key; see `vla_rl.config.saved`."""
        return self._withheld

    def telling(self, withheld: dict[str, Any], given: Iterable[str]) -> RunConfig:
        """The same, which tells what was left out of the config it was made from, and what the command line named."""
        run = self.model_copy()
        run._withheld, run._given = withheld, _Named(frozenset(given))
        return run

    @property
    def envs(self) -> tuple[EnvConfig, ...]:
        """All environments of the run; the place of one is its task's number."""
        return (self.env, *self.more_envs)

    @property
    def env_name(self) -> str:
        """What it acts in, in short, as folders are named."""
        return f"{self.env.name}_and_{len(self.more_envs)}_more" if self.more_envs else self.env.name

    def each(self) -> tuple[RunConfig, ...]:
        """A run of each environment alone; of several, each has demonstrations of its own, in a folder of its name."""
        if not self.more_envs:
            return (self._alone(self.env, self.demos.folder),)
        return tuple(self._alone(env, self.demos.folder / env.name) for env in self.envs)

    def held(self) -> tuple[RunConfig, ...]:
        """A run of each held environment; its demonstrations lie beside the run's own, in a folder of its name."""
        folder = self.demos.folder if self.more_envs else self.demos.folder.parent
        return tuple(self._alone(env, folder / env.name) for env in self.held_envs)

    def _alone(self, env: EnvConfig, demos: Path) -> RunConfig:
        own = {"env": env, "more_envs": (), "held_envs": (), "demos": self.demos.model_copy(update={"path": demos})}
        return self.model_copy(update=own)

    def only(self, command: str) -> RunConfig:
        """The run, for a command that takes one environment. Raises ConfigError where it has several."""
        if self.more_envs:
            raise ConfigError(f"env: {command} takes one environment, got {len(self.envs)}; choose env={self.env.name}")
        return self

    def to_yaml(self) -> str:
        """The whole config; `load` reads it back to an equal one."""
        return compose.to_yaml(self.model_dump(mode="json"))

    def save(self, folder: Path) -> Path:
        """Write `config.yaml` into the run's folder, whole or not at all; its paths hold in every working folder."""
        folder.mkdir(parents=True, exist_ok=True)
        target, draft = folder / CONFIG_FILE, folder / f".{CONFIG_FILE}.part"
        draft.write_text(compose.to_yaml(saved.anchored(self.model_dump(mode="json"), self.plugins)), "utf-8")
        return draft.replace(target)
