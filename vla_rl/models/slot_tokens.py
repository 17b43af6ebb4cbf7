"""The tokens `<ptr>` and `<self>`, which no model was trained with: their rows in its table, and how those train.

Shapes: B batch, T tokens, D width of the language model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import AddedToken

POINTER_TOKEN, SELF_TOKEN = "<ptr>", "<self>"
SLOT_TOKENS = (POINTER_TOKEN, SELF_TOKEN)


def add_slot_tokens(model: Any, tokenizer: Any) -> None:
    """Give the tokenizer `<ptr>` and `<self>`, and the model rows for them, where they lack them.

    Many tables have rows to spare, which nothing ever trained; the two take the next of those, too.
    """
    known = tokenizer.get_vocab()
    new = [name for name in SLOT_TOKENS if name not in known]
    if not new:
        return
    rows = len(tokenizer)
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in new], special_tokens=True)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[tokenizer.convert_tokens_to_ids(new)] = weight[:rows].mean(0)  # an average word: near what it knows


def train_slot_rows(model: Any, tokenizer: Any) -> RemovableHandle:
    """Let the two rows train while all others stay: what is added to them, `lora_slots` of the table, starts at 0, in
    float32. Returns what `keep_slot_rows` takes."""
    table = model.get_input_embeddings()
    table.lora_slots = nn.Parameter(torch.zeros(len(SLOT_TOKENS), table.embedding_dim, device=table.weight.device))
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(SLOT_TOKENS), device=table.weight.device)
    table.register_buffer("slot_ids", ids, persistent=False)
    table.slots_off = False
    return table.register_forward_hook(_add_rows)


def keep_slot_rows(model: Any, training: RemovableHandle) -> None:
    """End what `train_slot_rows` began; the rows keep what they learnt."""
    merge_slot_rows(model)
    training.remove()
    table = model.get_input_embeddings()
    del table.lora_slots, table.slot_ids, table.slots_off


def slot_rows_off(model: nn.Module, off: bool) -> None:
    """Whether the rows are as they were before they trained."""
    for table in _trained(model):
        table.slots_off = off


@torch.no_grad()
def merge_slot_rows(model: nn.Module) -> None:
    """Add what was learnt to the rows themselves, and begin anew at 0."""
    for table in _trained(model):
        scale = getattr(table, "embed_scale", 1.0)  # Gemma's tables multiply what they look up
        table.weight[table.slot_ids] += (table.lora_slots / scale).to(table.weight.dtype)
        table.lora_slots.zero_()


def _trained(model: nn.Module) -> list[Any]:
    """The tables whose rows train."""
    return [module for module in model.modules() if hasattr(module, "lora_slots")]


def _add_rows(table: Any, given: tuple[torch.Tensor, ...], found_BTD: torch.Tensor) -> torch.Tensor:
    # A function of the module, and no closure: copies of the model then add their own rows.
    if table.slots_off:
        return found_BTD
    for row, token in zip(table.lora_slots, table.slot_ids, strict=True):
        found_BTD = found_BTD + ((given[0] == token).unsqueeze(-1) * row).to(found_BTD.dtype)
    return found_BTD
