"""What stands around images and instruction, and where the instruction's words end.

"plain": the tokens that the family puts around an image, and nothing else. "chat": a user's turn in the model's own
chat template, after which the model would answer; there the slots stand.

Shapes: B batch, T tokens, S slots, W words, D width of the language model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers.utils import cached_file

from vla_rl.models.families import Family
from vla_rl.models.tiles import framed
from vla_rl.specs import words_of

PromptStyle = Literal["plain", "chat"]
Frame = tuple[list[int], list[int]]
"""Token ids before the instruction, images included, and those between it and the slots."""
_MARK = "INSTRUCTION"
_TEMPLATE = "chat_template.json"


@dataclass(frozen=True)
class Prompt:
    """Token ids of a batch of instructions, ready for the model."""

    ids_BT: torch.Tensor
    """int64."""
    mask_BT: torch.Tensor
    """int64; 0 on the padding."""
    slots_BS: torch.Tensor
    """int64 positions of the `<ptr>` tokens and of `<self>`."""
    words_BW: torch.Tensor
    """int64 positions of the last token of each word, as `specs.words_of` counts words; -1 where there are fewer."""
    views: int


@dataclass(frozen=True)
class Image:
    """What stands for an image in a sequence.

    token: the id of each of its tokens; ids: all of these, and of what is around them.
    """

    token: int
    ids: list[int]


def framed_image(tokenizer: Any, family: Family, token: int, cells: int, tiles: int) -> Image:
    """Of `cells` visual tokens, in each tile where there are several along a side; around them what the family puts
    there, as far as the tokenizer has it."""
    if tiles > 1:
        assert family.tiling is not None, family
        pieces = family.tiling.pieces(tiles, cells)
    else:
        pieces = [*family.before, cells + sum(family.around), *family.after]
    return Image(token, framed(tokenizer, pieces, token))


def plain_frame(tokenizer: Any, family: Family, image: Image, views: int) -> Frame:
    """The token that begins a text, and the images."""
    begin = tokenizer.bos_token_id
    start, images = [] if begin is None else [begin], image.ids * views
    return (start + images if family.begin == "first" else images + start), []


def chat_frame(tokenizer: Any, family: Family, image: Image, views: int) -> Frame:
    """What a user says who shows images and then gives an instruction; and what the model would begin to answer with.

    Raises:
        ValueError: the tokenizer has no chat template, or one that takes no such turn.
    """
    said = [*({"type": "image"} for _ in range(views)), {"type": "text", "text": _MARK}]
    if not tokenizer.chat_template:
        raise ValueError("policy.backbone.prompt=chat: this backbone has no chat template; use plain")
    turn = [{"role": "user", "content": said}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    before, mark, after = text.partition(_MARK)
    name = tokenizer.convert_ids_to_tokens(image.token)
    shown = ("".join((*family.before, name, *family.after)), name, *family.before[:1])
    sign = next((each for each in shown if before.count(each) == views), None)
    if not mark or sign is None:
        raise ValueError(f"policy.backbone.prompt=chat: the template has no place for images and text: {text[:200]!r}")
    read = [tokenizer(piece, add_special_tokens=False).input_ids for piece in before.split(sign)]
    opening = read[0] + [i for piece in read[1:] for i in (*image.ids, *piece)]
    return opening, tokenizer(after, add_special_tokens=False).input_ids


def find_chat_template(tokenizer: Any, source: str) -> None:
    """Give the tokenizer the template that lies beside it as its processor's; a newer one has it already."""
    found = (
        None if tokenizer.chat_template else cached_file(source, _TEMPLATE, _raise_exceptions_for_missing_entries=False)
    )
    if found is not None:
        tokenizer.chat_template = json.loads(Path(found).read_text("utf-8")).get("chat_template")


def last_tokens(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The last token of each word of a text whose tokens lie at `offsets`; none where those are not known."""
    ends = [max((i for i, (a, b) in enumerate(offsets) if a < end and b > start), default=-1)
            for start, end in words_of(text)]  # fmt: skip
    return ends if offsets else []


def word_states(tokens_BTD: torch.Tensor, ends_BW: torch.Tensor, words: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the first `words` words what `Features.words` tells, float32 [B, words, 2 * D]; and which there are."""
    ends_BW = nn.functional.pad(ends_BW[:, :words], (0, max(words - ends_BW.shape[1], 0)), value=-1)
    known_BW = ends_BW >= 0
    end_BWD = ends_BW.clamp_min(0).unsqueeze(-1).expand(-1, -1, tokens_BTD.shape[-1])
    both_BWD = torch.cat([tokens_BTD.gather(1, end_BWD), tokens_BTD.gather(1, end_BWD + 1)], -1)
    return both_BWD.float() * known_BW.unsqueeze(-1), known_BW
