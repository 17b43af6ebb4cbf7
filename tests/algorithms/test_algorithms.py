"""What every algorithm that ships keeps of the contract, and what is each one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.algorithms.test_pa_rl import SETTINGS, STATES, accuracy, bandit, make
from vla_rl import config, registry, train
from vla_rl.algorithms import losses
from vla_rl.algorithms.configs import Awac, FilteredBc, Iql, Recap
from vla_rl.algorithms.iql import IqlAlgorithm
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.data.record import record
from vla_rl.models.policy import Policy
from vla_rl.rollout.actor import Actor, load_actor
from vla_rl.runtime import checkpoint
from vla_rl.runtime.serialization import load_state, save_state
from vla_rl.specs import STATE, TASK

SHARED = {key: value for key, value in vars(SETTINGS).items() if key in vars(Awac())}
CONFIGS: dict[str, Any] = {
    "pa_rl": SETTINGS,
    "awac": Awac(**SHARED),
    "iql": Iql(**SHARED),
    "recap": Recap(**SHARED),
    "filtered_bc": FilteredBc(batch_size=64),
}
WITHOUT_Q = {"recap", "filtered_bc"}


def seen(rows: int) -> dict[str, Any]:
    return {
        "observation.images.front": np.zeros((rows, 64, 64, 3), np.uint8),
        STATE: np.eye(STATES, dtype=np.float32)[np.arange(rows) % STATES],
        TASK: ["x"] * rows,
    }


def test_every_algorithm_that_is_registered_is_tested_here() -> None:
    assert set(CONFIGS) == set(registry.entries("algorithms"))


@pytest.mark.parametrize("name", CONFIGS)
def test_it_finds_the_decision_that_pays(random_backbone: Path, name: str) -> None:
    faster = {"actor_lr": 1e-2} if name == "recap" else {"actor_lr": 3e-3}
    if name != "filtered_bc":
        faster |= {"warmup_updates": 50}
    algorithm = make(random_backbone, type(CONFIGS[name])(**vars(CONFIGS[name]) | faster))
    assert accuracy(algorithm) < 0.7
    for step in range(300):
        metrics = algorithm.update(bandit(algorithm, 64, seed=step))
        assert all(torch.isfinite(value).all() for value in metrics.values())
    assert accuracy(algorithm) == 1.0


@pytest.mark.parametrize("name", CONFIGS)
def test_it_trains_what_is_said_token_by_token(random_backbone: Path, name: str) -> None:
    algorithm = make(random_backbone, CONFIGS[name], type="autoregressive")
    before = [value.detach().clone() for value in algorithm.policy.trainable_parameters()]
    for step in range(4):
        metrics = algorithm.update(bandit(algorithm, 64, seed=step))
        assert all(torch.isfinite(value).all() for value in metrics.values())
    changed = [not torch.equal(a, b) for a, b in zip(before, algorithm.policy.trainable_parameters(), strict=True)]
    assert sum(changed) >= len(changed) - 2  # all but what only bad decisions, and unread layers, would change


@pytest.mark.slow
def test_it_finds_the_decision_that_pays_token_by_token(random_backbone: Path) -> None:
    settings = type(SETTINGS)(**vars(SETTINGS) | {"actor_lr": 1e-2, "warmup_updates": 100, "candidates": 8})
    algorithm = make(random_backbone, settings, type="autoregressive")
    for step in range(220):
        algorithm.update(bandit(algorithm, 64, seed=step))
    assert accuracy(algorithm) > 0.9


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_restored_makes_the_same_update(random_backbone: Path, tmp_path: Path, name: str) -> None:
    first, second = make(random_backbone, CONFIGS[name]), make(random_backbone, CONFIGS[name])
    for step in range(3):
        first.update(bandit(first, 64, seed=step))
    first.policy.save_pretrained(tmp_path)
    second.policy.load_pretrained(tmp_path)
    save_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(load_state(tmp_path / "state"))
    batch = bandit(first, 64, seed=7)
    one, two = first.update(batch), second.update(batch)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert torch.equal(first.priorities(), second.priorities())
    assert first.priorities().shape == (64,)


@pytest.mark.parametrize("name", CONFIGS)
def test_learning_rates_fall(random_backbone: Path, name: str) -> None:
    algorithm = make(random_backbone, type(CONFIGS[name])(**vars(CONFIGS[name]) | {"final_lr": 0.1}))
    optimizers = [each for each in vars(algorithm).values() if hasattr(each, "param_groups")]
    before = [each.param_groups[0]["lr"] for each in optimizers]
    algorithm.anneal(1.0)
    after = [each.param_groups[0]["lr"] for each in optimizers]
    assert after == pytest.approx([0.1 * rate for rate in before])


@pytest.mark.parametrize("name", CONFIGS)
def test_it_trains_by_config_alone_goes_on_and_acts_without_its_learner(
    quick: list[str], tmp_path: Path, name: str
) -> None:
    own = [text for text in quick if not text.startswith("algorithm.") or name == "pa_rl"]
    small = ["algorithm.batch_size=16", "train.steps=64"]
    chosen = [*own, f"algorithm={name}", *small, f"run_dir={tmp_path}/run"]
    if name != "filtered_bc":
        chosen += ["algorithm.critic_width=32", "algorithm.warmup_updates=2", "algorithm.critic_updates=1"]
    record(config.load(chosen, command="demos"))
    train.train(config.load(chosen))
    last = train.train(config.load([f"run_dir={tmp_path}/run", "resume=true", "train.steps=96"]))
    state = checkpoint.load_state(last / "training_state")
    assert state["settings"]["type"] == name
    actor = load_actor(tmp_path / "run", device="cpu")
    tokens, told = actor({**seen(2), STATE: np.zeros((2, actor.policy.state_dim), np.float32)} | pictures(actor, 2))
    assert tokens.shape == (2, len(actor.policy.slots))
    assert {each for each in told if not each.startswith("pointers.")} == (set() if name in WITHOUT_Q else {"q"})
    if name in WITHOUT_Q:
        with pytest.raises(ValueError, match="best_of"):
            load_actor(tmp_path / "run", device="cpu", best_of=2)


def pictures(actor: Actor, rows: int) -> dict[str, Any]:
    return {f"observation.images.{name}": np.zeros((rows, 64, 64, 3), np.uint8) for name in actor.policy.cameras}


def test_the_value_of_a_state_is_the_expectile_of_what_was_done_there(random_backbone: Path) -> None:
    """Held against the expectile's own definition: tau E[(q - v)+] = (1 - tau) E[(v - q)+]."""
    settings = Iql(**SHARED | {"mc_weight": 1.0, "critic_lr": 1e-2}, expectile=0.8)
    algorithm = make(random_backbone, settings)
    assert isinstance(algorithm, IqlAlgorithm)
    batch = bandit(algorithm, 64, seed=0)
    batch.observation[STATE][:] = 0.0  # one state, two outcomes
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    q = rows.returns
    algorithm.target_q = lambda grounded, tokens: q.unsqueeze(1)  # type: ignore[assignment]
    for _ in range(400):
        algorithm.update_value(rows)
    v = float(algorithm.value_of(rows.grounded).detach().mean())
    above, below = 0.8 * (q - v).clamp_min(0).mean(), 0.2 * (v - q).clamp_min(0).mean()
    assert float(q.mean()) < v < 1.0
    assert float(above) == pytest.approx(float(below), rel=0.1)


