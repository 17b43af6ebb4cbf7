"""Rehearsal: while reward teaches a trunk, it goes on reading other pictures as it did (arXiv 1606.09282).

Shapes: B rows, S slots of the pointers, N visual tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vla_rl.models.features import Features
from vla_rl.models.kept import Kept
from vla_rl.models.policy import Policy
from vla_rl.runtime.learner import Learner
from vla_rl.specs import Rehearsed

PLACE_WEIGHT = 5.0
"""Of the distances of places and extents, in half images, as when the tiny backbone was taught."""
ENCODED = 64
"""Pictures that the trunk reads at a time before the run."""


class Rehearsal:
    """Some pictures, and what the trunk made of them when the run began.

    policy: whose trunk trains. shown: the pictures and their texts. rows: of them, that each loss reads.
    """

    def __init__(self, policy: Policy, shown: Rehearsed, rows: int) -> None:
        pictures, self.texts = shown
        self.policy, self.rows = policy, rows
        self.pictures = torch.from_numpy(pictures)
        with torch.no_grad():
            parts = [self._read(index) for index in torch.arange(len(pictures)).split(ENCODED)]
        self.taught = Features.concatenate(parts)

    def loss(self, learner: Learner) -> Tensor:
        """How differently the trunk points by now, on `rows` of the pictures: for what was pointed at, the divergence
        over visual tokens and the distances of place and extent; and the divergence of the confidence.
        """
        index = (learner.uniform(self.rows) * len(self.pictures)).long().cpu()
        seen, taught = self._read(index), self.taught.rows(index.to(self.policy.device))
        assert seen.cells is not None, "features without the pointers' cells"
        assert taught.cells is not None, "features without the pointers' cells"
        cells_BS = functional.kl_div(seen.cells, taught.cells, reduction="none", log_target=True).sum(-1)
        apart_BS = (seen.places - taught.places).abs().sum(-1) + (seen.extents - taught.extents).abs().sum(-1)
        pointed = (taught.confidence * (cells_BS + PLACE_WEIGHT * apart_BS)).mean()
        return pointed + _divergence(taught.confidence, seen.confidence).mean()

    def _read(self, index: Tensor) -> Features:
        """What the trunk makes of the pictures `index` int64 [B] by now."""
        policy = self.policy
        images = [self.pictures[index].to(policy.device)]
        texts = [self.texts[i] for i in index.tolist()]
        nothing = torch.zeros(len(texts), 0, device=policy.device)
        with policy.precision():
            found = policy.trunk(images, texts, nothing, Kept(visual=True))
        found.visual = None  # the tokens themselves may become others
        return found

    def state_dict(self) -> dict[str, Any]:
        """What the trunk made of the pictures when the run began."""
        return {name: value for name, value in vars(self.taught).items() if value is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.taught = Features(**state).to(self.policy.device)


def remembered(
    loss: Tensor, rehearsal: Rehearsal | None, weight: float, learner: Learner
) -> tuple[Tensor, dict[str, Tensor]]:
    """An actor's loss together with what its trunk has forgotten, where there is a rehearsal, and that for the log."""
    if rehearsal is None:
        return loss, {}
    forgotten = rehearsal.loss(learner)
    return loss + weight * forgotten, {"actor/forgotten": forgotten.detach()}


def _divergence(taught: Tensor, seen: Tensor) -> Tensor:
    """KL of one probability from another, of a yes or no each."""
    taught, seen = (p.clamp(1e-6, 1 - 1e-6) for p in (taught, seen))
    return taught * (taught / seen).log() + (1 - taught) * ((1 - taught) / (1 - seen)).log()
