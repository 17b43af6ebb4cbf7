"""`vla-rl plan`: what a run would take, whether it fits, and what would make it fit."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vla_rl import build, config, registry
from vla_rl.autotune.feature_cache import memory_for, row_bytes
from vla_rl.config import RunConfig
from vla_rl.envs import EnvSpec
from vla_rl.envs.vector import spare_cores
from vla_rl.models.policy import Policy
from vla_rl.planning.learning import DryRun, Learning
from vla_rl.planning.rows import instruction
from vla_rl.registry import ConfigError
from vla_rl.replay.budget import planned

DOES_NOT_FIT = 1
GIB = 2**30
CUDA = GIB
"""About what CUDA takes for itself on a GPU: its context, its libraries, and gaps between blocks."""
PROGRAM, WORKER = GIB, GIB // 4
"""About what Python takes with everything imported, and a process that steps environments."""
ALL_KEPT, STATES = "all kept", "states"
"""What a setting makes less of: what is kept for the gradient, or weights, gradients and states."""


@dataclass(frozen=True)
class Plan:
    """What a run takes, in bytes.

    sft, train: on the device that learns. device: its memory; None where that is the machine's own. replay: see
    `replay.budget.memory_plan`. feature_row: cached features of a row. cached: whether replay keeps them. shown:
    demonstrations in replay. loading: weights that lie in RAM until they are on the device. workers: processes that
    step environments. ram, disk: what the machine has.
    """

    sft: Learning
    train: Learning
    device: int | None
    replay: dict[str, Any]
    feature_row: int
    cached: bool
    shown: int
    loading: int
    workers: int
    ram: int
    disk: int

    @property
    def on_device(self) -> int:
        """At the peak, with what CUDA takes."""
        return max(self.sft.total, self.train.total) + (0 if self.device is None else CUDA)

    @property
    def in_ram(self) -> int:
        """Of the machine, about."""
        kept = self.replay["bytes"] + self.shown + self.loading + PROGRAM + self.workers * WORKER
        return kept + (self.on_device if self.device is None else 0)

    @property
    def wrong(self) -> dict[str, tuple[int, int]]:
        """What does not suffice: bytes that are wanted, and that there are."""
        wanted = {
            "the GPU's memory": (0 if self.device is None else self.on_device, self.device or 0),
            "RAM": (self.in_ram, self.ram),
            "the disk": (self.replay["disk_bytes"] or 0, self.disk),
        }
        return {name: pair for name, pair in wanted.items() if pair[0] > pair[1]}


def command(options: argparse.Namespace) -> int:
    """`vla-rl plan`; returns the exit code: 0 where the run fits, or 1."""
    run = config.load(options.overrides, config_dir=options.config_dir, command="train")
    return 0 if plan(run, options.gpu, as_json=options.json) else DOES_NOT_FIT


def plan(run: RunConfig, gpu: float | None = None, as_json: bool = False) -> bool:
    """Print what a run would take, and whether it fits; returns that. Loads no weights.

    gpu: GiB of the GPU to plan for; None: the one that is here, or the machine's RAM where there is none.

    Raises:
        ConfigError: the config suits no run; or its algorithm looks at numbers that a plan does not have.
    """
    device = _device(run, gpu)
    spec, words = build.env_spec(run, held=True), instruction(run)
    found = make_plan(run, spec, words, device)
    advice = list(advised(run, spec, words, found)) if found.wrong else []
    if as_json:
        print(json.dumps(_told(found) | {"fits": not found.wrong, "advice": advice}))
    else:
        print("\n".join(_lines(run, found, advice)))
    return not found.wrong


def make_plan(run: RunConfig, spec: EnvSpec, words: str, device: int | None) -> Plan:
    """The plan of a run. device: bytes of the GPU; None: it learns on the CPU."""
    outline = DryRun(run, spec, words, False, False).outline()
    row, capacity = row_bytes(outline), run.replay.capacity
    may = outline.frozen_trunk and not run.algorithm.needs.augments and run.replay.cache != "never"
    cached = may and (run.replay.cache == "always" or capacity * row <= memory_for(run.replay.ram_bytes))
    dry = DryRun(run, spec, words, cached, device is not None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a plan is no run
        try:
            train, sft = dry.train(), dry.sft()
        except (NotImplementedError, RuntimeError) as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ConfigError(f"algorithm: {type(run.algorithm).__name__} cannot be planned ({said})") from error
    limits = {"ram_bytes": run.replay.ram_bytes, "disk_bytes": run.replay.disk_bytes}
    folder = run.run_dir or Path("outputs")
    where = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return Plan(
        sft=sft,
        train=train,
        device=device,
        replay=_replay(run, spec, outline, capacity, run.train.num_envs, cached, **limits),
        feature_row=row,
        cached=cached,
        shown=_shown(run, spec, outline, cached),
        loading=0 if device is None else train.weights,
        workers=spare_cores(1) if run.train.workers == "auto" else run.train.workers,
        ram=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        disk=shutil.disk_usage(where).free,
    )


def advised(run: RunConfig, spec: EnvSpec, words: str, found: Plan) -> Iterator[str]:
    """Settings, one after the other, that together make a run fit the GPU, or the RAM it learns in; none where they do
    not. Replay and disk are told of apart."""
    if found.replay["bytes"] + found.shown > found.ram - PROGRAM:
        yield "replay.capacity less, or replay.ram_bytes and replay.disk_bytes"
    if found.replay["disk_bytes"] and found.replay["disk_bytes"] > found.disk:
        yield "replay.disk_bytes less"
    if not _learning_wrong(found):
        return
    tried: list[str] = []
    for key, value, lessens in _candidates(run):
        room = found.ram if found.device is None else found.device - CUDA
        rest = max(each.total - each.activations for each in (found.sft, found.train))
        if lessens == ALL_KEPT and rest > room:
            continue  # that cannot be enough
        run = _with(run, key, value)
        found = make_plan(run, spec, words, found.device)
        tried.append(f"{key}={value}".lower())
        if not _learning_wrong(found):
            yield from tried
            return
    yield "a smaller backbone, or smaller batches: no setting of the precision, the optimiser or the parts is enough"


def _learning_wrong(found: Plan) -> bool:
    return "the GPU's memory" in found.wrong or (found.device is None and "RAM" in found.wrong)


def _candidates(run: RunConfig) -> Iterator[tuple[str, Any, str]]:
    """Settings that make less of something, the gentlest first."""
    trains = run.policy.train != "head"
    if trains and not run.gradient_checkpointing:
        yield "gradient_checkpointing", True, ALL_KEPT
    half = hasattr(registry.build("backbones", run.policy.backbone, run.plugins, "policy.backbone"), "dtype")
    if run.policy.train != "all" and half and run.policy.backbone.get("dtype", "float32") == "float32":
        yield "policy.backbone.dtype", "bfloat16", STATES
    if run.policy.train == "all" and run.mixed_precision == "no":
        yield "mixed_precision", "bf16", ALL_KEPT
    most = run.micro_batch_size or max(run.algorithm.needs.batch_size, run.sft.batch_size)
    for rows in (16, 4, 1):
        if rows < most:
            yield "micro_batch_size", rows, ALL_KEPT
    if trains and run.optimizer == "adamw":
        yield "optimizer", "adamw_8bit", STATES
    if run.policy.train == "all":
        yield "policy.train", "lora", STATES
        if half:
            yield "policy.backbone.dtype", "bfloat16", STATES


def _with(run: RunConfig, key: str, value: Any) -> RunConfig:
    """The run with another value, as if the command line had named it."""
    if key == "policy.backbone.dtype":
        policy = run.policy.model_copy(update={"backbone": {**run.policy.backbone, "dtype": value}})
    elif key == "policy.train":
        policy = run.policy.model_copy(update={"train": value})
    else:
        return run.model_copy(update={key: value})
    return run.model_copy(update={"policy": policy}).telling(run.withheld, [*run.given, key])


def _replay(
    run: RunConfig, spec: EnvSpec, policy: Policy, capacity: int, lanes: int, cached: bool, **limits: Any
) -> dict[str, Any]:
    derived = [column for each in build.listeners(run, build.credit_book(run)) for column in each.columns]
    try:
        return planned(**build.replay_rows(run, spec, policy, capacity, lanes, cached), derived=derived, **limits)
    except ValueError as error:
        raise ConfigError(f"replay: {error}") from error


def _shown(run: RunConfig, spec: EnvSpec, policy: Policy, cached: bool) -> int:
    """Bytes of the demonstrations in replay; 0 where none are recorded yet."""
    if run.demos.episodes == 0 or not all(one.demos.folder.exists() for one in run.each()):
        return 0
    rows = sum(each.steps + len(each) for each in build.demonstrations(run, spec))
    return _replay(run, spec, policy, max(rows, run.replay.stack + 1), 1, cached)["bytes"]


def _device(run: RunConfig, gpu: float | None) -> int | None:
    """Bytes of the GPU that a run would learn on; None where it learns on the CPU."""
    if gpu is not None:
        return int(gpu * GIB)
    if run.device == "cpu" or not torch.cuda.is_available():
        return None
    return torch.cuda.mem_get_info()[1]


def _told(found: Plan) -> dict[str, Any]:
    """For programs."""
    own = dataclasses.asdict(found)
    totals = {"sft_total": found.sft.total, "train_total": found.train.total}
    return own | totals | {"on_device": found.on_device, "in_ram": found.in_ram, "wrong": found.wrong}


def _lines(run: RunConfig, found: Plan, advice: list[str]) -> Iterator[str]:
    """For people."""
    where = "the CPU" if found.device is None else f"a GPU of {_size(found.device)}"
    yield f"{run.env_name}, {run.policy.name}, policy.train={run.policy.train}, on {where}"
    yield f"{'':24}{'sft':>12}{'train':>12}"
    for name in ("weights", "optimizer", "gradients", "activations", "total"):
        said = "at the peak" if name == "total" else name
        yield f"{said:24}{_size(getattr(found.sft, name)):>12}{_size(getattr(found.train, name)):>12}"
    if found.device is not None:
        yield f"{'CUDA itself, about':24}{_size(CUDA):>12}{_size(CUDA):>12}"
    replay, kept = found.replay, "cached" if found.cached else "not cached"
    if run.replay.cache == "auto" and found.cached:
        kept += ", unless encoding turns out to be faster"
    yield f"features of a row: {_size(found.feature_row)} ({kept})"
    disk = "no limit" if replay["disk_bytes"] is None else _size(replay["disk_bytes"])
    yield f"replay: {replay['rows']} rows, {_size(replay['bytes'])} of RAM when full, disk: {disk}"
    unknown = run.demos.episodes and not found.shown
    shown = "demonstrations, once they are recorded" if unknown else f"{_size(found.shown)} of demonstrations"
    loading = f", {_size(found.loading)} while weights are loaded" if found.loading else ""
    yield (
        f"RAM: about {_size(found.in_ram)} of {_size(found.ram)}: that, {shown}{loading}, {_size(PROGRAM)} for the "
        f"program and {_size(found.workers * WORKER)} for {found.workers} workers, about"
    )
    for what, (wanted, there) in found.wrong.items():
        yield f"does not fit: {what}: {_size(wanted)} wanted, {_size(there)} there"
    if advice:
        yield f"it would fit with: {' '.join(advice)}"
    elif not found.wrong:
        yield "it fits"


def _size(count: int) -> str:
    """In a unit that suits it."""
    for unit, size in (("GiB", GIB), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
