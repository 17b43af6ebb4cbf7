"""Whether a model sees: two pictures have to be two things to it, or all that is learned from it is learned blind."""

from __future__ import annotations

from typing import Any

import torch
import transformers


@torch.no_grad()
def check_sees(backbone: Any) -> None:
    """Show a `Backbone` two pictures beside one text.

    Raises:
        ValueError: what it makes of them is the same, or nothing that fits the model; names it and transformers.
    """
    who = f"{backbone.source} ({backbone.model.config.model_type}, transformers {transformers.__version__})"
    size, device = backbone.image_size, backbone.device
    noise = torch.randn(1, 1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    prompt = backbone.prompt(["where is it"])
    try:
        plain, spotted = (backbone(pixels, prompt) for pixels in (torch.zeros_like(noise), noise))
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{who}: it cannot read a picture of {size} pixels and a text: {error}") from error
    if torch.equal(plain.visual_BVND, spotted.visual_BVND):
        raise ValueError(f"{who}: two pictures give the same image tokens, so that it sees nothing")
    if torch.equal(plain.slots_BSD, spotted.slots_BSD):
        raise ValueError(
            f"{who}: two pictures give the same hidden states, so that its language model is blind to them; install "
            "transformers>=5.23, or report the family"
        )
