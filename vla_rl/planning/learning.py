"""The memory of learning: the updates of a run, made on tensors without memory."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from vla_rl import build
from vla_rl.algorithms.calls import call_kinds
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.algorithms.rates import ActorRates
from vla_rl.config import RunConfig
from vla_rl.envs import EnvSpec
from vla_rl.models.features import Features
from vla_rl.models.kept import Kept
from vla_rl.models.outline import Outlined
from vla_rl.models.policy import Policy
from vla_rl.models.storage import load_frame
from vla_rl.models.trunk import Trunk
from vla_rl.planning.dry_run import Ledger, dry_run, without_memory
from vla_rl.planning.rows import Rows, nbytes, next_trains_all, seen_together
from vla_rl.replay import Batch
from vla_rl.runtime import checkpoint
from vla_rl.runtime.heeded import heed
from vla_rl.runtime.learner import Learner
from vla_rl.runtime.optimizers import ADAMW, state_bytes
from vla_rl.runtime.reference import reference_policy
from vla_rl.sft import imitation_step


@dataclass(frozen=True)
class Learning:
    """Bytes on the device that learns. activations: all else that is there at the peak."""

    weights: int
    optimizer: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        """At the peak."""
        return self.weights + self.optimizer + self.gradients + self.activations


class DryLearner(Learner):
    """Works out gradients, and takes no step."""

    def __init__(self, run: RunConfig) -> None:
        # Half precision of either kind takes as much, and a CPU has no fp16.
        precision = "no" if run.mixed_precision == "no" else "bf16"
        parts, again = run.micro_batch_size, run.gradient_checkpointing
        super().__init__("cpu", precision, micro_batch_size=parts, gradient_checkpointing=again)
        self._kind = run.optimizer
        self._learnt: list[tuple[nn.Parameter, str]] = []

    def optimizer(self, parameters: Any, lr: float, weight_decay: float = 0.0, of_policy: bool = False) -> Any:
        """The groups of parameters, in an optimiser without any state."""
        made = torch.optim.SGD(parameters, lr=lr)
        kind = self._kind if of_policy else ADAMW
        self._learnt += [(each, kind) for group in made.param_groups for each in group["params"]]
        return made

    def step(self, loss: Tensor, optimizer: Any, clip: float) -> Tensor:
        """The gradients alone."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    def begin(self, policy: Policy) -> None:
        """Have all gradients there that an earlier step left: they stay until the next loss is known."""
        model = policy.trunk.backbone.model
        spare = {id(each) for each in model.parameters()} - {id(each) for each in model.model.parameters()}  # of words
        for each, _ in self._learnt:
            each.grad = None if id(each) in spare else torch.zeros_like(each)

    @property
    def gradients(self) -> int:
        """Bytes of those that are there."""
        return sum(each.numel() * each.element_size() for each, _ in self._learnt if each.grad is not None)

    @property
    def kept(self) -> int:
        """Bytes of what optimisers keep of what has a gradient."""
        return sum(state_bytes(kind, each.numel()) for each, kind in self._learnt if each.grad is not None)


