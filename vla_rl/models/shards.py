"""Weights of which each process keeps a share: how they are dealt out, made whole, and changed.

PyTorch's FSDP2 deals out a trunk's layers. Each process keeps a share of every weight of a layer, along the first axis,
and has the whole of a layer only while that is computed. All processes therefore compute a layer together. What lies
around the layers (tables of words, norms, pointers) stays whole everywhere.

Whatever makes a weight whole, here and in what calls this, is done by all processes together.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """The members of every list of layers in a model, outer ones first."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return [layer for each in lists for layer in each]


def deal_out(trunk: nn.Module, model: nn.Module, mesh: DeviceMesh, dtype: torch.dtype | None) -> list[FSDPModule]:
    """Have each process of the mesh keep its share of the layers of a trunk's model, on the mesh's device; returns the
    layers.

    dtype: what they are computed in under autocast; None where weights are computed in as they are. On an accelerator
        the whole of a layer is of that dtype then, and gradients are averaged in float32; on a processor, whose
        norms take no such weights, autocast turns them.
    """
    layers = [layer for layer in repeated_layers(model) if _is_computed(layer)]
    precision = MixedPrecisionPolicy()
    if dtype is not None and mesh.device_type != "cpu":
        precision = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)
    for layer in reversed(layers):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, mp_policy=precision)
    whole = {parameter for parameter in trunk.parameters() if not isinstance(parameter, DTensor)}
    # The trunk has no shares of its own, so it may return a view; as the root it has its layers share their streams.
    warnings.filterwarnings("ignore", r"FSDP2-wrapped module \(FSDPTrunk\) returned a view", UserWarning)
    fully_shard(trunk, mesh=mesh, ignored_params=whole)
    return [layer for layer in layers if isinstance(layer, FSDPModule)]


def _is_computed(layer: nn.Module) -> bool:
    """Whether a member of a list is a layer with weights, and no list of others."""
    return not isinstance(layer, nn.ModuleList | nn.ModuleDict) and next(layer.parameters(), None) is not None


def whole(value: torch.Tensor) -> torch.Tensor:
    """A tensor as it is without shares."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def share_of(value: torch.Tensor, like: DTensor) -> torch.Tensor:
    """This process's share of a whole tensor, as it has one of `like`."""
    placed = distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return placed.to_local()


@torch.no_grad()
def take(own: torch.Tensor, value: torch.Tensor) -> None:
    """Copy a whole tensor into one, of which this process may have a share only."""
    if isinstance(own, DTensor):
        own.to_local().copy_(share_of(value, own))
    else:
        own.copy_(value)


def gathered(weights: Mapping[str, torch.Tensor], kept: bool) -> dict[str, torch.Tensor]:
    """Weights without shares, which lie in the processor's memory then; those alone that are whole anyway where not
    `kept`, which saves the memory where another process writes them."""
    found = {}
    for name, value in weights.items():
        if not isinstance(value, DTensor):
            found[name] = value
        else:
            made = value.full_tensor()  # by all processes
            if kept:
                found[name] = made.detach().cpu()
    return found


@contextmanager
def made_whole(module: nn.Module) -> Iterator[None]:
    """The weights of a module and its parts are whole for the while; of what is changed of them each process keeps its
    share."""
    dealt = [
        (part, name, own)
        for part in module.modules()
        for name, own in part.named_parameters(recurse=False)
        if isinstance(own, DTensor)
    ]
    for part, name, own in dealt:
        setattr(part, name, nn.Parameter(own.full_tensor(), requires_grad=own.requires_grad))
    try:
        yield
    finally:
        for part, name, own in dealt:
            take(own, getattr(part, name))
            setattr(part, name, own)
