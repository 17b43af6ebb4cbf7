"""Have one backbone's slots ask what another's ask: a fast start for a language model that never saw our pictures.

The pupil's pointers have to look for the same things by the same keys, as those that `models.smollm.start` makes.
It reads most texts beside small pictures, so that a step costs little more than the text.

Shapes: B batch, S slots, Q numbers of what a slot asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from vla_rl.grounding.pretrain import encode
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers

REPORT = 25
"""Steps."""
Parameters = list[nn.Parameter]


def teach(
    pupil: Backbone,
    pointers: Pointers,
    teacher: Backbone,
    known: Pointers,
    batches: Iterable[dict[str, Any]],
    trained: Parameters,
    sides: Sequence[int],
    rate: Callable[[int], float],
    report: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Train in place `trained`, and the pupil's pointers as far as they read slots.

    Args:
        sides: in pixels, of the pictures beside which the pupil reads the texts, in turn; the teacher sees them whole.
        batches: as `ground` takes them.
        rate: step -> learning rate, from step 1.
        report: called every REPORT steps with the mean loss since: the mean squared error over the variance.
    """
    asking = [*pointers.slot_norm.parameters(), *pointers.query.parameters(), *pointers.seen[0].parameters()]
    optimiser = torch.optim.AdamW([*trained, *asking], lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
    total = 0.0
    for step, batch in enumerate(batches, 1):
        with torch.no_grad():
            at = teacher.at(batch["images"].shape[1])
            wanted_BSQ = asked(known, encode(at, batch["images"], at.prompt(batch["texts"])).slots_BSD)
        seen = pupil.at(sides[step % len(sides)])
        asked_BSQ = asked(pointers, encode(seen, batch["images"], seen.prompt(batch["texts"])).slots_BSD)
        spread = (wanted_BSQ - wanted_BSQ.mean((0, 1))).square().mean()
        loss = (asked_BSQ - wanted_BSQ).square().mean() / spread
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([*trained, *asking], 1.0)
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        optimiser.step()
        total += float(loss.detach())
        if report is not None and step % REPORT == 0:
            report(step, {"unlike": total / REPORT})
            total = 0.0


def asked(pointers: Pointers, slots_BSD: torch.Tensor) -> torch.Tensor:
    """What slots ask: the queries, and what they add to whether anything was seen; float32 [B, S, Q]."""
    slots_BSD = pointers.slot_norm(slots_BSD.float())
    seeing = pointers.seen[0]
    assert isinstance(seeing, nn.Linear)
    heard = slots_BSD @ seeing.weight[:, : pointers.hidden_size].T
    return torch.cat([pointers.query(slots_BSD), heard], -1)
