"""A policy as it travels to where a copy of it acts: all of it once, and then what training changes.

Plain bytes in arrays, which Ray's object store hands to every process of a node without a copy. They are read as
safetensors and JSON, never as a pickle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import load, save

from vla_rl.models.policy import Policy

Files = dict[str, np.ndarray]
"""The files of a policy's folder, uint8 by path."""


def whole(policy: Policy) -> Files:
    """The policy as `Policy.save_pretrained` writes it."""
    with TemporaryDirectory() as folder:
        policy.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): np.fromfile(path, np.uint8) for path in files}


def policy_of(files: Mapping[str, np.ndarray], plugins: Sequence[str] = ()) -> Policy:
    """A policy from what `whole` gave."""
    with TemporaryDirectory() as folder:
        return Policy.from_pretrained(_written(files, Path(folder)), plugins)


def replace_whole(policy: Policy, files: Mapping[str, np.ndarray]) -> None:
    """Have a policy be what `whole` gave of one like it."""
    with TemporaryDirectory() as folder:
        policy.load_pretrained(_written(files, Path(folder)))


def trained(policy: Policy) -> np.ndarray:
    """What training changes, uint8 [bytes]."""
    named = {name: each for name, each in policy.named_parameters() if each.requires_grad}
    return np.frombuffer(save({name: each.detach().cpu().contiguous() for name, each in named.items()}), np.uint8)


@torch.no_grad()
def replace_trained(policy: Policy, weights: np.ndarray) -> None:
    """Have a policy be what `trained` gave of one like it."""
    own = dict(policy.named_parameters())
    for name, value in load(weights.tobytes()).items():
        own[name].copy_(value)


def _written(files: Mapping[str, np.ndarray], folder: Path) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content.tofile(path)
    return folder
