"""How well a backbone and its pointers know where things are: scores by exam, and the card beside the weights.

Shapes: B batch, S slots, D width, 2 = (x right, y down).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from vla_rl.grounding.pretrain import Batch, encode
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers
from vla_rl.models.tiny import ANSWER, END

CARD = "grounding.json"
HIT = 1 / 16
"""How far off, as a share of the image's size along each axis, a place still counts as a hit: 4 pixels of 64."""
_NUMBER = re.compile(r"<loc_(\d+)>")


@torch.no_grad()
def answer(backbone: Backbone, images: np.ndarray, texts: list[str], limit: int = 24) -> list[str]:
    """Answer questions on uint8 images [B, H, W, 3] greedily, special tokens such as `<loc_7>` included."""
    prompt = backbone.prompt(texts)
    known = backbone.tokenizer.get_vocab()
    said: list[list[int]] = [[] for _ in texts]
    done = [False] * len(texts)
    lengths = prompt.slots_BS[:, -1].tolist()
    for _ in range(limit):
        rows = [[known[ANSWER], *tokens] for tokens in said]
        T = max(length + 1 + len(row) for length, row in zip(lengths, rows, strict=True))
        ids = torch.zeros(len(texts), T, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : lengths[i] + 1] = prompt.ids_BT[i, : lengths[i] + 1].cpu()
            ids[i, lengths[i] + 1 : lengths[i] + 1 + len(row)] = torch.tensor(row)
        encoded = encode(backbone, images, replace(prompt, ids_BT=ids.to(backbone.device)))
        last = torch.tensor([length + len(row) for length, row in zip(lengths, rows, strict=True)])
        hidden = encoded.tokens_BTD[torch.arange(len(texts)), last][:, None]
        mixed = backbone.model.mix(hidden, encoded.visual_BVND.flatten(1, 2))
        chosen = backbone.model.lm_head(mixed)[:, 0].argmax(-1).tolist()
        for i, token in enumerate(chosen):
            done[i] = done[i] or token == known[END]
            if not done[i]:
                said[i].append(token)
        if all(done):
            break
    return [backbone.tokenizer.decode(tokens, skip_special_tokens=False).strip() for tokens in said]


@torch.no_grad()
def score_pointing(backbone: Backbone, pointers: Pointers, batches: Iterable[Batch]) -> dict[str, float]:
    """How well the pointers point, over the slots whose thing is shown.

    Returns:
        `hit`: share of mentioned things whose place is right within HIT of the image's size on both axes.
        `first_cm`, `second_cm`, `self_cm`: median distance along the table of the first and the second thing
        mentioned and of the gripper (NaN on screens); `first_px` ...: the same in the picture, in pixels.
        `extent_px`: median error of a mentioned thing's half width and half height, in pixels.
        `confidence`: share of slots where confidence > 0.5 exactly if the slot's thing is shown.
    """
    missed, metres, shown, sure, sizes = [], [], [], [], []
    for batch in batches:
        encoded = encode(backbone, batch["images"], backbone.prompt(batch["texts"]))
        pointed = pointers(encoded.slots_BSD, encoded.visual_BVND, backbone.grid)
        off = pointed.places_BVS2[:, 0].cpu().numpy() - batch["places"]
        missed.append(off * (batch["images"].shape[1] / 2))
        sizes.append(
            np.abs(pointed.extents_BVS2[:, 0].cpu().numpy() - batch["extents"]) * (batch["images"].shape[1] / 2)
        )
        metres.append(np.linalg.norm(np.einsum("bsij,bsj->bsi", batch["metres"], off), axis=-1))
        shown.append(batch["shown"] > 0.5)
        sure.append(pointed.confidence_logit_BVS[:, 0].cpu().numpy() > 0)
    off_px, off_m, is_shown = np.concatenate(missed), np.concatenate(metres), np.concatenate(shown)
    size = batch["images"].shape[1]
    hits = np.abs(off_px).max(-1) <= HIT * size
    found = {
        "hit": float(hits[:, :-1][is_shown[:, :-1]].mean()),
        "confidence": float((np.concatenate(sure) == is_shown).mean()),
        "extent_px": _median(np.concatenate(sizes)[:, :-1][is_shown[:, :-1]]),
    }
    for name, slot in (("first", 0), ("second", 1), ("self", -1)):
        rows = is_shown[:, slot]
        found[f"{name}_px"] = _median(np.linalg.norm(off_px[rows, slot], axis=-1))
        found[f"{name}_cm"] = _median(off_m[rows, slot] * 100)
    return found


def score_answers(backbone: Backbone, batches: Iterable[Batch]) -> float:
    """Share of right answers: word for word; location tokens may be off by one along each axis."""
    right = []
    for batch in batches:
        said = answer(backbone, batch["images"], batch["texts"])
        right += [_agrees(a, b) for a, b in zip(said, batch["answers"], strict=True)]
    return float(np.mean(right)) if right else math.nan


def score(backbone: Backbone, pointers: Pointers, papers: dict[str, list[Batch]]) -> dict[str, float]:
    """The scores of an exam, task -> batches: `score_pointing`'s of the task `point`, and each other task's share."""
    backbone.eval()
    found: dict[str, float] = {}
    for task, batches in papers.items():
        if task == "point":
            found |= score_pointing(backbone, pointers, batches)
        else:
            found[task] = score_answers(backbone, batches)
    return found


def _agrees(said: str, right: str) -> bool:
    if not right.startswith("<loc_"):
        return said == right
    places = [[int(n) for n in _NUMBER.findall(text)] for text in (said, right)]
    return len(places[0]) == 2 and all(abs(a - b) <= 1 for a, b in zip(*places, strict=True))


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else math.nan


def write_card(folder: str | Path, made: dict[str, Any], scores: dict[str, dict[str, float]]) -> None:
    """Write `grounding.json` beside the weights: how they were made and their scores by exam; and print it."""
    rounded = {
        name: {key: None if math.isnan(value) else round(value, 4) for key, value in found.items()}
        for name, found in scores.items()
    }
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    text = json.dumps({"made": made, "versions": versions, "scores": rounded}, indent=2)
    (Path(folder) / CARD).write_text(text + "\n")
    print(text, flush=True)
