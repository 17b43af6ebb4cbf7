"""Decisions that are replayed are those that are made, whatever is seen; and where they cannot be, that is said."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.models.families import Random, observation
from tests.tape import tape_record
from vla_rl.actions import Binned, Chunk
from vla_rl.config.policy import HeadSettings, PolicySettings
from vla_rl.models.forward import Forward
from vla_rl.models.graphs import Replayed
from vla_rl.models.policy import Policy
from vla_rl.models.trunk import Trunk


def policy(**settings: Any) -> Policy:
    space = Chunk(Binned(5), 2).bind(spaces.Box(-1, 1, (2,)))
    return Policy.build(PolicySettings(Random(), **settings), space, ["front"], 3, seed=0)


def assert_same(found: Any, wanted: Any) -> None:
    for one, other in zip(found[1], wanted[1], strict=True):
        assert torch.equal(one, other)
    for name, value in vars(wanted[0]).items():
        assert value is None or torch.equal(getattr(found[0], name), value), name


@pytest.mark.parametrize("settings", [
    {},
    {"head": HeadSettings(reads=("pointers", "words", "clauses", "tokens"))},
    {"stack": 2, "remembers": True},
    {"train": "lora"},
    {"train": "all"},
], ids=["pointers", "all that is read", "remembers", "lora", "all"])  # fmt: skip
def test_what_is_replayed_is_what_the_policy_decides(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    actor = policy(**settings)
    forward, reads, read = Forward(actor, tape_record), list[int](), Trunk.read
    monkeypatch.setattr(Trunk, "read", lambda *given: reads.append(1) or read(*given))
    for seed in range(6):
        seen = observation(2, seed=seed, stack=settings.get("stack"))
        if seed > 3:
            seen["task"] = seen["task"][::-1]
        if actor.remembered_shape is not None:
            noise = np.random.default_rng(seed).normal(size=(2, *actor.remembered_shape))
            seen["remembered"] = noise.astype(np.float32)
        before = len(reads)
        found = forward(seen)
        assert (len(reads) == before) == (seed > 2), "Python is needed until it is recorded, and not after that"
        with torch.no_grad():
            features = actor.encode(seen)
            assert_same(found, (features, actor.logits(features)))


def test_weights_that_change_are_seen_and_weights_that_move_are_recorded_anew() -> None:
    actor = policy()
    forward, seen = Forward(actor, tape_record), observation(1)
    for _ in range(4):
        forward(seen)
    with torch.no_grad():
        actor.head.bias.add_(torch.randn_like(actor.head.bias))
        features = actor.encode(seen)
        assert_same(forward(seen), (features, actor.logits(features)))
        actor.trunk.backbone.set_dtype(torch.bfloat16)
        for _ in range(4):
            features = actor.encode(seen)
            assert_same(forward(seen), (features, actor.logits(features)))


@pytest.mark.parametrize(("work", "why"), [
    (lambda given: given["x"] * given["x"].sum().item(), "cannot be recorded"),
    (lambda given: given["x"] if given["x"].numpy()[0] > 0 else 2 * given["x"], "is off by"),
], ids=["a look at the device", "what Python decides"])  # fmt: skip
def test_what_cannot_be_replayed_is_done_as_it_is_and_that_is_said_once(
    work: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    replayed = Replayed(work, tape_record, lambda: [])
    with caplog.at_level(logging.WARNING):
        for value in range(1, 8):
            given = {"x": torch.tensor([float(value), -1.0])}
            found = replayed(given)
            assert torch.equal(found, work(given))
    assert [why in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize("inference", [False, True])
def test_a_tensor_that_is_changed_in_place_is_read_anew(inference: bool) -> None:
    replayed = Replayed(lambda given: given["x"] + 1, tape_record, lambda: [])
    with torch.inference_mode(inference):
        x = torch.zeros(2)
        for value in range(6):
            x.fill_(value)
            assert torch.equal(replayed({"x": x}), torch.full((2,), value + 1.0))


def test_other_shapes_have_recordings_of_their_own() -> None:
    replayed, reads = Replayed(lambda given: reads.append(1) or given["x"] + 1, tape_record, lambda: []), list[int]()
    for _ in range(4):
        for rows in (1, 2):
            assert torch.equal(replayed({"x": torch.full((rows,), 3.0)}), torch.full((rows,), 4.0))
    before = len(reads)
    assert torch.equal(replayed({"x": torch.full((2,), 5.0)}), torch.full((2,), 6.0))
    assert len(reads) == before
