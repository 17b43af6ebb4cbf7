"""A tiny model of every family, with random weights and a tokenizer of bytes: for tests, and to try without a download.

Each sees pictures of 32 pixels as 4 x 4 visual tokens, and is 32 wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Florence2Config,
    Gemma3Config,
    Idefics3Config,
    InternVLConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    PaliGemmaConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3VLConfig,
    SmolVLMConfig,
)

from vla_rl.models.backbone import Backbone

SAMPLES = (
    "idefics3", "smolvlm", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_siglip", "llava_next",
    "llava_onevision", "paligemma", "paligemma2", "gemma3", "internvl", "florence2",
)  # fmt: skip
IMAGE_SIZE = 32
_IMAGE = 2
"""The id of the image token."""
_TEXT: dict[str, Any] = {
    "vocab_size": 264, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 1,
}  # fmt: skip
_VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": IMAGE_SIZE, "patch_size": 8,
}  # fmt: skip
_QWEN_VISION: dict[str, Any] = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2,
    "out_hidden_size": 32,
}  # fmt: skip
_CLIP = _VISION | {"model_type": "clip_vision_model", "projection_dim": 32}
# Two pixels are left over, as of SigLIP's 384 with patches of 14.
_SIGLIP = _VISION | {"model_type": "siglip_vision_model", "vision_use_head": False}
_LEFT_OVER = _SIGLIP | {"image_size": IMAGE_SIZE + 2}
_GEMMA = {"query_pre_attn_scalar": 16, "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}


def byte_tokenizer(*specials: str) -> PreTrainedTokenizerFast:
    """Bytes as tokens; `specials` get the ids from 2 on."""
    names = ("<pad>", "<s>", *specials)
    vocabulary = {name: i for i, name in enumerate((*names, *sorted(pre_tokenizers.ByteLevel.alphabet())))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", additional_special_tokens=list(specials)
    )


def sample(name: str) -> tuple[Any, PreTrainedTokenizerFast]:
    """The config and the tokenizer of one of `SAMPLES`."""
    kind: Any  # the classes take more keys than their signatures tell
    config: Any
    if name in ("idefics3", "smolvlm"):
        kind, scale = (Idefics3Config, 1) if name == "idefics3" else (SmolVLMConfig, 2)
        config = kind(
            text_config=_TEXT | {"model_type": "llama"}, vision_config=_VISION | {"patch_size": 8 // scale},
            scale_factor=scale, image_token_id=_IMAGE, tie_word_embeddings=True,
        )  # fmt: skip
        return config, byte_tokenizer("<image>", "<fake_token_around_image>", "<global-img>")
    if name.startswith("llava"):
        return _llava(name), byte_tokenizer("<image>", "<video>")
    if name.startswith("qwen"):
        return _qwen(name), byte_tokenizer("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    if name.startswith("paligemma"):
        text = {"model_type": "gemma"} if name == "paligemma" else {"model_type": "gemma2"} | _GEMMA
        kind = PaliGemmaConfig
        config = kind(text_config=_TEXT | text, vision_config=_SIGLIP, projection_dim=32, image_token_id=_IMAGE)
        return config, byte_tokenizer("<image>")
    if name == "gemma3":
        kind = Gemma3Config
        config = kind(
            text_config=_TEXT | {"model_type": "gemma3_text"} | _GEMMA, vision_config=_SIGLIP | {"patch_size": 4},
            mm_tokens_per_image=16, image_token_id=_IMAGE, boi_token_id=3, eoi_token_id=4,
        )  # fmt: skip
        return config, byte_tokenizer("<image_soft_token>", "<start_of_image>", "<end_of_image>")
    if name == "internvl":
        config = InternVLConfig(
            text_config=_TEXT | {"model_type": "qwen2"}, image_token_id=_IMAGE, image_seq_length=16,
            vision_config=_VISION | {"model_type": "internvl_vision", "patch_size": 4},
        )  # fmt: skip
        return config, byte_tokenizer("<IMG_CONTEXT>", "<img>", "</img>")
    assert name == "florence2", name
    return _florence(), byte_tokenizer("<image>")


@dataclass(frozen=True)
class Sample:
    """The settings of a backbone of random weights. name: one of SAMPLES."""

    name: str = "idefics3"

    def load(self) -> Backbone:
        """Fresh weights from torch's generator."""
        return sample_backbone(self.name)


def sample_backbone(name: str) -> Backbone:
    """Fresh weights from torch's generator."""
    config, words = sample(name)
    config.get_text_config().vocab_size = len(words)  # no room for `<ptr>` and `<self>`: rows are added
    told = hasattr(config.vision_config, "image_size")
    backbone = Backbone.from_config(config, words, None if told else IMAGE_SIZE)
    if name == "gemma3":  # whose projection starts at 0, and so blind
        torch.nn.init.normal_(backbone.model.model.multi_modal_projector.mm_input_projection_weight, std=0.2)
    return backbone


def _llava(name: str) -> Any:
    vision = _CLIP if name in ("llava", "llava_next") else _LEFT_OVER if name == "llava_siglip" else _SIGLIP
    strategy = "default" if vision is _CLIP else "full"
    given: dict[str, Any] = {"vision_config": vision, "vision_feature_select_strategy": strategy}
    kind: Any = {"llava_next": LlavaNextConfig, "llava_onevision": LlavaOnevisionConfig}.get(name, LlavaConfig)
    if name == "llava_onevision":
        return kind(text_config=_TEXT | {"model_type": "qwen2"}, image_token_id=_IMAGE, video_token_id=3, **given)
    return kind(text_config=_TEXT | {"model_type": "llama"}, image_token_id=_IMAGE, **given)


def _qwen(name: str) -> Any:
    ids: dict[str, Any] = {
        "image_token_id": 2,
        "video_token_id": 3,
        "vision_start_token_id": 4,
        "vision_end_token_id": 5,
    }
    rope = {"mrope_section": [2, 3, 3]}
    if name == "qwen3_vl":
        text = _TEXT | {"rope_scaling": rope | {"rope_type": "default"}}
        vision = _QWEN_VISION | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
        return Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
    text = _TEXT | {"rope_scaling": rope | {"type": "mrope"}}
    if name == "qwen2_5_vl":
        vision = _QWEN_VISION | {"window_size": 16, "fullatt_block_indexes": [1]}
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    return Qwen2VLConfig(text_config=text, vision_config=vision, **ids)


def _florence() -> Any:
    text = {
        "model_type": "bart", "vocab_size": 264, "d_model": 32, "encoder_layers": 2, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
        "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
        "decoder_start_token_id": 1,
    }  # fmt: skip
    vision = {
        "depths": (1, 1), "patch_size": (7, 3), "patch_stride": (4, 2), "patch_padding": (3, 1),
        "patch_prenorm": (False, True), "embed_dim": (16, 32), "num_heads": (2, 2), "num_groups": (2, 2),
        "window_size": 4, "projection_dim": 32, "drop_path_rate": 0.0,
    }  # fmt: skip
    return Florence2Config(text_config=text, vision_config=vision, image_token_id=_IMAGE)
