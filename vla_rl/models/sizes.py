"""Well-known architectures at their true size, with random weights: for measuring without a download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import Idefics3Config, Qwen2_5_VLConfig

from vla_rl.models.backbone import Backbone
from vla_rl.models.samples import byte_tokenizer
from vla_rl.models.tiny import IMAGE, tiny_tokenizer

_VISION = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 512, "patch_size": 16,
}  # fmt: skip
_TEXT = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49280,
    "max_position_embeddings": 8192, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip


@dataclass(frozen=True)
class SmolVLM256M:
    """The shape of HuggingFaceTB/SmolVLM-256M-Instruct: 512 pixels, 64 visual tokens; a tokenizer of few words.

    image_size: side in pixels of the square images that it sees.
    """

    image_size: int | None = None
    dtype: str = "float32"

    def load(self) -> Backbone:
        """Fresh weights from torch's generator."""
        tokenizer = tiny_tokenizer(["reach the red cube"])
        image = tokenizer.get_vocab()[IMAGE]
        config = Idefics3Config(
            text_config=_TEXT, vision_config=_VISION, scale_factor=4, image_token_id=image, tie_word_embeddings=True
        )
        return Backbone.from_config(config, tokenizer, self.image_size, self.dtype)


_QWEN_TEXT = {
    "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
    "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 128000, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 1, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
}  # fmt: skip
_QWEN_VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
    "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}  # fmt: skip


@dataclass(frozen=True)
class Qwen25VL3B:
    """The shape of Qwen/Qwen2.5-VL-3B-Instruct; a tokenizer of bytes.

    image_size: side in pixels of the square images that it sees.
    """

    image_size: int | None = None
    dtype: str = "float32"

    def load(self) -> Backbone:
        """Fresh weights from torch's generator: 15 GB of them in float32."""
        words = byte_tokenizer("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
        kind: Any = Qwen2_5_VLConfig  # which takes more keys than its signature tells
        config = kind(
            text_config=_QWEN_TEXT, vision_config=_QWEN_VISION, image_token_id=2, video_token_id=3,
            vision_start_token_id=4, vision_end_token_id=5, tie_word_embeddings=True,
        )  # fmt: skip
        return Backbone.from_config(config, words, self.image_size, self.dtype)
