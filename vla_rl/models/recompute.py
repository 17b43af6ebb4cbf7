"""Layers whose activations are computed once more for the gradient, and not kept (arXiv 1604.06174).

The layers of transformers can do so by themselves, but only in training mode, and a trunk is never in that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def outer_layers(model: nn.Module) -> list[nn.Module]:
    """The members of every list of layers in a model, without those inside another member."""
    if isinstance(model, nn.ModuleList):
        return [layer for each in model for layer in (outer_layers(each) if _is_list(each) else [each])]
    return [layer for child in model.children() for layer in outer_layers(child)]


def recompute_layers(model: nn.Module, recompute: bool) -> None:
    """Whether each of the repeated layers keeps only its input for the gradient, and computes the rest once more."""
    for layer in outer_layers(model):
        own = vars(layer)
        # On the instance, so that the hooks of a module, and what shards it, stay outside.
        if recompute:
            own["forward"] = _Recomputed(layer)
        elif isinstance(own.get("forward"), _Recomputed):
            del own["forward"]


@dataclass(frozen=True, eq=False)
class _Recomputed:
    """The forward pass of a layer."""

    layer: nn.Module

    def __call__(self, *args: Any, **named: Any) -> Any:
        forward = partial(type(self.layer).forward, self.layer)
        if not torch.is_grad_enabled():
            return forward(*args, **named)
        # In evaluation mode nothing is drawn, so no random numbers need to be put back.
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **named)


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList)
