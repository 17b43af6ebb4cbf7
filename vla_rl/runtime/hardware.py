"""What a run is told of the machine, looked at before anything is made: device, precision, how it was started."""

from __future__ import annotations

import os

import torch

from vla_rl.buffer_pool import Allocate
from vla_rl.registry import ConfigError

DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What is computed in, by the name of a mixed precision; None where weights are computed in as they are."""
SPREADING = ("FSDP", "DEEPSPEED", "MEGATRON_LM")
"""What `accelerate launch` may be told to spread a model by, as it says in the environment."""


def check_device(device: str) -> None:
    """Raise ValueError for a name of no device, or of one that this machine lacks."""
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: 'cuda' was asked for, but torch sees no CUDA device; use 'auto' or 'cpu'")


def use_tensor_cores(device: torch.device, tf32: bool = True) -> None:
    """Have what computes in float32 use TF32 on CUDA: several times as fast, and nothing here needs the last bits."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32


def host_memory(device: torch.device) -> Allocate:
    """What gives the memory of batches for `device`: page-locked for CUDA, which copies from it without waiting."""
    if device.type != "cuda":
        return bytearray
    return lambda size: torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy().data


def check_started() -> None:
    """Raise ConfigError where accelerate was told to spread a model in a way of its own."""
    for name in SPREADING:
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            raise ConfigError(
                f"accelerate was started for {name}, which wraps a model that is read in one way; a policy has more. "
                "Start it without, and give sharding=fsdp for a backbone that does not fit one GPU"
            )
