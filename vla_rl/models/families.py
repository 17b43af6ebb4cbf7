"""How families of vision-language models differ: the layout of pixels, the tokens around an image, the masks.

Everything else in this package is the same for all of them. A family is found by `model_type`, or by that of a
parent of the config's class, so that a subclass of a stock model needs no row of its own. Every family sees one square
picture a view, which some can cut into tiles.

Shapes: B batch, V views, T tokens, N visual tokens of a view, P a vision patch, D width.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from einops import repeat
from transformers.models.llama.modeling_llama import LlamaModel

from vla_rl.models.tiles import IDEFICS, INTERN, NEXT, ONEVISION, Tiling

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


def _read(
    base: Any, ids: torch.Tensor, mask: torch.Tensor | None, seen: Any, extras: dict[str, Any], cache: Any = None
) -> torch.Tensor:
    shown = {} if seen is None else {"mm_encoder_outputs": {"image": seen}}
    keeps = {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
    return base(input_ids=ids, attention_mask=mask, **keeps, **shown, **extras).last_hidden_state


@dataclass(frozen=True)
class Family:
    """What the wrapper must know of a family."""

    side: Callable[[Any, int], int]
    """(config, image_size) -> visual tokens along one side of a view."""
    step: Callable[[Any], int]
    """(config) -> pixels along one side of a visual token; image_size must be a multiple where it may be chosen."""
    look: Callable[[Any, torch.Tensor], Any]
    """(base model, pixels [B, V, 3, H, W]) -> its image output, with `pooler_output`."""
    extras: Callable[[torch.Tensor, int, torch.Tensor, Any], dict[str, Any]] = lambda ids, image, pixels, config: {}
    """(ids [B, T], image token, pixels [B, V, 3, H, W], config) -> more inputs of the base model."""
    read: Callable[..., torch.Tensor] = _read
    """(base model, ids [B, T], mask [B, T] or None, image output or None, more inputs, a cache of transformers to fill
    or None) -> last hidden states [B, T, D]."""
    goes_on: bool = True
    """Whether the language model can go on with a sequence, token by token."""
    around: tuple[int, int] = (0, 0)
    """How many image tokens of a view come before and after those of the grid."""
    before: tuple[str, ...] = ()
    """Tokens before the image tokens of a view, where the tokenizer has them."""
    after: tuple[str, ...] = ()
    begin: str = "first"
    """Where the tokenizer's beginning-of-text token goes: first, or after the images."""
    first: int = 0
    """The position of a sequence's first token."""
    causal: bool = True
    """Whether padding on the right can be left to the causal mask."""
    tiling: Tiling | None = None
    """How it sees a picture that is cut into tiles, where it learned that."""
    resizable: bool = True
    """Whether image_size may differ from the one in the config."""
    default_size: int | None = None
    """In pixels, where the config tells none."""
    language: str = "language_model"
    """Where the base model keeps what reads the sequence."""
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    lora_rate: float | None = 1e-4
    """The learning rate with which the field fine-tunes such models by adapters; None: as the head's."""
    all_rate: float | None = 1e-5
    """The same of all weights."""


def _idefics_step(config: Any) -> int:
    return config.vision_config.patch_size * config.scale_factor


def _idefics_look(base: Any, pixels: torch.Tensor) -> Any:
    # Not get_image_features: it drops images whose pixels are all 0 as padding. Nor the vision model's own pass, which
    # looks on the device whether any of the patches is padding: none is.
    vision, x = base.vision_model, pixels.flatten(0, 1)
    side = x.shape[-1] // vision.patch_size
    there = torch.ones(len(x), side, side, dtype=torch.bool, device=x.device)
    x = vision.embeddings(pixel_values=x, patch_attention_mask=there)
    x = vision.post_layernorm(vision.encoder(inputs_embeds=x, attention_mask=None).last_hidden_state)
    return SimpleNamespace(pooler_output=list(base.connector(x)))


