"""Tiny random vision-language models of real families, made offline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Idefics3Config,
    LlavaConfig,
    PaliGemmaConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
    SmolVLMConfig,
)

from vla_rl.models.backbone import Backbone

FAMILIES = ("idefics3", "smolvlm", "llava", "paligemma", "qwen2_5_vl", "qwen3_vl")
_TEXT = {
    "vocab_size": 264, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 1,
}  # fmt: skip
_VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
_QWEN_VISION = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2,
    "out_hidden_size": 32,
}  # fmt: skip


def tokenizer(*specials: str) -> PreTrainedTokenizerFast:
    """Bytes as tokens; `specials` get the ids from 2 on."""
    names = ("<pad>", "<s>", *specials)
    vocabulary = {name: i for i, name in enumerate((*names, *sorted(pre_tokenizers.ByteLevel.alphabet())))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", additional_special_tokens=list(specials)
    )


def parts(family: str) -> tuple[Any, Any]:
    """The config and the tokenizer of a family: 32 pixels, a grid of 4 x 4 visual tokens."""
    text: dict[str, Any] = dict(_TEXT)
    if family in ("idefics3", "smolvlm"):
        kind, scale = (Idefics3Config, 1) if family == "idefics3" else (SmolVLMConfig, 2)
        vision = _VISION | {"patch_size": 8 // scale}
        config = kind(
            text_config=text | {"model_type": "llama"}, vision_config=vision, scale_factor=scale, image_token_id=2,
            tie_word_embeddings=True,
        )  # fmt: skip
        return config, tokenizer("<image>", "<fake_token_around_image>", "<global-img>")
    if family == "llava":
        vision = _VISION | {"model_type": "clip_vision_model", "projection_dim": 32}
        return (
            LlavaConfig(text_config=text | {"model_type": "llama"}, vision_config=vision, image_token_id=2),
            tokenizer("<image>"),
        )
    if family == "paligemma":
        config = PaliGemmaConfig(
            text_config=text | {"model_type": "gemma"}, vision_config=_VISION | {"model_type": "siglip_vision_model"},
            projection_dim=32, image_token_id=2,
        )  # fmt: skip
        return config, tokenizer("<image>")
    ids = {"image_token_id": 2, "video_token_id": 3, "vision_start_token_id": 4, "vision_end_token_id": 5}
    specials = tokenizer("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    rope = {"mrope_section": [2, 3, 3]}
    if family == "qwen2_5_vl":
        text["rope_scaling"] = rope | {"type": "mrope"}
        vision = _QWEN_VISION | {"window_size": 16, "fullatt_block_indexes": [1]}
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids), specials
    assert family == "qwen3_vl", family
    text["rope_scaling"] = rope | {"rope_type": "default"}
    vision = _QWEN_VISION | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    return Qwen3VLConfig(text_config=text, vision_config=vision, **ids), specials


@dataclass(frozen=True)
class Random:
    """A backbone of random weights."""

    family: str = "idefics3"

    def load(self) -> Backbone:
        """Fresh weights from torch's generator."""
        config, words = parts(self.family)
        config.get_text_config().vocab_size = len(words)  # no room for `<ptr>` and `<self>`: rows are added
        return Backbone.from_config(config, words, image_size=32)


def observation(
    rows: int, cameras: tuple[str, ...] = ("front",), stack: int | None = None, state: int = 3, seed: int = 0
) -> dict[str, Any]:
    """A random batched observation."""
    rng = np.random.default_rng(seed)
    lead = (rows,) if stack is None else (rows, stack)
    images = {
        f"observation.images.{name}": rng.integers(0, 256, (*lead, 32 + 8 * i, 32, 3), dtype=np.uint8)
        for i, name in enumerate(cameras)
    }
    texts = ["reach the red cube", "push it", "go to the blue mark"]
    values = rng.normal(size=(rows, state)).astype(np.float32)
    return {**images, "observation.state": values, "task": [texts[i % 3] for i in range(rows)]}
