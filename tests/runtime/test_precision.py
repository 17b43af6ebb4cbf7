"""Who acts does so without dropout, and in the precision that is learnt in; the supervised start alone drops out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_rl import build, config, sft, train_state
from vla_rl.autotune.feature_cache import any_observation
from vla_rl.data.record import record
from vla_rl.models.policy import Policy
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout.actor import Actor
from vla_rl.runtime import checkpoint
from vla_rl.runtime.learner import Learner
from vla_rl.runtime.logger import Log

DROPOUT = "policy.head.dropout=0.5"


@contextmanager
def computed_in(*modules: torch.nn.Module) -> Iterator[list[torch.dtype]]:
    """The dtypes of what linear layers of the modules gave."""
    found: list[torch.dtype] = []
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    hooks = [layer.register_forward_hook(lambda _, __, out: found.append(out.dtype)) for layer in layers]
    yield found
    for hook in hooks:
        hook.remove()


@pytest.fixture
def state(line: list[str], tmp_path: Path) -> Iterator[Any]:
    """Makes a run's state of further overrides."""
    made: list[train_state.TrainState] = []

    def make(*overrides: str) -> train_state.TrainState:
        made.append(train_state.make(config.load([*line, *overrides]), tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.collector.close()


def seen_by(state: train_state.TrainState, rows: int = 8) -> dict[str, Any]:
    return any_observation(state.policy, state.spec.observation, rows)


def test_a_fresh_policy_acts_and_learns_without_dropout(state: Any) -> None:
    fresh = state(DROPOUT, "train.steps=40")
    features = fresh.policy.ground(seen_by(fresh))
    first, second = (fresh.policy.logits(features)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not any(module.training for module in fresh.policy.modules())


def test_a_policy_that_is_built_does_not_drop_out_before_it_is_trained(line: list[str]) -> None:
    run = config.load([*line, DROPOUT])
    policy = build.fresh_policy(run, build.env_spec(run))
    assert not policy.training


def test_the_supervised_start_trains_with_dropout_and_ends_without(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes, step = [], sft.imitation_step

    def spy(policy: Policy, *rest: Any) -> Any:
        modes.append(policy.training)
        return step(policy, *rest)

    monkeypatch.setattr(sft, "imitation_step", spy)
    overrides = [*line, DROPOUT, "demos.episodes=2", "sft.steps=3"]
    record(config.load(overrides, command="demos"))
    saved = sft.sft(config.load(overrides, command="sft"))
    assert modes == [True] * 3
    assert not Policy.from_pretrained(checkpoint.policy_folder(saved)).training


@pytest.mark.parametrize("trains", ["head", "all"])
def test_acting_grounding_and_the_target_compute_in_the_precision_of_learning(state: Any, trains: str) -> None:
    half = state("mixed_precision=bf16", f"policy.train={trains}", "algorithm.backup_samples=2")
    algorithm, policy, seen = half.algorithm, half.policy, seen_by(half)
    trunks = [trunk.backbone for trunk in (policy.trunk, policy.frozen) if trunk is not None]
    acts = {
        "exploring": lambda: algorithm.explore(seen),
        "acting": lambda: Actor(policy, algorithm.scorer)(seen),
        "grounding": lambda: build.grounding(policy)(seen),
        "encoding": lambda: policy.encode(seen),
    }
    for name, act in acts.items():
        with computed_in(*trunks) as dtypes:
            act()
        assert set(dtypes) == {torch.bfloat16}, name
    critics: list[torch.dtype] = []
    for critic in (algorithm.critic, algorithm.target):
        critic.register_forward_hook(lambda _, __, logits: critics.append(logits.dtype))
    log = Log(half.run.run_dir, None, 1, "", show=False)
    for _ in range(20):
        half.collector.step(algorithm.explore, log)
    algorithm.update(half.replay.sample(8, half.rng))
    assert set(critics) == {torch.bfloat16}


def test_features_of_another_precision_have_another_digest(state: Any) -> None:
    assert state("mixed_precision=bf16").policy.digest() != state("mixed_precision=no").policy.digest()


def test_the_reference_is_made_only_where_it_is_used(line: list[str], state: Any, tmp_path: Path) -> None:
    run = config.load(line)
    build.fresh_policy(run, build.env_spec(run)).save_pretrained(tmp_path / "start")
    start = f"train.checkpoint={tmp_path}/start"
    assert state(start).algorithm.reference is None
    held = state(start, "algorithm.kl_weight=0.1").algorithm
    assert held.reference.trunk is held.policy.trunk, "a frozen trunk is there once"
    weights = {id(parameter) for parameter in held.policy.trainable_parameters()}
    assert not weights & {id(parameter) for parameter in held.reference.parameters()}


def test_the_supervised_start_holds_its_batches_and_fetches_no_next_observations(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, drawn = [], []
    sample = ReplayBuffer.sample

    def spy(buffer: ReplayBuffer, *arguments: Any, **further: Any) -> Any:
        drawn.append(sample(buffer, *arguments, **further))
        return drawn[-1]

    monkeypatch.setattr(ReplayBuffer, "sample", spy)
    monkeypatch.setattr(Learner, "hold", lambda learner, sources: held.append(sources))
    overrides = [*line, "demos.episodes=2", "sft.steps=3", "policy.train=lora"]
    record(config.load(overrides, command="demos"))
    sft.sft(config.load(overrides, command="sft"))
    assert len(drawn) == 3
    assert [id(batch) for batch in held] == [id(batch) for batch in drawn]
    assert all(not batch.next_observation for batch in drawn)


def test_each_process_of_a_supervised_start_draws_its_own_batches_and_the_first_alone_logs(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*line, "demos.episodes=4", "sft.steps=2"]
    record(config.load(overrides, command="demos"))
    learner, sample, drawn = build.learner, ReplayBuffer.sample, []

    def spy(buffer: ReplayBuffer, *arguments: Any, **further: Any) -> Any:
        batch = sample(buffer, *arguments, **further)
        drawn.append(np.asarray(batch.index))
        return batch

    monkeypatch.setattr(ReplayBuffer, "sample", spy)
    for rank in range(2):
        with monkeypatch.context() as patched:

            def one_of_two(*arguments: Any, rank: int = rank) -> Any:
                made = learner(*arguments)
                made.rank, made.processes = rank, 2
                return made

            patched.setattr(build, "learner", one_of_two)
            sft.sft(config.load([*overrides, f"run_dir={tmp_path}/sft{rank}"], command="sft"))
    assert not np.array_equal(drawn[0], drawn[2])
    assert [(tmp_path / f"sft{rank}" / "metrics.jsonl").exists() for rank in range(2)] == [True, False]
