"""Numbers between host and device: what is sent is not waited for, and what is fetched is waited for once.

On CUDA, a copy from memory that is not page-locked waits for all the work before it; so do `item()`, `tolist()` and
each `cpu()`. Whoever acts or learns sends, fetches and makes constants by these functions, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch


def sent(value: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on `device`, in its own dtype; on CUDA by way of page-locked memory, so that nobody waits."""
    host = torch.as_tensor(value)
    if device.type == "cuda" and host.device.type == "cpu" and not host.is_pinned():
        host = host.pin_memory()  # a copy, so that what it was made from may be changed at once
    return host.to(device, non_blocking=True)


def fetched(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of the device as arrays, by name: all are copied, and then waited for together.

    values: tensors, None, or mappings of such.
    """
    hosts = _on_host(values)
    device = next((value.device for value in _flat(values) if value.device.type == "cuda"), None)
    if device is not None:
        torch.cuda.current_stream(device).synchronize()
    return _as_arrays(hosts)


def constant(values: Sequence[float], device: torch.device) -> torch.Tensor:
    """float32 [n], made on the device: a list would have to be copied there, and be waited for."""
    return torch.stack([torch.full((), value, dtype=torch.float32, device=device) for value in values])


def _flat(values: Mapping[str, Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for value in values.values():
        found += _flat(value) if isinstance(value, Mapping) else [] if value is None else [value]
    return found


def _on_host(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _on_host(value) if isinstance(value, Mapping) else None if value is None else _copied(value)
        for key, value in values.items()
    }


def _copied(value: torch.Tensor) -> torch.Tensor:
    if value.device.type != "cuda":
        return value.detach().cpu()
    host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    return host.copy_(value.detach(), non_blocking=True)


def _as_arrays(hosts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _as_arrays(host) if isinstance(host, Mapping) else None if host is None else host.numpy()
        for key, host in hosts.items()
    }
