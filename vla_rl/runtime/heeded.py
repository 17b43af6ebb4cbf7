"""What the command line says of a policy that is not made from the config, but taken from a checkpoint."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vla_rl import registry
from vla_rl.config import RunConfig
from vla_rl.config.policy import LoraSettings, PolicySettings
from vla_rl.models.policy import Policy
from vla_rl.registry import ConfigError


def heed(run: RunConfig, policy: Policy) -> None:
    """Have the policy train as the run says, and its weights be of the dtype that the command line gives.

    Raises:
        ConfigError: a key of `policy` on the command line says what this policy is not and cannot become.
    """
    wanted = run.policy.settings(run.plugins, run.replay.stack)
    dtype = "policy.backbone.dtype"
    for key, given, own in _told(run, wanted, policy):
        if not _same(given, own):
            raise ConfigError(
                f"{key}: {given!r}, but train.checkpoint={run.train.checkpoint} holds a policy with {own!r}, which it "
                "keeps; leave the key out, or start a policy of your own by `vla-rl sft`"
            )
    if dtype in run.given and (name := getattr(wanted.backbone, "dtype", None)):
        policy.trunk.backbone.set_dtype(getattr(torch, name))
        backbone = {**_described(policy.settings.backbone), "dtype": name}
        policy.settings = dataclasses.replace(policy.settings, backbone=backbone)
    try:
        policy.set_trainable(wanted.train, _lora(run, wanted, policy))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _lora(run: RunConfig, wanted: PolicySettings, policy: Policy) -> LoraSettings:
    """The run's adapters; where its config is that of another backbone, those that suit the policy's own, but for what
    the command line says of them."""
    kinds = (_described(each.backbone).get("type") for each in (wanted, policy.settings))
    if len(set(kinds)) == 1:
        return wanted.lora
    said = {name: value for name, value in vars(wanted.lora).items() if f"policy.lora.{name}" in run.given}
    return dataclasses.replace(policy.settings.lora, **said)


def warn_of_blindness(policy: Policy) -> None:
    """Say so where nothing that head and critic read of pictures was ever taught."""
    if policy.trunk.pointers.grounded or "tokens" in policy.settings.head.reads:
        return
    warnings.warn(
        f"policy.head.reads: {list(policy.settings.head.reads)}, of a backbone whose pointers were never taught: of "
        "pictures, head and critic read nothing but places at random. Teach the pointers by scripts/ground.py, or "
        "start a policy with policy.head.reads=[pointers,tokens], whose head and critic read the backbone's tokens",
        stacklevel=2,
    )


def _told(run: RunConfig, wanted: PolicySettings, policy: Policy) -> Iterator[tuple[str, Any, Any]]:
    """Each key that the command line gives and that is fixed once a policy is made: what it says, and what is."""
    own = policy.settings
    parts: dict[str, tuple[Any, Any]] = {
        "backbone": (_described(wanted.backbone), _described(own.backbone)),
        "head": (dataclasses.asdict(wanted.head), dataclasses.asdict(own.head)),
        "views": (wanted.views, own.views),
        "remembers": (wanted.remembers, own.remembers),
    }
    if own.train == "lora":  # else its adapters are made now
        parts["lora"] = (dataclasses.asdict(wanted.lora), dataclasses.asdict(own.lora))
    for part, (says, holds) in parts.items():
        path = f"policy.{part}"
        if not isinstance(says, dict):
            if path in run.given:
                yield path, says, holds
            continue
        chosen = ("type", "source") if part == "backbone" and "policy" in run.given else ()  # by a group's file
        for name, value in says.items():
            if (f"{path}.{name}" in run.given or name in chosen) and name != "dtype":
                yield f"{path}.{name}", value, holds.get(name)


def _described(backbone: Any) -> dict[str, Any]:
    return backbone if isinstance(backbone, dict) else registry.describe(backbone, "backbones")


def _same(given: Any, own: Any) -> bool:
    """Whether two values are one, or two names of one folder."""
    if given == own:
        return True
    both = isinstance(given, str) and isinstance(own, str)
    return both and Path(given).exists() and Path(given).resolve() == Path(own).resolve()
