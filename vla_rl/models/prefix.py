"""A backbone's sequence as its language model goes on with it: keys and values of what came before, by layer.

Shapes: B sequences, T tokens of the sequence, P of them that are gone on with, Q new tokens, L layers, G heads of keys,
E width of a head, X = L * 2 * G * E, D width of the language model.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import DynamicCache

from vla_rl.models.families import family_of
from vla_rl.models.prompts import Prompt

TOO_LONG = "an instruction has {} tokens more than the backbone, or policy.head.text_tokens, allows"


def language_model(backbone: Any) -> nn.Module:
    """What reads a backbone's sequence.

    Raises:
        ValueError: it cannot go on with one.
    """
    config = backbone.model.config
    if not family_of(config).goes_on:
        raise ValueError(
            f"policy.head.type=autoregressive: a backbone of model_type {config.model_type!r} is read by its encoder, "
            "which does not go on with a sequence; take policy.head.type=parallel, or another policy.backbone.source"
        )
    return attrgetter(backbone.language)(backbone.model.model)


def size(backbone: Any) -> int:
    """X, numbers of a token."""
    layers, heads, width = _shape(backbone)
    return layers * 2 * heads * width


def read(
    backbone: Any, cache: DynamicCache, prompt: Prompt, length: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a cache holds after `backbone` has read a prompt with it.

    length: the whole sequence, padded to so many tokens; None: the slots of the pointers alone.

    Returns:
        Keys and values float32 [B, P, X]; bool [B, P], False on padding; int64 [B], the position of what goes on.

    Raises:
        ValueError: a sequence is longer.
    """
    layers: list[Any] = cache.layers
    each = [torch.stack([layer.keys, layer.values], 1) for layer in layers]
    states_BL2GTE = torch.stack(each, 1).float()
    states_BTX = states_BL2GTE.permute(0, 4, 1, 2, 3, 5).flatten(2)
    # Qwen counts the tokens of an image by rows and columns, so that positions end before the tokens do.
    shift_B1 = getattr(backbone.model.model, "rope_deltas", None)
    end_B = prompt.mask_BT.sum(1) + family_of(backbone.model.config).first
    end_B = end_B if shift_B1 is None else end_B + shift_B1.reshape(-1).to(end_B.device)
    if length is None:
        at_BSX = prompt.slots_BS[..., None].expand(-1, -1, states_BTX.shape[-1])
        return states_BTX.gather(1, at_BSX), torch.ones_like(prompt.slots_BS, dtype=torch.bool), end_B
    states_BPX, mask_BP = padded(states_BTX, prompt.mask_BT.bool(), length)
    return states_BPX, mask_BP, end_B


def cached(backbone: Any, states_BPX: torch.Tensor, dtype: torch.dtype) -> DynamicCache:
    """The cache that holds those states: what `read` took out of one."""
    layers, heads, width = _shape(backbone)
    states_BPL2GE = states_BPX.to(dtype).unflatten(-1, (layers, 2, heads, width))
    cache = DynamicCache()
    for layer in range(layers):
        keys_BGPE, values_BGPE = (states_BPL2GE[:, :, layer, part].transpose(1, 2) for part in (0, 1))
        cache.update(keys_BGPE, values_BGPE, layer)
    return cache


def go_on(
    decoder: nn.Module, cache: DynamicCache, x_BQD: torch.Tensor, sees_BQT: torch.Tensor, position_BQ: torch.Tensor
) -> torch.Tensor:
    """The last hidden states float32 [B, Q, D] of further tokens, whose keys and values join the cache.

    x_BQD: in place of the rows of a vocabulary. sees_BQT: bool, which of the tokens in the cache, and of these, each
    attends to.
    """
    x_BQD = x_BQD.to(next(decoder.parameters()).dtype)
    mask_B1QT = torch.zeros_like(sees_BQT, dtype=x_BQD.dtype).masked_fill(~sees_BQT, torch.finfo(x_BQD.dtype).min)
    found = decoder(
        inputs_embeds=x_BQD,
        attention_mask=mask_B1QT.unsqueeze(1),  # of four axes: transformers takes it as it is
        position_ids=position_BQ,
        past_key_values=cache,
        use_cache=True,
    )
    return found.last_hidden_state.float()


def padded(tokens_BTD: torch.Tensor, mask_BT: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences and their masks with so many tokens. Raises ValueError where there are more."""
    missing = length - tokens_BTD.shape[1]
    if missing < 0:
        raise ValueError(TOO_LONG.format(-missing))
    return functional.pad(tokens_BTD, (0, 0, 0, missing)), functional.pad(mask_BT, (0, missing))


def _shape(backbone: Any) -> tuple[int, int, int]:
    """L, G, E."""
    config = backbone.model.config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return config.num_hidden_layers, getattr(config, "num_key_value_heads", None) or heads, width
