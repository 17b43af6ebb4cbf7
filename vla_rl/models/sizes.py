"""Well-known architectures at their true size, with random weights: for measuring without a download."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import Idefics3Config

from vla_rl.models.backbone import Backbone
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
