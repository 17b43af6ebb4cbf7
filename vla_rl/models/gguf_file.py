"""Reads a language model of Llama's architecture, and its tokenizer, from a GGUF file, as llama.cpp writes it.

Only as many layers as are wanted are read. What such a file says is documented at
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

_LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
"""What a layer's weights are called in the file, and by transformers."""
_NORMAL, _UNUSED = (1, 6), 5
"""Types of tokens that are no special ones: a normal one or a byte; and one that is never used."""


@dataclass(frozen=True)
class TextTower:
    """A language model: the settings of a `LlamaConfig`, the weights of a `LlamaModel` by name, and its tokenizer."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    """float32."""
    tokenizer: PreTrainedTokenizerFast


def read_tower(path: Path, layers: int, weights: bool = True) -> TextTower:
    """The first `layers` layers of the model in a file, and its last norm.

    weights: False leaves them out, which is fast.

    Raises:
        ModuleNotFoundError: the package gguf is not installed.
        ValueError: not a GGUF file; another architecture or kind of tokenizer; or fewer layers than are wanted.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no GGUF file that can be read: {error}") from error
    told = {name: field.contents() for name, field in reader.fields.items()}
    if told.get("general.architecture") != "llama" or told.get("tokenizer.ggml.model") != "gpt2":
        raise ValueError(
            f"{path} holds a model of architecture {told.get('general.architecture')!r} with a tokenizer of "
            f"{told.get('tokenizer.ggml.model')!r}; 'llama' with 'gpt2' is read here"
        )
    there = int(told["llama.block_count"])
    if not 1 <= layers <= there:
        raise ValueError(f"layers must lie in [1, {there}], what {path.name} has; got {layers}")
    tokenizer = _tokenizer(told)
    width, heads = int(told["llama.embedding_length"]), int(told["llama.attention.head_count"])
    config = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": int(told["llama.feed_forward_length"]),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": int(told["llama.attention.head_count_kv"]),
        "head_dim": int(told.get("llama.rope.dimension_count", width // heads)),
        "vocab_size": len(told["tokenizer.ggml.tokens"]),
        "max_position_embeddings": int(told["llama.context_length"]),
        "rms_norm_eps": float(told["llama.attention.layer_norm_rms_epsilon"]),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(told["llama.rope.freq_base"])},
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": not any(tensor.name == "output.weight" for tensor in reader.tensors),
        "use_cache": False,
    }
    return TextTower(config, _weights(reader, config) if weights else {}, tokenizer)


def _weights(reader: Any, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """float32, by the names of a `LlamaModel`."""
    from gguf import dequantize

    names = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
    for layer in range(config["num_hidden_layers"]):
        names |= {f"blk.{layer}.{there}.weight": f"layers.{layer}.{here}.weight" for there, here in _LAYER.items()}
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    found = {}
    for tensor in reader.tensors:
        name = names.get(tensor.name)
        if name is None:
            continue
        weight = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        if name.split(".")[-2] in heads:
            weight = _unpaired(weight, heads[name.split(".")[-2]])
        found[name] = torch.from_numpy(weight.copy())
    if missing := sorted(set(names.values()) - found.keys()):
        raise ValueError(f"the file lacks weights: {', '.join(missing[:8])}")
    return found


def _unpaired(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of queries or keys: llama.cpp turns neighbouring ones together, transformers those half a head apart."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _tokenizer(told: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The byte-level BPE tokenizer that the file tells of; digits are tokens of their own, as SmolLM has them."""
    names, kinds = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in told["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    splits = [pre_tokenizers.Digits(individual_digits=True)] if told.get("tokenizer.ggml.pre") == "smollm" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = [name for name, kind in zip(names, kinds, strict=True) if kind not in (*_NORMAL, _UNUSED)]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    marks = {mark: told.get(f"tokenizer.ggml.{key}_token_id") for mark, key in _MARKS.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{mark: names[int(i)] for mark, i in marks.items() if i is not None},
        chat_template=told.get("tokenizer.chat_template"),
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


_MARKS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
