"""Updates that are recorded once and then replayed, where the device can do that: a CUDA graph of forward and backward
passes, optimiser steps and all.

An update of a small head on a GPU is some 350 launches, each longer than what it launches. A replay does what the
update would have done: it draws the same noise, takes the learning rates of the moment, and counts the same steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.graphs import MOST, SEEN, Record, Recording, Static, shape_of
from vla_rl.models.sampling import has_grammar
from vla_rl.runtime.learner import Learner
from vla_rl.runtime.tape import Tape

_CLOSE = 0.05
"""How far a replayed update may be from the update itself, as a share of what that changes."""
_log = logging.getLogger(__name__)
Made = tuple[dict[str, Tensor], Any]
"""Of an update: its metrics, and what `priorities` are worked out from."""


@dataclass(frozen=True)
class _Update:
    """A recorded one. rates: of each group of an optimiser, where it is read from. metrics: their names, in order of
    the numbers that it makes first of all."""

    rows: Static[LearnerBatch]
    recording: Recording[tuple[Tensor, Any]]
    tape: Tape
    rates: list[tuple[dict[str, Any], Tensor]]
    names: list[str]


class RecordedUpdates:
    """Does `update(rows)`, or replays it where something records.

    Args:
        update: reads nothing but rows, weights, noise of the learner and rates; Python decides by `variant` alone.
        record: None: `update` is called as it is.
        learner: draws the noise and counts the steps.
        optimizers: all that it steps. state: all tensors that it changes, by now.
    """

    def __init__(
        self,
        update: Callable[[LearnerBatch], Made],
        record: Record | None,
        learner: Learner,
        optimizers: Sequence[Any] = (),
        state: Callable[[], list[Tensor]] = list,
    ) -> None:
        self._update, self._record, self._learner = update, record, learner
        self._optimizers, self._state = optimizers, state
        self._known: dict[Hashable, _Update] = {}
        self._noted: dict[Hashable, tuple[int, Tape]] = {}

    def __call__(self, rows: LearnerBatch, variant: Hashable) -> Made:
        """One update."""
        if self._record is None:
            return self._update(rows)
        plain = replace(rows, observation={}, next_observation={})
        key = (variant, shape_of(plain))
        if key in self._known:
            return self._replay(self._known[key], plain)
        count, tape = self._noted.get(key, (0, Tape()))
        if count >= SEEN and len(self._known) < MOST:
            return self._begin(key, plain, tape)
        self._learner.tape = tape = Tape()
        try:
            return self._update(rows)
        finally:
            self._learner.tape = None
            self._noted[key] = count + 1, tape

    def _begin(self, key: Hashable, rows: LearnerBatch, tape: Tape) -> Made:
        """Record, try what was recorded beside the update itself, and give what the latter made."""
        before, learner = [value.clone() for value in self._state()], self._learner.state_dict()
        update, replayed, why = None, None, ""
        try:
            update = self._recorded(rows, tape)
            self._replay(update, rows)
            replayed = [value.clone() for value in self._state()]
        except (RuntimeError, NotImplementedError) as error:
            why = f"they cannot be recorded ({str(error).splitlines()[0][:120]})"
        torch._foreach_copy_(self._state(), before)
        self._learner.load_state_dict(learner)
        made = self._update(rows)
        if replayed is not None and (off := _off(before, replayed, self._state())) > _CLOSE:
            why = f"a replay is off by {100 * off:.2g}% of what an update changes"
        if why or update is None:
            _log.warning("CUDA graphs: updates are made without them: %s", why)
            self._record, self._known = None, {}
        else:
            self._known[key] = update
        return made

    def _recorded(self, rows: LearnerBatch, tape: Tape) -> _Update:
        static, names = Static(rows), list[str]()
        assert self._record is not None

        def work() -> tuple[Tensor, Any]:
            metrics, judged = self._update(static.tree)
            names[:] = metrics
            return torch.stack([value.float() for value in metrics.values()]), judged

        with _rates_in_place(self._optimizers, self._learner.device) as rates:
            self._learner.tape = tape
            tape.begin(self._learner.device)
            try:
                recording = self._record(work, 0)
            finally:
                self._learner.tape = None
                tape.end()
        return _Update(static, recording, tape, rates, names)

    def _replay(self, update: _Update, rows: LearnerBatch) -> Made:
        update.rows.fill(rows)
        update.tape.fill(self._learner)
        for group, place in update.rates:
            place.fill_(group["lr"])
        update.recording.replay()
        numbers, judged = update.recording.made
        numbers = numbers.clone()  # the log keeps them, and the next replay writes over these
        self._learner.look(update.tape.steps, numbers[0])
        return dict(zip(update.names, numbers.unbind(), strict=True)), judged


def recorded_updates(algorithm: Any) -> RecordedUpdates:
    """Of an actor-critic, those of its `update_from`.

    They are recorded where nothing but the head and the critic learns, from features alone, in one process: whatever
    else learns may look at texts, at pictures or at what the device has found.
    """
    learner: Learner = algorithm.learner
    parts = ("constraint", "occupancy", "calls", "adapting", "tether", "rehearsal", "model")
    alone = all(getattr(algorithm, name, None) is None for name in parts)
    policy = algorithm.policy
    simple = policy.frozen_trunk and not has_grammar(policy.action_space) and learner.accelerator.scaler is None
    if not (alone and simple and learner.processes == 1):
        return RecordedUpdates(algorithm.update_from, None, learner)
    optimizers = [algorithm.actor_optimizer, *(optimizer for optimizer, _ in algorithm.rates)]

    def state() -> list[Tensor]:
        weights = [p.data for each in optimizers for group in each.param_groups for p in group["params"]]
        moments = [v for each in optimizers for kept in each.state.values() for v in kept.values()]
        return [*weights, *moments, *(p.data for p in algorithm.target.parameters())]

    return RecordedUpdates(algorithm.update_from, learner.record, learner, optimizers, state)


@contextmanager
def _rates_in_place(optimizers: Sequence[Any], device: torch.device) -> Iterator[list[tuple[dict[str, Any], Tensor]]]:
    """Have optimisers read their rates from places on the device, and say so, as long as they are recorded."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    places = [torch.full((), group["lr"], device=device) for group in groups]
    before = [(group["lr"], group.get("capturable")) for group in groups]
    for group, place in zip(groups, places, strict=True):
        group["lr"], group["capturable"] = place, device.type == "cuda"
    try:
        yield list(zip(groups, places, strict=True))
    finally:
        for group, (rate, capturable) in zip(groups, before, strict=True):
            group["lr"], group["capturable"] = rate, capturable


def _off(before: list[Tensor], replayed: list[Tensor], wanted: list[Tensor]) -> float:
    """How far what was replayed is from what was wanted, as a share of the change."""
    changes, errors = (
        torch.stack([(a.double() - b.double()).square().sum() for a, b in zip(one, wanted, strict=True)]).sum().sqrt()
        for one in (before, replayed)
    )
    return float(errors / changes.clamp_min(1e-12))