@dataclass(frozen=True)
class DryRun:
    """A run's learning without memory.

    words: an instruction. cached: whether replay keeps the features of a frozen trunk. copies: whether batches are
    copied to the device that learns.
    """

    run: RunConfig
    spec: EnvSpec
    words: str
    cached: bool
    copies: bool

    def outline(self, start: bool = True) -> Policy:
        """The policy on torch's device "meta". start: whether it is that of `train.checkpoint`, where there is one."""
        run, spec = self.run, self.spec
        with torch.device("meta"):
            if start and run.train.checkpoint is not None:
                frame = load_frame(checkpoint.policy_folder(run.train.checkpoint), run.plugins)
                policy = Policy(**vars(frame)).eval()
                heed(run, policy)
            else:
                settings = run.policy.settings(run.plugins, run.replay.stack, wrap=Outlined)
                seen = spec.observation
                policy = Policy.build(settings, spec.tokens, seen.images, seen.state, seed=0, marks=spec.marks)
        if policy.frozen_trunk and run.policy.precision != "auto":
            policy.trunk.backbone.set_dtype(getattr(torch, run.policy.precision))
        return policy

    def train(self) -> Learning:
        """Of the updates of `vla-rl train`, and of what is seen between them."""
        policy, settings = self.outline(), self.run.algorithm
        needs = settings.needs
        with dry_run() as ledger, patch.object(Trunk, "forward", _first_and_last):
            without_memory(policy, ledger)
            learner = DryLearner(self.run)
            learner.prepare(policy)
            algorithm = settings.build(policy=policy, learner=learner, **self._parts(ledger, policy))
            weights = _begin(ledger, policy, algorithm)
            learner.begin(policy)
            policy.ground(self._rows(ledger).seen(policy, seen_together(self.run)))
            batch = self._rows(ledger).batch(policy, needs.batch_size, needs.following is True, self.cached)
            held = self._copied(ledger, batch)
            next_trains_all(algorithm)
            algorithm.update(batch)
            del held
            return _found(ledger, learner, weights)

    def sft(self) -> Learning:
        """Of the steps of `vla-rl sft`."""
        policy, settings = self.outline(start=False), self.run.sft
        with dry_run() as ledger, patch.object(Trunk, "forward", _first_and_last):
            without_memory(policy, ledger)
            learner = DryLearner(self.run)
            rates = ActorRates.of(learner.prepare(policy), settings.lr, settings.backbone_lr, settings.backbone_warmup)
            optimizer = learner.optimizer(rates.groups(policy), settings.lr, of_policy=True)
            weights = _begin(ledger, policy)
            policy.ground(self._rows(ledger).seen(policy, seen_together(self.run)))
            batch = self._rows(ledger).batch(policy, settings.batch_size, False, policy.frozen_trunk)
            held = self._copied(ledger, batch)
            learner.begin(policy)
            rows = LearnerBatch.of(batch, policy, learner.device, following=False)
            imitation_step(policy, rows, learner, optimizer, settings)
            del held
            return _found(ledger, learner, weights)

    def _parts(self, ledger: Ledger, policy: Policy) -> dict[str, Any]:
        """What the algorithm is built with, as `build.algorithm_parts` makes it."""
        run, needs = self.run, self.run.algorithm.needs
        parts = {
            "reference": reference_policy(policy, run, None),
            "rehearsal": build.rehearsal(run, policy),
            "held": _Frames(self, ledger, policy) if needs.held else None,
            "calls": call_kinds(run, self.spec),
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _rows(self, ledger: Ledger) -> Rows:
        """What is seen, with pictures that are without memory, too."""
        return Rows(self.run, self.spec, self.words, lambda shape: ledger.empty(shape, torch.uint8))

    def _copied(self, ledger: Ledger, batch: Batch) -> Tensor | None:
        """What a batch takes on the device, where it is copied there."""
        if not self.copies:
            return None
        copied = ledger.empty((nbytes(batch),), torch.uint8)
        ledger.note(copied)
        return copied


@dataclass(frozen=True)
class _Frames:
    """Stands for `HeldFrames`."""

    dry: DryRun
    ledger: Ledger
    policy: Policy

    def draw(self, rows: int, learner: Learner) -> LearnerBatch:
        batch = self.dry._rows(self.ledger).batch(self.policy, rows, False, self.policy.frozen_trunk)
        return LearnerBatch.of(batch, self.policy, learner.device, following=False)


_forward = Trunk.forward


def _first_and_last(trunk: Trunk, images: Any, texts: Any, state: Tensor, kept: Kept) -> Features:
    """What a trunk makes of rows that it reads in parts: of the first and the last part, since all others take as much
    as the first one, one after the other."""
    rows, most = len(texts), trunk.rows_at_once or len(texts)
    if rows <= 2 * most:
        return _forward(trunk, images, texts, state, kept)
    few = most + (rows - 1) % most + 1
    read = _forward(trunk, [image[:few] for image in images], texts[:few], state[:few], kept)
    first, last = torch.arange(most), torch.arange(most, few)
    return Features.concatenate([*(read.rows(first) for _ in range(most, rows, most)), read.rows(last)])


def _begin(ledger: Ledger, policy: Policy, algorithm: Any = None) -> int:
    """Count the weights that are there before anything is learnt; their bytes."""
    parts = [policy, *([] if algorithm is None else vars(algorithm).values())]
    for module in (each for each in parts if isinstance(each, nn.Module)):
        for value in (*module.parameters(), *module.buffers()):
            ledger.note(value)
    gc.collect()
    ledger.peak = ledger.now
    return ledger.now


def _found(ledger: Ledger, learner: DryLearner, weights: int) -> Learning:
    return Learning(weights, learner.kept, learner.gradients, max(ledger.peak - weights - learner.gradients, 0))