def _idefics_read(
    base: Any, ids: torch.Tensor, mask: torch.Tensor | None, seen: Any, extras: dict[str, Any], cache: Any = None
) -> torch.Tensor:
    """What `base` computes, without its looks at the device: whether image tokens are as many as image features, and
    whether positions are those of several texts in a row. Neither can be otherwise here."""
    text = base.text_model
    if mask is not None or not isinstance(text, LlamaModel) or text.config._attn_implementation != "sdpa":
        return _read(base, ids, mask, seen, extras, cache)
    x_BTD = text.get_input_embeddings()(ids)
    if seen is not None:
        at_BT1 = (ids == base.config.image_token_id).unsqueeze(-1)
        x_BTD = x_BTD.masked_scatter(at_BT1, torch.cat(seen.pooler_output).to(x_BTD.dtype))
    position_1T = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
    waves = text.rotary_emb(x_BTD, position_ids=position_1T)
    told = {"position_ids": position_1T, "position_embeddings": waves, "past_key_values": cache}
    for layer in text.layers:  # without a mask, attention is causal
        x_BTD = layer(x_BTD, attention_mask=None, **told)
    return text.norm(x_BTD)


def _clip_step(config: Any) -> int:
    return config.vision_config.patch_size


def _clip_side(config: Any, size: int) -> int:
    # What is left over is not seen: SigLIP's 384 pixels are 27 patches of 14, and 6 pixels.
    return size // _clip_step(config)


def _clip_look(base: Any, pixels: torch.Tensor) -> Any:
    return base.get_image_features(pixel_values=pixels.flatten(0, 1), return_dict=True)


