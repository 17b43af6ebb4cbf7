"""The optimisers of a run: AdamW, its states in float32 or in 8 bits."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from vla_rl.registry import ConfigError, SetupError
from vla_rl.runtime.sharding import Parameters

ADAMW, ADAMW_8BIT = "adamw", "adamw_8bit"
OPTIMIZERS = (ADAMW, ADAMW_8BIT)
_LEAST, _BLOCK = 4096, 256
"""Entries of a parameter whose states bitsandbytes keeps in 8 bits, and of a block, which has a scale of its own."""


def check_optimizer(name: str, sharding: bool = False, cuda_graphs: bool = False) -> None:
    """Look at an optimiser before it is made.

    Raises:
        ConfigError: its parameters are to be shared among processes, or its steps recorded, which it cannot.
        SetupError: it needs a package which is not installed.
    """
    if name == ADAMW:
        return
    for key, asked in (("sharding", sharding), ("cuda_graphs", cuda_graphs)):
        if asked:
            raise ConfigError(f"optimizer: {name} does not go with {key}; give optimizer={ADAMW}, or leave {key} out")
    _bitsandbytes()


def make_optimizer(name: str, parameters: Parameters, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW, one fused kernel a step; or that of bitsandbytes, whose two states take a byte each (arXiv 2110.02861).

    Parameters of fewer than 4096 entries have float32 states there, too.

    Raises:
        SetupError: bitsandbytes is not installed.
    """
    if name == ADAMW:
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    assert name == ADAMW_8BIT, name
    return _bitsandbytes().optim.AdamW8bit(parameters, lr=lr, weight_decay=weight_decay)


def state_bytes(name: str, entries: int) -> int:
    """What an optimiser keeps of a parameter of so many entries."""
    if name == ADAMW or entries < _LEAST:
        return 8 * entries
    return 2 * entries + 8 * -(-entries // _BLOCK)


def take_step(optimizer: Any, bad: Tensor) -> None:
    """A step of an optimiser, unless `bad`, 1.0 or 0.0, says that a gradient is not finite."""
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = bad  # where the kernel looks, on the device, whether to do anything
        optimizer.step()
    elif not bad.item():  # of which bitsandbytes knows nothing
        optimizer.step()


def _bitsandbytes() -> Any:
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise SetupError(
            f"optimizer: {ADAMW_8BIT} needs bitsandbytes ({error}); `pip install 'vla-rl[8bit]'`, or give {ADAMW}"
        ) from error
