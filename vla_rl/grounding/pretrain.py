"""Teach a backbone and its pointers where the things are that words name; knows nothing of who draws the pictures.

`ground` takes batches (dicts as `sims.grounding.samples` documents them; any caller may make its own) and goes
through the very `Backbone.prompt`, `Backbone.forward` and `Pointers` with which a policy acts.

Shapes: B batch, S slots, N visual tokens, T tokens, A tokens of answers, D width, 2 = (x right, y down).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vla_rl.models.backbone import Backbone, Encoded
from vla_rl.models.pointers import MENTIONS, Pointed, Pointers, cells_at
from vla_rl.models.processor import pixels_to_floats
from vla_rl.models.prompts import Prompt, word_states
from vla_rl.models.slot_tokens import keep_slot_rows, train_slot_rows
from vla_rl.models.tiny import ANSWER, END

Batch = dict[str, Any]
Labels = dict[str, dict[str, int]]
_UNLABELLED = -100
_ROWS = ("tokens", "connector")
"""What trains beside pointers, of a model that stays as it is, with the rows of `<ptr>` and `<self>`."""
_FROZEN = ("pointers", "second")
"""What trains beside a model that stays as it is."""
_CONNECTORS = ("connector", "multi_modal_projector", "visual.merger")
"""What families call it."""


@dataclass(frozen=True)
class Recipe:
    """How to train."""

    steps: int
    learning_rate: float = 2e-3
    warm_up: int = 60
    clip: float = 1.0
    weight_decay: float = 0.01
    place_weight: float = 5.0
    """Of the L1 distances, in half images, beside the cross entropies."""
    cell_weight: float = 4.0
    """Of the losses of `Reader`; without it the pointers' gradients, useless at first, keep vision from learning."""
    apart_first: int = 0
    """For so many of the steps train vision by the cells' labels and text by the mentions', each without the other."""
    trainable: str = "all"
    """`all`; `pointers` only; `second`: nothing but their second look; `tokens`: the pointers and the rows of `<ptr>`
    and `<self>` in the model's table; or `connector`: those, and what turns image features into the language model's
    tokens. Adapters that the model has train with the rows."""
    half: bool = False
    """Whether the language model, where it stays frozen, computes in bfloat16; all else stays as it is."""
    own_sizes: bool = False
    """Whether each batch is seen at the size of its pictures, instead of all at the backbone's."""