def _next_look(base: Any, pixels: torch.Tensor) -> Any:
    """The picture as a whole, as these models see each of several, and the token that ends it."""
    config = base.config
    found = base.vision_tower(pixels.flatten(0, 1), output_hidden_states=True, return_dict=True).hidden_states
    layers = config.vision_feature_layer
    chosen = [found[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
    x = torch.cat(chosen, -1)
    if config.vision_feature_select_strategy == "default":  # CLIP's class token
        x = x[:, 1:]
    x = base.multi_modal_projector(x)
    end = base.image_newline.to(x.dtype).expand(len(x), 1, -1)
    return SimpleNamespace(pooler_output=list(torch.cat([x, end], 1)))


def _gemma_side(config: Any, size: int) -> int:
    return math.isqrt(config.mm_tokens_per_image)


def _gemma_step(config: Any) -> int:
    return config.vision_config.image_size // _gemma_side(config, 0)


def _gemma_extras(ids: torch.Tensor, image: int, pixels: torch.Tensor, config: Any) -> dict[str, Any]:
    # Token type 1: the tokens of an image attend to one another, whatever their order.
    return {"token_type_ids": (ids == image).long()}


def _intern_step(config: Any) -> int:
    return round(side_of(config.vision_config.patch_size) / config.downsample_ratio)


def _florence_step(config: Any) -> int:
    return math.prod(config.vision_config.patch_stride)


def _florence_look(base: Any, pixels: torch.Tensor) -> Any:
    return base.get_image_features(pixels.flatten(0, 1), return_dict=True)


def _florence_read(
    base: Any, ids: torch.Tensor, mask: torch.Tensor | None, seen: Any, extras: dict[str, Any], cache: Any = None
) -> torch.Tensor:
    """By the encoder alone: it reads images and text both ways, and its decoder only writes answers."""
    x_BTD = base.get_input_embeddings()(ids)
    if seen is not None:
        at_BT1 = (ids == base.config.image_token_id).unsqueeze(-1)
        x_BTD = x_BTD.masked_scatter(at_BT1, seen.pooler_output.to(x_BTD.dtype))
    return base.language_model.encoder(inputs_embeds=x_BTD, attention_mask=mask).last_hidden_state


def _qwen_step(config: Any) -> int:
    return config.vision_config.patch_size * config.vision_config.spatial_merge_size


def _qwen_grid(pixels: torch.Tensor, config: Any) -> torch.Tensor:
    """(time, rows, columns) in patches of each view: int64 [B * V, 3]."""
    side = pixels.shape[-1] // config.vision_config.patch_size
    grid = torch.full((pixels.shape[0] * pixels.shape[1], 3), side, device=pixels.device)
    grid[:, 0] = 1
    return grid


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
    read=_idefics_read,
    before=("<fake_token_around_image>", "<global-img>"),
    after=("<fake_token_around_image>",),
    tiling=IDEFICS,
    language="text_model",
)
_LLAVA = Family(
    side=_clip_side,
    step=_clip_step,
    look=_clip_look,
    resizable=False,
    mean=CLIP_MEAN,
    std=CLIP_STD,
)
_LLAVA_NEXT = replace(_LLAVA, look=_next_look, around=(0, 1), tiling=NEXT)
_PALIGEMMA = Family(
    side=_clip_side,
    step=_clip_step,
    look=_clip_look,
    extras=_prefix_extras,
    first=1,
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
    default_size=224,
    mean=CLIP_MEAN,
    std=CLIP_STD,
)
FAMILIES = {
    "idefics3": _IDEFICS,
    "smolvlm": _IDEFICS,
    "llava": _LLAVA,
    "llava_next": _LLAVA_NEXT,
    "llava_onevision": replace(_LLAVA_NEXT, tiling=ONEVISION),
    "paligemma": _PALIGEMMA,  # both of them
    "gemma3": Family(
        side=_gemma_side,
        step=_gemma_step,
        look=_clip_look,
        extras=_gemma_extras,
        before=("<start_of_image>",),
        after=("<end_of_image>",),
        resizable=False,
    ),
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": replace(_QWEN, mean=HALF, std=HALF),
    "internvl": Family(
        side=lambda config, size: size // _intern_step(config),
        step=_intern_step,
        look=_clip_look,
        before=("<img>",),
        after=("</img>",),
        tiling=INTERN,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "florence2": Family(
        side=lambda config, size: size // _florence_step(config),
        step=_florence_step,
        look=_florence_look,
        read=_florence_read,
        goes_on=False,
        around=(1, 0),
        begin="after images",
        causal=False,
        default_size=768,
        language="language_model.encoder",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "vla_smollm": replace(_IDEFICS, tiling=None),
    "vla_tiny": replace(_IDEFICS, tiling=None, lora_rate=None, all_rate=None),
}


def family_of(config: Any) -> Family:
    """The family of a model's config.

    Raises:
        ValueError: no row for it; the message names those that there are.
    """
    for parent in type(config).__mro__:
        row = FAMILIES.get(getattr(parent, "model_type", ""))
        if row is not None:
            return row
    raise ValueError(
        f"backbone of model_type {config.model_type!r} is not supported; known: {', '.join(FAMILIES)}. Another one "
        "needs a row in vla_rl/models/families.py"
    )


def attention_of(config: Any) -> str | dict[str, str]:
    """The implementation of attention, by part where they differ: Gemma 2 caps its logits, which sdpa cannot."""
    if config.get_text_config().model_type in ("gemma2", "gemma2_text"):
        return {"text_config": "eager", "vision_config": "sdpa"}
    return "sdpa"


def check_takes_pictures(model: Any) -> None:
    """Whether the base model takes what was seen from us; an older transformers passes over it without a word.

    Raises:
        ValueError: it does not.
    """
    takes = _parameters(type(model.model))
    if family_of(model.config).read in (_read, _idefics_read) and "mm_encoder_outputs" not in takes:
        raise ValueError(
            f"{model.config.model_type} of transformers {transformers.__version__} would be blind: its language model "
            "takes no image features (mm_encoder_outputs) from outside; install transformers>=5.23"
        )


def _parameters(base: type) -> set[str]:
    """Of the forward pass of a base model and its parents, whose decorators may hide them."""
    found = set[str]()
    for parent in base.__mro__:
        if "forward" in vars(parent):
            found |= set(inspect.signature(vars(parent)["forward"]).parameters)
    return found


def side_of(value: Any) -> int:
    """Of a number, or of a pair of equal ones."""
    return value[0] if isinstance(value, list | tuple) else value