def test_weights_grow_with_the_advantage_up_to_their_limit() -> None:
    weights = losses.advantage_weights(torch.tensor([-1.0, 0.0, 0.5, 100.0]), torch.tensor(0.5), 20.0)
    torch.testing.assert_close(weights, torch.tensor([np.exp(-2.0), 1.0, np.exp(1.0), 20.0], dtype=torch.float32))


def test_a_policy_that_is_told_what_is_good_decides_as_before_until_it_learns_and_then_otherwise_for_good_and_bad(
    random_backbone: Path, tmp_path: Path
) -> None:
    plain = make(random_backbone, SETTINGS)
    algorithm = make(random_backbone, Recap(**SHARED | {"actor_lr": 1e-2, "warmup_updates": 50}))
    rows = LearnerBatch.of(bandit(algorithm, 32, seed=5), algorithm.policy, algorithm.learner.device)
    for told, other in zip(algorithm.policy.logits(rows.grounded), plain.policy.logits(rows.grounded), strict=True):
        assert torch.equal(told, other)
    for step in range(250):
        algorithm.update(bandit(algorithm, 64, seed=step))
    right = rows.observation[STATE].argmax(1)

    def chosen(good: int) -> float:
        logits = algorithm.policy.logits(rows.grounded, torch.full((32,), good))
        return float((algorithm.policy.greedy(logits)[:, 0] == right).float().mean())

    assert (chosen(1), chosen(0)) == (1.0, 0.0)
    algorithm.policy.save_pretrained(tmp_path)
    again = Policy.from_pretrained(tmp_path)
    one, two = (each.logits(rows.grounded) for each in (algorithm.policy, again))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_best_of_a_batch_and_demonstrations_count_as_good(random_backbone: Path) -> None:
    algorithm = make(random_backbone, Recap(**SHARED | {"truncation": "bootstrap"}, share=0.25))
    batch = bandit(algorithm, 8, seed=0)
    batch.returns = np.array([0.1, 0.9, 0.2, 0.8, 0, 0, 0.3, 1.0], np.float32)
    batch.rest = np.array([0, 0, 0, 0, 0, 0, 0, 0.5], np.float32)  # the last was cut short
    batch.demo = np.arange(8) == 4
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    algorithm.next_value = lambda rows: torch.zeros(len(rows.next_grounded))  # type: ignore[method-assign]
    _, good = algorithm.advantage(rows)
    assert good.tolist() == [0, 1, 0, 1, 1, 0, 0, 0]


def test_cloning_leaves_out_what_went_badly_and_what_is_not_known(random_backbone: Path) -> None:
    algorithm = make(random_backbone, FilteredBc(batch_size=64))
    batch = bandit(algorithm, 8, seed=0)
    batch.returns = np.array([1, 0, np.nan, 1, 0, 0, 0, 0], np.float32)
    batch.rest = np.array([0, 0, 0, 0.5, 0, 0, 0, 0], np.float32)  # the fourth was cut short
    batch.demo = np.array([0, 0, 0, 0, 0, 0, 0, 1], bool)
    metrics = algorithm.update(batch)
    assert float(metrics["actor/imitated"]) == pytest.approx(2 / 8)
    assert np.flatnonzero(algorithm.priorities().numpy()).tolist() == [0, 7]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Recap, {"share": 1.0}),
        (Iql, {"expectile": 1.0}),
        (Awac, {"beta": 0.0}),
        (Awac, {"values": 0}),
        (FilteredBc, {"gamma": 2}),
    ],
)
def test_settings_out_of_range_are_named(kind: type, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)
