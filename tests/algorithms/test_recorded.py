"""Updates that are replayed change what updates change, and draw the same noise."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.algorithms.test_algorithms import CONFIGS
from tests.algorithms.test_pa_rl import bandit, make
from tests.tape import tape_record

RECORDED = ("pa_rl", "awac", "iql")  # RECAP changes shapes in place for its quantile, which this tape cannot replay


def of(name: str) -> Any:
    rows = {"batch_size": 16, "actor_batch_size": 16, "critic_width": 32}
    return dataclasses.replace(CONFIGS[name], warmup_updates=3, critic_updates=2, **rows)


def learned(algorithm: Any, updates: int) -> tuple[list[dict[str, torch.Tensor]], dict[str, Any]]:
    """What each update measured, and what all of them came to; rates fall, as in a run."""
    metrics = []
    for number in range(updates):
        algorithm.anneal(number / updates)
        metrics.append(algorithm.update(bandit(algorithm, 16, seed=number)) | {"errs": algorithm.priorities().clone()})
    return metrics, algorithm.state_dict() | algorithm.policy.state_dict()


def flat(tree: Any, at: str = "") -> dict[str, torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return {at: tree}
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return {name: leaf for key, value in children for name, leaf in flat(value, f"{at}.{key}").items()}


@pytest.mark.parametrize("name", RECORDED)
def test_a_replayed_update_is_the_update(
    random_backbone: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = of(name)
    plain, replayed = make(random_backbone, settings), make(random_backbone, settings)
    replayed.learner.record = tape_record
    with caplog.at_level(logging.WARNING):
        wanted, found = learned(plain, 30), learned(replayed, 30)
    assert not caplog.records
    for one, other in zip(wanted[0], found[0], strict=True):
        assert one.keys() == other.keys()
        for metric, value in one.items():
            assert torch.allclose(value.float(), other[metric].float(), equal_nan=True), metric
    one, other = flat(wanted[1]), flat(found[1])
    assert one.keys() == other.keys()
    for key, value in one.items():
        # A rate that is read on the device is a float32.
        assert torch.allclose(value.float(), other[key].float(), rtol=1e-4, atol=1e-6), key
    python = list[int]()
    step = type(replayed).update_critic
    monkeypatch.setattr(type(replayed), "update_critic", lambda *given: python.append(1) or step(*given))
    for number in range(16):
        replayed.update(bandit(replayed, 16, seed=number))
    assert len(python) < 8, "an update that was recorded is done by Python"


def test_an_update_that_cannot_be_recorded_is_done_as_it_is(
    random_backbone: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = of("pa_rl")
    plain, looks = make(random_backbone, settings), make(random_backbone, settings)
    looks.learner.record = tape_record
    target = type(looks).update_target
    monkeypatch.setattr(
        type(looks), "update_target", lambda self: target(self) if self.critic.out.bias.sum().item() < 9e9 else None
    )
    with caplog.at_level(logging.WARNING):
        wanted, found = learned(plain, 12), learned(looks, 12)
    assert ["updates are made without them: they cannot be recorded" in each.message for each in caplog.records] == [
        True
    ]
    one, other = flat(wanted[1]), flat(found[1])
    assert all(torch.equal(value, other[key]) for key, value in one.items())
