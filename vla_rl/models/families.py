"""How families of vision-language models differ: the layout of pixels, the tokens around an image, the masks.

Everything else in this package is the same for all of them. A family is found by `model_type`, or by that of a
parent of the config's class, so that a subclass of a stock model needs no row of its own.

Shapes: B batch, V views, T tokens, N visual tokens of a view, P a vision patch, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from einops import repeat

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Family:
    """What the wrapper must know of a family."""

    side: Callable[[Any, int], int]
    """(config, image_size) -> visual tokens along one side of a view."""
    step: Callable[[Any], int]
    """(config) -> pixels along one side of a visual token; image_size must be a multiple."""
    look: Callable[[Any, torch.Tensor], Any]
    """(base model, pixels [B, V, 3, H, W]) -> its image output, with `pooler_output`."""
    extras: Callable[[torch.Tensor, int, torch.Tensor, Any], dict[str, Any]] = lambda ids, image, pixels, config: {}
    """(ids [B, T], image token, pixels [B, V, 3, H, W], config) -> more inputs of the base model."""
    before: tuple[str, ...] = ()
    """Tokens before the image tokens of a view, where the tokenizer has them."""
    after: tuple[str, ...] = ()
    begin: str = "first"
    """Where the tokenizer's beginning-of-text token goes: first, or after the images."""
    causal: bool = True
    """Whether padding on the right can be left to the causal mask."""
    resizable: bool = True
    """Whether image_size may differ from the one in the config."""
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF


def _idefics_step(config: Any) -> int:
    return config.vision_config.patch_size * config.scale_factor


def _idefics_look(base: Any, pixels: torch.Tensor) -> Any:
    # Not get_image_features: it drops images whose pixels are all 0 as padding.
    seen = base.vision_model(pixel_values=pixels.flatten(0, 1)).last_hidden_state
    return SimpleNamespace(pooler_output=list(base.connector(seen)))


def _clip_step(config: Any) -> int:
    return config.vision_config.patch_size


def _clip_look(base: Any, pixels: torch.Tensor) -> Any:
    return base.get_image_features(pixel_values=pixels.flatten(0, 1), return_dict=True)


def _qwen_step(config: Any) -> int:
    return config.vision_config.patch_size * config.vision_config.spatial_merge_size


def _qwen_grid(pixels: torch.Tensor, config: Any) -> torch.Tensor:
    """(time, rows, columns) in patches of each view: int64 [B * V, 3]."""
    side = pixels.shape[-1] // config.vision_config.patch_size
    return torch.tensor([1, side, side], device=pixels.device).repeat(pixels.shape[0] * pixels.shape[1], 1)


def _qwen_look(base: Any, pixels: torch.Tensor) -> Any:
    """The patches in the order of the family's image processor: by merged cell, then inside it."""
    vision = base.config.vision_config
    patch, merge, frames = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    x = repeat(
        pixels,
        "b v c (row my py) (column mx px) -> (b v row column my mx) (c frame py px)",
        my=merge,
        py=patch,
        mx=merge,
        px=patch,
        frame=frames,
    )
    return base.get_image_features(x, image_grid_thw=_qwen_grid(pixels, base.config), return_dict=True)


def _qwen_extras(ids: torch.Tensor, image: int, pixels: torch.Tensor, config: Any) -> dict[str, Any]:
    return {"image_grid_thw": _qwen_grid(pixels, config), "mm_token_type_ids": (ids == image).int()}


def _prefix_extras(ids: torch.Tensor, image: int, pixels: torch.Tensor, config: Any) -> dict[str, Any]:
    # Token type 0 is PaliGemma's prefix: all of it attends to all of it, as when the model answers a prompt.
    return {"token_type_ids": torch.zeros_like(ids)}


_IDEFICS = Family(
    side=lambda config, size: size // _idefics_step(config),
    step=_idefics_step,
    look=_idefics_look,
    before=("<fake_token_around_image>", "<global-img>"),
    after=("<fake_token_around_image>",),
)
_LLAVA = Family(
    side=lambda config, size: size // _clip_step(config),
    step=_clip_step,
    look=_clip_look,
    resizable=False,
    mean=CLIP_MEAN,
    std=CLIP_STD,
)
_PALIGEMMA = Family(
    side=lambda config, size: size // _clip_step(config),
    step=_clip_step,
    look=_clip_look,
    extras=_prefix_extras,
    begin="after images",
    causal=False,
    resizable=False,
)
_QWEN = Family(
    side=lambda config, size: size // _qwen_step(config),
    step=_qwen_step,
    look=_qwen_look,
    extras=_qwen_extras,
    before=("<|vision_start|>",),
    after=("<|vision_end|>",),
    mean=CLIP_MEAN,
    std=CLIP_STD,
)
FAMILIES = {
    "idefics3": _IDEFICS,
    "smolvlm": _IDEFICS,
    "llava": _LLAVA,
    "paligemma": _PALIGEMMA,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": _QWEN,
}
_DEFAULT_SIZES = {"qwen2_5_vl": 224, "qwen3_vl": 224}


def family_of(config: Any) -> Family:
    """The family of a model's config.

    Raises:
        ValueError: no row for it; the message names those that there are.
    """
    for parent in type(config).__mro__:
        row = FAMILIES.get(getattr(parent, "model_type", ""))
        if row is not None:
            return row
    raise ValueError(f"backbone of model_type {config.model_type!r} is not supported; known: {', '.join(FAMILIES)}")


def image_size_of(config: Any, wanted: int | None) -> int:
    """The side in pixels of the square image that the model shall see: `wanted`, or the config's.

    Raises:
        ValueError: the family cannot see images of that size.
    """
    family = family_of(config)
    native = getattr(config.vision_config, "image_size", None) or _DEFAULT_SIZES.get(config.model_type)
    size = wanted or native
    step = family.step(config)
    if size is None:
        raise ValueError(f"image_size must be given for a backbone of model_type {config.model_type!r}")
    if not family.resizable and size != native:
        raise ValueError(f"image_size {size}: this {config.model_type} backbone sees images of {native} only")
    if size % step or size <= 0:
        nearest = max(step, round(size / step) * step)
        raise ValueError(f"image_size {size} must be a multiple of {step}; nearest: {nearest}")
    return size
