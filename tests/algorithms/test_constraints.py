"""Costs that count: what their critic learns, what actors make of it, and that a budget is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.algorithms.test_algorithms import CONFIGS
from tests.algorithms.test_pa_rl import BINS, SETTINGS, STATES, bandit, make
from tests.launch import in_processes
from tests.rewards.test_costs import ended
from vla_rl.algorithms.configs import PaRl
from vla_rl.algorithms.constraints import CostCritic
from vla_rl.algorithms.learner_batch import LearnerBatch
from vla_rl.models.features import Features
from vla_rl.replay import Batch
from vla_rl.rewards.costs import Budget, CostUse, Lexicographic, Price
from vla_rl.rollout.actor import Actor
from vla_rl.runtime.serialization import load_state, save_state
from vla_rl.specs import COST, STATE, TASK

JUDGES = ("pa_rl", "awac", "iql")


def costly(batch: Batch, unit: float = 1.0) -> Batch:
    """One-step episodes in which the second slot costs 0 to 1 `unit`, and pays nothing."""
    return priced(batch, unit * batch.tokens[:, 1] / (BINS - 1))


def tempting(batch: Batch) -> Batch:
    """One-step episodes in which only what pays costs 1."""
    return priced(batch, batch.reward)


def priced(batch: Batch, cost: np.ndarray) -> Batch:
    told = cost.astype(np.float32)
    batch.extra, batch.extra_returns = {COST: told}, {COST: told}
    return batch


def trained(folder: Path, name: str, use: CostUse, world: Any, updates: int = 220) -> Any:
    settings = replace(CONFIGS[name], cost=use, actor_lr=1e-2, warmup_updates=100)
    algorithm = make(folder, settings)
    for step in range(updates):
        metrics = algorithm.update(world(bandit(algorithm, 64, seed=step)))
        assert all(torch.isfinite(value).all() for value in metrics.values())
    return algorithm


def decided(algorithm: Any) -> tuple[float, float]:
    """The share of greedy decisions that pay, and the mean cost by the second slot."""
    batch = bandit(algorithm, 64, seed=99)
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    tokens = algorithm.policy.greedy(rows.grounded).numpy()
    return float((tokens[:, 0] == batch.observation[STATE].argmax(1)).mean()), float(tokens[:, 1].mean() / (BINS - 1))


@pytest.mark.parametrize("name", JUDGES)
@pytest.mark.parametrize("use", [Price(0.5), Lexicographic(0.3)], ids=lambda use: type(use).__name__)
def test_of_what_pays_alike_the_actor_takes_the_cheapest(random_backbone: Path, name: str, use: CostUse) -> None:
    pays, spends = decided(trained(random_backbone, name, use, costly))
    assert pays > 0.9
    assert spends < 0.1


@pytest.mark.parametrize("name", JUDGES)
def test_a_high_price_forbids_what_success_alone_would_take(random_backbone: Path, name: str) -> None:
    dear, _ = decided(trained(random_backbone, name, Price(3.0), tempting))
    assert dear < 0.1


def test_where_success_comes_first_no_cost_forbids_it(random_backbone: Path) -> None:
    pays, _ = decided(trained(random_backbone, "pa_rl", Lexicographic(0.1), tempting))
    assert pays > 0.9


@pytest.mark.parametrize("unit", [1e-3, 1e4])
def test_the_cost_critic_tells_costs_of_any_size(random_backbone: Path, unit: float) -> None:
    algorithm = make(random_backbone, replace(SETTINGS, cost=Price(0.0), actor_lr=0.0))
    for step in range(200):
        algorithm.update(costly(bandit(algorithm, 64, seed=step), unit))
    batch = costly(bandit(algorithm, 64, seed=99), unit)
    assert algorithm.constraint is not None
    told = algorithm.constraint.rank._costs(
        LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device).grounded,
        torch.from_numpy(batch.tokens).unsqueeze(1),
    )
    np.testing.assert_allclose(told[:, 0].numpy() / unit, batch.extra[COST] / unit, atol=0.1)


def test_a_wider_unit_tells_every_cost_as_before() -> None:
    torch.manual_seed(0)
    critic = CostCritic(3, [], members=2, width=8)
    torch.nn.init.normal_(critic.out.weight)
    readout, nothing = torch.randn(4, 3), torch.zeros(4, 1, 0, dtype=torch.int64)
    before = critic(readout, nothing) * critic.unit
    critic.widen(torch.tensor(40.0))
    torch.testing.assert_close(critic(readout, nothing) * critic.unit, before)
    critic.widen(torch.tensor(7.0))
    assert float(critic.unit) == 40.0


def test_what_is_yet_to_come_is_backed_up_and_what_is_not_known_is_not_guessed(random_backbone: Path) -> None:
    """Held against the target's own definition."""
    algorithm = make(random_backbone, replace(SETTINGS, cost=Price(1.0), mc_weight=0.25))
    batch = costly(bandit(algorithm, 4, seed=0))
    batch.discount = np.array([0.9, 0.9, 0.9, 0.0], np.float32)
    batch.returns = np.array([1.0, np.nan, 1.0, 1.0], np.float32)  # the second goes on, or has another goal
    batch.rest = np.array([0.0, 0.0, 0.5, 0.0], np.float32)  # the third was cut short
    batch.extra_returns = {COST: np.full(4, 8.0, np.float32)}
    rows = LearnerBatch.of(batch, algorithm.policy, algorithm.learner.device)
    constraint = algorithm.constraint
    assert constraint is not None
    constraint._target_costs = lambda grounded, tokens: torch.full(tokens.shape[:2], 2.0)  # type: ignore[assignment]
    backup = batch.extra[COST] + batch.discount * 2.0
    expected = np.where([True, False, False, True], 0.25 * 8.0 + 0.75 * backup, backup)
    found = constraint.target_cost(rows, torch.zeros(4, 3, 2, dtype=torch.int64))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_demonstrations_whose_costs_nobody_recorded_teach_the_cost_critic_nothing(random_backbone: Path) -> None:
    algorithm = make(random_backbone, replace(SETTINGS, cost=Price(1.0), weight_decay=0.0))
    batch = costly(bandit(algorithm, 64, seed=0))
    batch.demo[:] = True
    assert algorithm.constraint is not None
    before = [parameter.clone() for parameter in algorithm.constraint.critic.parameters()]
    algorithm.update(batch)
    assert all(map(torch.equal, before, algorithm.constraint.critic.parameters()))