class Reader(nn.Module):
    """Used in training only: reads from each visual token what its cell shows and where the thing's centre is, and
    from each slot by which words the text mentions its thing. Each half of pointing is thus taught by itself too. And
    from each word whether it is to be typed.
    """

    def __init__(self, hidden_size: int, labels: Labels) -> None:
        super().__init__()
        self.norm, self.slot_norm = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.cells, self.spoken = (
            nn.ModuleDict({name: nn.Linear(hidden_size, count) for name, count in labels[of].items()})
            for of in ("cells", "spoken")
        )
        self.offset = nn.Linear(hidden_size, 2)
        self.word_norm = nn.LayerNorm(2 * hidden_size)
        self.typed = nn.Linear(2 * hidden_size, 2 * (MENTIONS + 2))

    def typing_loss(self, words_BWD: torch.Tensor, known_BW: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross entropy of which words are to be typed, and into which mention: of the first and of the last ones."""
        label_B2W = torch.as_tensor(batch["typed"], device=words_BWD.device)
        logits_BW2C = self.typed(self.word_norm(words_BWD)).unflatten(-1, (2, MENTIONS + 2))
        labels_BW2 = label_B2W.transpose(1, 2).masked_fill(~known_BW.unsqueeze(-1), _UNLABELLED)
        return _class_loss(logits_BW2C.flatten(1, 2), labels_BW2.flatten(1, 2))

    def mention_loss(self, slots_BSD: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross entropy of what the text says of each slot's thing."""
        slots_BSD = self.slot_norm(slots_BSD)
        total = slots_BSD.new_zeros(())
        for name, layer in self.spoken.items():
            label_BS = torch.as_tensor(batch["spoken"][name], device=slots_BSD.device)
            total = total + functional.cross_entropy(
                layer(slots_BSD).flatten(0, 1), label_BS.flatten(), ignore_index=_UNLABELLED
            )
        return total

    def cell_loss(self, visual_BND: torch.Tensor, batch: Batch, place_weight: float) -> torch.Tensor:
        """Cross entropy of each label, and the distance of the offsets where a cell shows a thing."""
        visual_BND = self.norm(visual_BND)
        total = visual_BND.new_zeros(())
        for name, layer in self.cells.items():
            label_BN = torch.as_tensor(batch["cells"][name], device=visual_BND.device)
            total = total + _class_loss(layer(visual_BND), label_BN)
        target_BN2 = torch.as_tensor(batch["offsets"], device=visual_BND.device)
        known_BN = ~target_BN2[..., 0].isnan()
        # Offsets come in half cells; a half cell is 1 / sqrt(N) of a half image.
        distance_BN = (self.offset(visual_BND) - target_BN2.nan_to_num()).abs().sum(-1)
        per_cell = place_weight / math.sqrt(visual_BND.shape[1])
        return total + per_cell * _mean(distance_BN, known_BN)


def ground(
    backbone: Backbone,
    pointers: Pointers,
    batches: Iterable[Batch],
    recipe: Recipe,
    labels: Labels | None = None,
    report: Callable[[int, dict[str, float]], None] | None = None,
) -> float:
    """Train in place; returns the seconds it took.

    Args:
        batches: `recipe.steps` of them.
        labels: of "cells" and of "spoken", the number of values of each label in `batch["cells"]` and
            `batch["spoken"]`; None trains without them (they need a backbone whose grid is that of the cells).
        report: called every 100 steps with the mean losses since.
    """
    reader = Reader(backbone.hidden_size, labels).to(backbone.device) if labels else None
    fresh = recipe.trainable in _ROWS and not hasattr(backbone.model.get_input_embeddings(), "lora_slots")
    rows = train_slot_rows(backbone.model, backbone.tokenizer) if fresh else None
    whole = halve(backbone) if recipe.half else []
    optimiser, schedule = _optimiser(backbone, pointers, reader, recipe)
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    backbone.train(recipe.trainable == "all")
    sums: dict[str, float] = {}
    start = time.perf_counter()
    for step, batch in enumerate(batches, 1):
        seen = backbone.at(batch["images"].shape[1]) if recipe.own_sizes else backbone
        if reader is not None and step <= recipe.apart_first:
            losses = {
                "cells": reader.cell_loss(look(seen, batch["images"]), batch, recipe.place_weight),
                "mentions": reader.mention_loss(backbone.read(batch["texts"]), batch),
            }
        else:
            losses = batch_losses(seen, pointers, batch, recipe, reader)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(trained, recipe.clip)
        optimiser.step()
        schedule.step()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if report is not None and step % 100 == 0:
            report(step, {name: value / 100 for name, value in sums.items()})
            sums = {}
    for parameter, value in whole:
        parameter.data = value
    if rows is not None:
        keep_slot_rows(backbone.model, rows)
    backbone.eval()
    return time.perf_counter() - start


def batch_losses(
    backbone: Backbone, pointers: Pointers, batch: Batch, recipe: Recipe, reader: Reader | None = None
) -> dict[str, torch.Tensor]:
    """The losses of a batch by name."""
    speaks = recipe.trainable == "all" and hasattr(backbone.model, "mix")
    prompt, answers_BA = with_answers(backbone, batch["texts"], batch["answers"] if speaks else [])
    with torch.set_grad_enabled(recipe.trainable not in _FROZEN):
        encoded = encode(backbone, batch["images"], prompt)
    pointed = pointers(encoded.slots_BSD, encoded.visual_BVND, backbone.grid)
    losses = pointing_losses(pointed, batch, backbone.grid, recipe.place_weight)
    if reader is not None:
        visual_BND = encoded.visual_BVND[:, 0].float()
        losses["mentions"] = reader.mention_loss(encoded.slots_BSD.float(), batch)
        words = word_states(encoded.tokens_BTD, prompt.words_BW, batch["typed"].shape[-1])
        losses["typing"] = reader.typing_loss(*words, batch)
        losses["cells"] = recipe.cell_weight * reader.cell_loss(visual_BND, batch, recipe.place_weight)
    if answers_BA is not None:
        losses |= answer_losses(backbone, encoded, prompt, answers_BA, batch, recipe.place_weight)
    return losses


def encode(backbone: Backbone, images: np.ndarray, prompt: Prompt) -> Encoded:
    """Encode uint8 images [B, H, W, 3], one view each."""
    return backbone(_floats(backbone, images), prompt)


def look(backbone: Backbone, images: np.ndarray) -> torch.Tensor:
    """The visual tokens [B, N, D] of uint8 images [B, H, W, 3], one view each."""
    return backbone.look(_floats(backbone, images))[:, 0].float()


def _floats(backbone: Backbone, images: np.ndarray) -> torch.Tensor:
    pixels = torch.as_tensor(images, device=backbone.device)[:, None]
    return pixels_to_floats(pixels, backbone.image_size, backbone.mean, backbone.std)


def pointing_losses(
    pointed: Pointed, batch: Batch, grid: tuple[int, int], place_weight: float
) -> dict[str, torch.Tensor]:
    """Which cell, which place, and whether there is anything to point at, over the slots of the first view."""
    device = pointed.places_BVS2.device
    target_BS2 = torch.as_tensor(batch["places"], device=device)
    shown_BS = torch.as_tensor(batch["shown"], device=device)
    logits_BSN, places_BS2 = pointed.logits_BVSN[:, 0], pointed.places_BVS2[:, 0]
    cross_BS = _cell_cross(logits_BSN, target_BS2, grid)
    distance_BS = (places_BS2 - target_BS2).abs().sum(-1)
    extents_BS2 = torch.as_tensor(batch["extents"], device=device)
    size_BS = (pointed.extents_BVS2[:, 0] - extents_BS2).abs().sum(-1)
    confidence = functional.binary_cross_entropy_with_logits(pointed.confidence_logit_BVS[:, 0], shown_BS)
    anchors_BS2 = torch.as_tensor(batch["anchors"], device=device)
    first_BS = _cell_cross(pointed.first_logits_BVSN[:, 0], anchors_BS2, grid)
    return {
        "cell": _mean(cross_BS, shown_BS),
        "first": _mean(first_BS, shown_BS),
        "place": place_weight * _mean(distance_BS, shown_BS),
        "extent": place_weight * _mean(size_BS, shown_BS),
        "confidence": confidence,
    }


def answer_losses(
    backbone: Backbone, encoded: Encoded, prompt: Prompt, answers_BA: torch.Tensor, batch: Batch, place_weight: float
) -> dict[str, torch.Tensor]:
    """Next tokens of the answers (`answers_BA` int64, _UNLABELLED where none), and where the answer looks."""
    rows_R = (answers_BA != _UNLABELLED).any(1).nonzero()[:, 0]
    labels_RA = answers_BA[rows_R]
    # The token that predicts an answer's first one is the last of the prompt's slots plus `<ans>`.
    start_R = prompt.slots_BS[rows_R, -1] + 1
    index_RA = (start_R[:, None] + torch.arange(labels_RA.shape[1], device=start_R.device)).clamp(
        max=encoded.tokens_BTD.shape[1] - 1
    )
    hidden_RAD = encoded.tokens_BTD[rows_R[:, None], index_RA]
    visual_RND = encoded.visual_BVND[rows_R].flatten(1, 2)
    mix = backbone.model.mix
    logits_RAN, place_RA2, feature_RAD = mix.look(hidden_RAD, visual_RND)
    vocabulary_RAC = backbone.model.lm_head(mix.blend(hidden_RAD, place_RA2, feature_RAD))
    known_RA = labels_RA != _UNLABELLED
    tokens = _token_loss(backbone, vocabulary_RAC[known_RA], labels_RA[known_RA])
    target_R12 = torch.as_tensor(batch["referent"], device=start_R.device)[rows_R][:, None]
    looks_RA = known_RA & ~target_R12[..., 0].isnan()
    target_RA2 = target_R12.nan_to_num().expand_as(place_RA2)
    cross_RA = _cell_cross(logits_RAN, target_RA2, backbone.grid)
    distance_RA = (place_RA2 - target_RA2).abs().sum(-1)
    return {"answer": tokens, "look": _mean(cross_RA + place_weight * distance_RA, looks_RA)}


def with_answers(backbone: Backbone, texts: list[str], answers: list[str]) -> tuple[Prompt, torch.Tensor | None]:
    """The prompt of `texts`, with `<ans>` and the answers' tokens after the slots; and the labels [B, A].

    Row b of the labels holds answer b and the end token, _UNLABELLED after that and where there is no answer.
    """
    prompt = backbone.prompt(texts)
    if not any(answers):
        return prompt, None
    known = backbone.tokenizer.get_vocab()
    rows = [
        [*backbone.tokenizer(text, add_special_tokens=False).input_ids, known[END]] if text else [] for text in answers
    ]
    A, T = max(map(len, rows)), prompt.ids_BT.shape[1]
    lengths = prompt.slots_BS[:, -1].tolist()
    T_all = max(T, *(length + 1 + len(row) for length, row in zip(lengths, rows, strict=True)))
    ids = torch.zeros(len(texts), T_all, dtype=torch.long)
    ids[:, :T] = prompt.ids_BT
    labels = torch.full((len(texts), A), _UNLABELLED)
    for i, row in enumerate(rows):
        if row:
            after = lengths[i] + 1
            ids[i, after] = known[ANSWER]
            ids[i, after + 1 : after + len(row)] = torch.tensor(row[:-1], dtype=torch.long)
            labels[i, : len(row)] = torch.tensor(row)
    mask = (
        torch.arange(T_all) <= torch.tensor([length + len(r) for length, r in zip(lengths, rows, strict=True)])[:, None]
    )
    device = prompt.ids_BT.device
    return replace(prompt, ids_BT=ids.to(device), mask_BT=mask.long().to(device)), labels.to(device)


def _cell_cross(logits: torch.Tensor, places: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Cross entropy [...] of logits [..., N] over cells, of which one holds a place.

    Not a soft mixture of the nearest: where the place lies inside its cell is for the offset to say, which is a linear
    thing to learn; the logarithm of a mixture's weights is not, and cost a pixel of precision.
    """
    return -logits.log_softmax(-1).gather(-1, cells_at(places, grid)[..., None])[..., 0]


def _token_loss(backbone: Backbone, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy; a location token shares its label with its neighbours."""
    known = backbone.tokenizer.get_vocab()
    first, count = known.get("<loc_0>", 0), sum(name.startswith("<loc_") for name in known)
    target = functional.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    is_place = (labels >= first) & (labels < first + count)
    if count and is_place.any():
        at = torch.arange(count, device=labels.device)
        near = torch.exp(-0.5 * ((at - (labels[is_place] - first)[:, None]) / 0.7) ** 2)
        target[is_place, first : first + count] = near / near.sum(-1, keepdim=True)
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


def _class_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy where those that show nothing (label 0), which are many, weigh together as much as the others."""
    cross = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_UNLABELLED, reduction="none")
    label = labels.flatten()
    return 0.5 * (_mean(cross, label == 0) + _mean(cross, label > 0))


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    weights = weights.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1)


def _optimiser(
    backbone: Backbone, pointers: Pointers, reader: Reader | None, recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    modules: list[nn.Module] = [pointers]
    if recipe.trainable == "all":
        modules += [backbone] + ([reader] if reader is not None else [])
    elif recipe.trainable == "second":
        if pointers.second is None:
            raise ValueError("trainable='second': these pointers look once; `look_twice` has them look again")
        modules = [pointers.second]
    elif recipe.trainable not in (*_FROZEN, *_ROWS):
        choices = "'all', 'connector', 'tokens', 'pointers' or 'second'"
        raise ValueError(f"trainable must be {choices}; got {recipe.trainable!r}")
    if recipe.trainable in _ROWS:
        backbone.requires_grad_(False)
    if recipe.trainable == "connector":
        modules.append(_connector(backbone).requires_grad_(True))
    parameters = [p for module in modules for p in module.parameters()]
    if recipe.trainable in _ROWS:
        parameters += [p.requires_grad_(True) for name, p in backbone.model.named_parameters() if "lora_" in name]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)

    def rate(step: int) -> float:
        if step < recipe.apart_first:
            return 2 * min((step + 1) / recipe.warm_up, (recipe.apart_first - step) / recipe.warm_up, 1.0)
        step, steps = step - recipe.apart_first, recipe.steps - recipe.apart_first
        along = (step - recipe.warm_up) / max(1, steps - recipe.warm_up)
        return min((step + 1) / recipe.warm_up, 0.5 * (1 + math.cos(math.pi * min(max(along, 0.0), 1.0))))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)


def _connector(backbone: Backbone) -> nn.Module:
    """What turns image features into the language model's tokens. Raises ValueError where it has no known name."""
    modules = dict(backbone.model.model.named_modules())
    for name in _CONNECTORS:
        if name in modules:
            return modules[name]
    raise ValueError(
        f"trainable='connector': a {backbone.model.config.model_type} has none of {', '.join(_CONNECTORS)}; "
        "give 'tokens' or 'all'"
    )


def halve(backbone: Backbone) -> list[tuple[nn.Parameter, torch.Tensor]]:
    """Turn the language model, without adapters, to bfloat16; returns its parameters, and what they were."""
    language = backbone.model.model.get_submodule(backbone.language)
    kept = [(p, p.data) for name, p in language.named_parameters() if "lora_" not in name]
    for parameter, value in kept:
        parameter.data = value.to(torch.bfloat16)
    return kept


def print_losses(step: int, losses: dict[str, float]) -> None:
    """A line for `ground`'s report."""
    print(f"step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in losses.items()), flush=True)
