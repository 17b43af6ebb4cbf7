"""What a trunk takes of a batched observation, checked and on its device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vla_rl.models.transfer import sent
from vla_rl.specs import IMAGES, STATE, TASK

Inputs = tuple[list[torch.Tensor], Sequence[str], torch.Tensor]
"""Of each camera uint8 [B, H, W, 3] or [B, k, H, W, 3]; B instructions; float32 [B, P]."""


def inputs_of(
    observation: Mapping[str, Any], cameras: Sequence[str], stack: int, state_dim: int, device: torch.device
) -> Inputs:
    """The pictures of `cameras` in their order, `stack` frames of each, the instructions, and the state.

    Raises:
        ValueError: a camera or the state is missing, or of another shape.
    """
    images = [sent(_image(observation, name, stack), device) for name in cameras]
    texts, state = observation[TASK], observation.get(STATE)
    state = torch.zeros(len(texts), 0) if state is None and state_dim == 0 else state
    if state is None or tuple(state.shape) != (len(texts), state_dim):
        found = "none" if state is None else list(state.shape)
        raise ValueError(f"{STATE}: expected [{len(texts)}, {state_dim}]; got {found}")
    return images, texts, sent(torch.as_tensor(state, dtype=torch.float32), device)


def _image(observation: Mapping[str, Any], name: str, stack: int) -> torch.Tensor:
    key = IMAGES + name
    if key not in observation:
        raise ValueError(f"the policy needs {key}; the observation has {', '.join(observation)}")
    image = torch.as_tensor(observation[key])
    frames = 1 if image.ndim == 4 else image.shape[1] if image.ndim == 5 else 0
    if frames != stack:
        raise ValueError(f"{key}: expected {stack} frame(s) a row; got shape {list(image.shape)}")
    return image