@pytest.mark.slow
def test_what_is_spent_keeps_to_the_budget_and_swings_less_where_its_price_is_damped(random_backbone: Path) -> None:
    """What pays costs 1, so that success alone would spend 1 an episode, and caution nothing."""
    limit = 0.25
    budgets = [Budget(limit, rate=0.02, recent=64, damping=damping) for damping in (0.5, 0.0)]
    damped, undamped = (in_stretches(random_backbone, budget) for budget in budgets)
    assert damped.mean() == pytest.approx(limit, rel=0.1)
    assert damped.std() < undamped.std() / 2


def in_stretches(folder: Path, budget: Budget) -> np.ndarray:
    """What is spent in each stretch of 50 updates, once 300 are done."""
    settings = replace(SETTINGS, cost=budget, actor_lr=1e-2, temperature=2.0)
    algorithm = make(folder, replace(settings, warmup_updates=30, self_imitation=False))
    spent = []
    rng = np.random.default_rng(0)
    for step in range(700):
        right = rng.integers(STATES, size=16)
        seen = {
            "observation.images.front": np.zeros((16, 64, 64, 3), np.uint8),
            STATE: np.eye(STATES, dtype=np.float32)[right],
            TASK: ["x"] * 16,
        }
        costs = (algorithm.explore(seen).tokens[:, 0] == right).astype(float)
        for cost in costs:
            algorithm.listeners[0].on_episode(ended(cost))
        spent.append(costs.mean())
        algorithm.update(tempting(bandit(algorithm, 64, seed=step)))
    return np.mean(np.reshape(spent[-400:], (8, 50)), axis=1)


