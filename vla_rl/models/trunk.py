"""Backbone and pointers together: observations in, features out; and what of them trains.

Shapes: B rows, V views, S slots of the pointers, T tokens, D width of the backbone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from vla_rl.models import prefix, turns
from vla_rl.models.backbone import Backbone
from vla_rl.models.clauses import EXTRA
from vla_rl.models.features import Features
from vla_rl.models.kept import Columns, Kept
from vla_rl.models.pointers import MENTIONS, SLOTS, Pointers, peaks
from vla_rl.models.processor import pixels_to_floats
from vla_rl.models.prompts import Prompt, word_states
from vla_rl.models.remembered import PEAKS
from vla_rl.models.shards import whole
from vla_rl.models.transfer import sent
from vla_rl.specs import words_of


@dataclass(frozen=True)
class Told:
    """What B instructions come to on the device, worked out by the host before pictures are read.

    prompt: of each sequence. clauses, clause_of: as in `Features`. texts: those that are read word by word; of a policy
    that remembers turns.
    """

    prompt: Prompt
    clauses: torch.Tensor | None = None
    clause_of: torch.Tensor | None = None
    texts: tuple[str, ...] = ()


class Trunk(nn.Module):
    """One call from uint8 images and instructions to features; acting and learning both make it.

    together: whether one sequence holds all views of a row; else each view has its own, with the instruction.

    Attributes:
        rows_at_once: so many rows, at most, are read together; None for all. What is learned of a part that was read so
            is worked out when its turn comes, by reading it once more: it takes the memory of one part, and more time.
    """

    def __init__(self, backbone: Backbone, pointers: Pointers, together: bool = False) -> None:
        super().__init__()
        self.backbone, self.pointers, self.together = backbone, pointers, together
        self.rows_at_once: int | None = None

    def forward(
        self,
        images: Sequence[torch.Tensor],
        texts: Sequence[str],
        state: torch.Tensor,
        kept: Kept,
    ) -> Features:
        """Encode B rows.

        Args:
            images: for each camera uint8 [B, H, W, 3] or [B, k, H, W, 3]; sizes may differ.
            texts: B instructions.
            state: float32 [B, P], passed on.
            kept: what is kept beside what the pointers say.

        Raises:
            ValueError: an instruction longer than the backbone, or `kept.text_tokens`, allows.
        """
        rows, most = len(texts), self.rows_at_once or len(texts)
        if rows <= most:
            return self.read(images, self.told(texts, views_of(images), kept), state, kept)
        parts = []
        for some in (slice(begin, begin + most) for begin in range(0, rows, most)):
            told = self.told(texts[some], views_of(images), kept)
            # Without a gradient it just calls.
            part = [image[some] for image in images], told, state[some], kept
            parts.append(checkpoint(self.read, *part, use_reentrant=False))
        return Features.concatenate(parts)

    def told(self, texts: Sequence[str], views: int, kept: Kept) -> Told:
        """What B instructions say, each beside so many views."""
        beside = self._beside(views)
        prompt = self.backbone.prompt([text for text in texts for _ in range(views // beside)], beside)
        named = () if kept.named is None else tuple(texts)
        if kept.clauses is None:
            return Told(prompt, texts=named)
        return Told(prompt, *self.backbone.clauses(texts, kept.clauses, kept.words or 0), texts=named)

    def check_text(self, text: str, views: int, kept: Kept) -> None:
        """Raise ValueError for an instruction longer than the backbone, or `kept.text_tokens`, allows."""
        beside = self._beside(views)
        over = self.backbone.length(text, beside) - (kept.text_tokens or self.backbone.text_limit(beside))
        if over > 0:
            raise ValueError(prefix.TOO_LONG.format(over))

    def read(self, images: Sequence[torch.Tensor], told: Told, state: torch.Tensor, kept: Kept) -> Features:
        """Encode rows, all at once; but for what is named, a function of tensors on the device alone."""
        backbone = self.backbone
        views, newest = [], []
        for image in images:
            frames = image.unsqueeze(1) if image.ndim == 4 else image
            views.append(pixels_to_floats(frames, backbone.image_size, backbone.mean, backbone.std))
            newest.append(sum(view.shape[1] for view in views) - 1)
        pixels_BV3HW = torch.cat(views, 1)
        B, V = pixels_BV3HW.shape[:2]
        beside = self._beside(V)
        prompt, cache = told.prompt, DynamicCache() if kept.prefix else None
        encoded = backbone(pixels_BV3HW.reshape(-1, beside, *pixels_BV3HW.shape[2:]), prompt, cache)
        pointed = self.pointers(encoded.slots_BSD, encoded.visual_BVND, backbone.grid)
        features = Features(
            places=pointed.places_BVS2.reshape(B, -1, 2),
            extents=pointed.extents_BVS2.reshape(B, -1, 2),
            confidence=pointed.confidence_logit_BVS.sigmoid().reshape(B, -1),
            state=state,
        )
        if kept.text_tokens is not None:
            length = self.sequence_length(beside, kept.text_tokens)
            tokens, mask = prefix.padded(encoded.tokens_BTD.float(), encoded.mask_BT.bool(), length)
            features.tokens, features.mask = tokens.reshape(B, -1, backbone.hidden_size), mask.reshape(B, -1)
        if cache is not None:
            most = None if kept.text_tokens is None else self.sequence_length(beside, kept.text_tokens)
            states_BPX, mask_BP, end_B = prefix.read(backbone, cache, prompt, most)
            features.prefix, features.prefix_mask = states_BPX.reshape(B, -1, states_BPX.shape[-1]), mask_BP.view(B, -1)
            features.prefix_end = end_B.view(B, -1).amax(1)
        if kept.words is not None:
            last = torch.arange(1, B + 1, device=state.device) * (V // beside) - 1
            states, starts = encoded.tokens_BTD[last], prompt.words_BW[last]
            features.words, features.word_mask = word_states(states, starts, kept.words)
        if kept.clauses is not None:
            features.clauses = told.clauses
            features.clause_of = None if kept.words is None else told.clause_of
        if kept.visual:
            features.visual = encoded.visual_BVND.float().reshape(B, V, -1, backbone.hidden_size)
            features.cells = pointed.logits_BVSN.log_softmax(-1).reshape(B, features.places.shape[1], -1)
        if kept.peaks:
            with torch.no_grad():
                found = peaks(pointed, backbone.grid, PEAKS)
                features.peaks = found.reshape(B, V, *found.shape[2:])[:, newest, :MENTIONS]
                features.sure = features.confidence.reshape(B, V, SLOTS)[:, newest, :MENTIONS].clone()
        if kept.named is not None:
            visual_BVND = encoded.visual_BVND.reshape(B, V, *encoded.visual_BVND.shape[-2:])
            features.named = self._named(told.texts, visual_BVND[:, newest], kept.named)
        return features

    @torch.no_grad()
    def _named(self, texts: Sequence[str], visual_BCND: torch.Tensor, most: int) -> torch.Tensor:
        """What the first `most` words of each text name, float32 [B, C, most, turns.NAMED]; a pointer is asked for each
        by itself, so that it has not seen the picture."""
        words = [[text[begin:end] for begin, end in words_of(text)[:most]] for text in texts]
        number = {word: i for i, word in enumerate(dict.fromkeys(word for row in words for word in row))}
        named = torch.zeros(*visual_BCND.shape[:2], most, turns.NAMED, device=visual_BCND.device)
        if not number:
            return named
        asked_UD = self.backbone.read([turns.ASKED.format(word) for word in number])[:, 0]
        there_BW = sent(torch.tensor([[i < len(row) for i in range(most)] for row in words]), named.device)
        index = [[number[row[i]] if i < len(row) else 0 for i in range(most)] for row in words]
        slots_BWD = asked_UD[sent(torch.tensor(index), named.device)]
        found = self.pointers(slots_BWD, visual_BCND, self.backbone.grid)
        match_BCW1 = found.logits_BVSN.amax(-1, keepdim=True) / turns.MATCH
        sure_BCW1 = found.confidence_logit_BVS.sigmoid().unsqueeze(-1)
        told = torch.cat([found.places_BVS2, found.extents_BVS2, sure_BCW1, match_BCW1], -1)
        return told * there_BW[:, None, :, None]

    def columns(self, kept: Kept, cameras: int, stack: int) -> Columns:
        """The arrays of `Features.pack`, where `stack` frames of each camera are seen."""
        width, views = self.backbone.hidden_size, cameras * stack
        pointers = views * SLOTS
        found: Columns = {
            "places": ((pointers, 2), "float32"),
            "extents": ((pointers, 2), "float32"),
            "confidence": ((pointers,), "float32"),
        }
        if remembered := kept.remembered(cameras):
            found["remembered"] = (remembered, "float32")
        if kept.text_tokens is not None:
            length = self.sequence_length(views, kept.text_tokens)
            found |= {"tokens": ((length, width), "float16"), "mask": ((length,), "bool")}
        if kept.prefix:
            slots = views // self._beside(views) * SLOTS
            going = slots if kept.text_tokens is None else self.sequence_length(views, kept.text_tokens)
            found["prefix"] = ((going, prefix.size(self.backbone)), "float16")
            found |= {"prefix_mask": ((going,), "bool"), "prefix_end": ((), "int16")}
        if kept.words is not None:
            found |= {"words": ((kept.words, 2 * width), "float16"), "word_mask": ((kept.words,), "bool")}
        if kept.clauses is not None:
            found["clauses"] = ((kept.clauses, width + EXTRA), "float16")
            found |= {} if kept.words is None else {"clause_of": ((kept.words,), "int16")}
        if kept.visual:
            cells = self.backbone.grid[0] * self.backbone.grid[1]
            found |= {"visual": ((views, cells, width), "float16"), "cells": ((pointers, cells), "float16")}
        return found

    def sequence_length(self, views: int, text_tokens: int) -> int:
        """Tokens that `Features.tokens` holds of so many views and an instruction of at most so many tokens."""
        beside = self._beside(views)
        return (self.backbone.overhead(beside) + text_tokens) * (views // beside)

    def digest(self) -> str:
        """Names what the trunk computes without adapters: 16 hex digits of its weights, words and pictures' size."""
        backbone = self.backbone
        config, words = backbone.model.config, sorted(backbone.tokenizer.get_vocab().items())
        said = [config.model_type, backbone.image_size, backbone.mean, backbone.std, self.together, words]
        said += [] if backbone.prompt_style == "plain" else [backbone.prompt_style]
        said += [] if backbone.tiles == 1 else [backbone.tiles]
        digest = hashlib.sha256(repr(said).encode())
        # A layer with adapters keeps its own weights as `base_layer`.
        weights = {name.replace(".base_layer.", "."): value for name, value in self.state_dict().items()}
        for name in sorted(name for name in weights if ".lora_" not in name):
            value = whole(weights[name].detach()).cpu().contiguous()
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def _beside(self, views: int) -> int:
        """How many of a row's views one sequence holds."""
        return views if self.together else 1

    def train(self, mode: bool = True) -> Trunk:
        """Stays in evaluation mode: acting and learning must see the same features, so no dropout."""
        return super().train(False)


def views_of(images: Sequence[torch.Tensor]) -> int:
    """V, of the pictures of each camera [B, H, W, 3] or [B, k, H, W, 3]."""
    return sum(1 if image.ndim == 4 else image.shape[1] for image in images)
