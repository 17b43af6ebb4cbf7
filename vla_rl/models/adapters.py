"""What of a trunk trains: nothing, low-rank adapters (LoRA, arXiv 2106.09685), or all of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from vla_rl.config.policy import LoraSettings, PolicySettings
from vla_rl.models.backbone import Backbone
from vla_rl.models.shards import made_whole
from vla_rl.models.slot_tokens import merge_slot_rows, slot_rows_off, train_slot_rows
from vla_rl.models.trunk import Trunk


def frozen_beside(trunk: Trunk, settings: PolicySettings) -> Trunk | None:
    """Have of a trunk that trains what `settings.train` says, and nothing else; returns a copy that never does, where
    all of it trains.

    Raises:
        ValueError: weights in half precision would train, or the adapters have nowhere to go.
    """
    if settings.train == "all":
        dtype = str(trunk.backbone.model.dtype).removeprefix("torch.")
        if dtype != "float32":
            raise ValueError(
                f"policy.train=all: what a step changes is rounded away in weights of {dtype}; give "
                "policy.backbone.dtype=float32, and mixed_precision=bf16 to compute in half precision, or "
                "policy.train=lora, whose adapters are float32 beside weights in half precision"
            )
        return copy.deepcopy(trunk).requires_grad_(False)
    trunk.requires_grad_(False)
    if settings.train == "lora":
        add_lora(trunk.backbone, settings.lora)
    return None


def share_frozen(copied: nn.Module, policy: nn.Module) -> None:
    """Have a policy's copy refer to those weights of the policy that never train, where its own equal them.

    Beneath adapters that is the whole model; of a trunk that trains, what its frozen copy holds.
    """
    never = {name: value for name, value in policy.named_parameters(remove_duplicate=False) if not value.requires_grad}
    for path, module in copied.named_modules():
        for key, own in module._parameters.items():
            name = f"{path}.{key}"
            for place in (name, name.replace("trunk.", "frozen.", 1)):
                found = never.get(place)
                if own is not None and found is not None and own.dtype == found.dtype and torch.equal(own, found):
                    module._parameters[key] = found
                    break


def add_lora(backbone: Backbone, settings: LoraSettings) -> None:
    """Inject adapters that start as the identity into linear layers; freeze everything else.

    They are float32 whatever the weights beneath them are: what a step changes would be rounded away in half precision.

    Raises:
        ValueError: the named parts of the model have none of the named layers.
    """
    from peft import LoraConfig, inject_adapter_in_model  # here, since importing it takes seconds

    model = backbone.model
    linear = [name for name, module in model.model.named_modules() if isinstance(module, nn.Linear)]
    language = f"{backbone.language}."
    inside = [name for name in linear if ("language" if name.startswith(language) else "vision") in settings.parts]
    wanted = [name for name in inside if settings.takes(name.rpartition(".")[2])]
    if not wanted:
        ends = sorted({name.rpartition(".")[2] for name in inside})
        raise ValueError(
            f"lora.modules {settings.modules} name no linear layer of {' and '.join(settings.parts)}; there are {ends}"
        )
    targets = [f"model.{name}" for name in wanted]
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=targets, lora_dropout=0.0)
    inject_adapter_in_model(config, model)
    if settings.slot_tokens:
        train_slot_rows(model, backbone.tokenizer)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add what the adapters have learnt to the weights beneath them, and start the adapters as the identity again."""
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        with made_whole(layer):
            for name in layer.active_adapters:
                layer.get_base_layer().weight += layer.get_delta_weight(name)
                layer.reset_lora_parameters(name, init_lora_weights=True)
    merge_slot_rows(model)


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The model as it was before its adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    slot_rows_off(model, True)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        slot_rows_off(model, False)