@pytest.mark.parametrize("name", JUDGES)
@pytest.mark.parametrize(
    "use", [Price(0.5), Budget(0.2, rate=0.5), Lexicographic(0.1)], ids=lambda use: type(use).__name__
)
def test_a_saved_one_goes_on_and_its_scorer_ranks_alike(
    random_backbone: Path, tmp_path: Path, name: str, use: CostUse
) -> None:
    settings = replace(CONFIGS[name], cost=use)
    first, second = make(random_backbone, settings), make(random_backbone, settings)
    first.listeners[0].on_episode(ended(3.0))
    for step in range(3):
        first.update(costly(bandit(first, 64, seed=step)))
    first.policy.save_pretrained(tmp_path)
    second.policy.load_pretrained(tmp_path)
    save_state(tmp_path / "state", first.state_dict())
    state = load_state(tmp_path / "state")
    second.load_state_dict(state)
    second.listeners[0].on_episode(ended(3.0))
    batch = costly(bandit(first, 64, seed=7))
    loaded, tokens = settings.scorer(second.policy, state), torch.from_numpy(batch.tokens).unsqueeze(1).repeat(1, 3, 1)
    tokens[:, 1:] = torch.randint(BINS, (64, 2, 2), generator=torch.Generator().manual_seed(0))
    grounded = LearnerBatch.of(batch, first.policy, first.learner.device).grounded
    assert first.scorer is not None
    assert loaded is not None
    torch.testing.assert_close(loaded(grounded, tokens), first.scorer(grounded, tokens))
    assert not torch.equal(loaded(grounded, tokens), first.judge(grounded, tokens))
    one, two = first.update(batch), second.update(batch)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    if isinstance(use, Budget):
        assert float(one["cost/multiplier"]) == pytest.approx(4 * 0.5 * 2.8)


def test_the_best_of_many_is_the_best_by_cost_too(random_backbone: Path) -> None:
    algorithm = trained(random_backbone, "pa_rl", Lexicographic(10.0), costly, updates=150)
    algorithm.judge = worth_nothing
    with torch.no_grad():
        for parameter in algorithm.policy.head.parameters():
            parameter.zero_()  # anything is as likely
    seen = {
        "observation.images.front": np.zeros((8, 64, 64, 3), np.uint8),
        STATE: np.eye(STATES, dtype=np.float32)[np.arange(8) % STATES],
        TASK: ["x"] * 8,
    }
    tokens, _ = Actor(algorithm.policy, algorithm.scorer, best_of=64)(seen)
    assert (tokens[:, 1] == 0).all()


def worth_nothing(grounded: Features, tokens_BNK: torch.Tensor) -> torch.Tensor:
    return torch.zeros(tokens_BNK.shape[:2])


def test_without_a_cost_nothing_is_built_asked_or_saved(random_backbone: Path) -> None:
    algorithm = make(random_backbone)
    assert algorithm.constraint is None
    assert algorithm.scorer is algorithm.judge
    assert not algorithm.settings.needs.listens
    assert replace(SETTINGS, cost=Price(1.0)).needs.listens
    assert "constraint" not in algorithm.state_dict()
    assert not any(name.startswith("cost/") for name in algorithm.update(bandit(algorithm, 64, seed=0)))


SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path
from tests.algorithms.test_constraints import SETTINGS, Budget, bandit, costly, ended, make

algorithm = make(Path(sys.argv[1]), replace(SETTINGS, cost=Budget(1.0, rate=0.1)))
learner = algorithm.learner
share = 64 // learner.processes
for cost in [2.0, 4.0, 9.0][learner.rank :: learner.processes]:
    algorithm.listeners[0].on_episode(ended(cost))
for step in range(3):
    joint = costly(bandit(algorithm, 64, seed=step))
    algorithm.update(joint.rows(slice(learner.rank * share, (learner.rank + 1) * share)))
told = {"multiplier": algorithm.constraint.rank.multiplier, "scale": float(algorithm.constraint.critic.scale)}
told["bias"] = algorithm.constraint.critic.out.bias.flatten().tolist()
Path(f"{sys.argv[2]}.{learner.rank}").write_text(json.dumps(told))
"""


def test_two_processes_agree_on_what_was_spent_and_learn_like_one(random_backbone: Path, tmp_path: Path) -> None:
    script = tmp_path / "update.py"
    script.write_text(SCRIPT)
    for processes in (1, 2):
        in_processes(processes, str(script), str(random_backbone), str(tmp_path / str(processes)))
    one, first, second = (json.loads((tmp_path / name).read_text()) for name in ("1.0", "2.0", "2.1"))
    assert first == second
    assert one["multiplier"] == first["multiplier"] == pytest.approx(3 * 0.1 * 4.0)
    assert first["scale"] == pytest.approx(one["scale"], rel=1e-5)
    np.testing.assert_allclose(first["bias"], one["bias"], atol=2e-5)


def test_settings_name_what_is_no_component() -> None:
    with pytest.raises(ValueError, match="cost: null, or a component"):
        PaRl(cost=0.2)
