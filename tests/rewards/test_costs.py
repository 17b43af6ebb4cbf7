"""What decisions are worth by success and cost, held against what the names say; and what episodes have cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vla_rl import registry
from vla_rl.algorithms.configs import PaRl
from vla_rl.registry import ConfigError
from vla_rl.replay import EndedEpisode
from vla_rl.rewards.costs import Budget, CostUse, Lexicographic, Price, RealisedCosts
from vla_rl.specs import COST


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Q and costs of 5 rows of 7 decisions."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(size=(5, 7))).float(), torch.from_numpy(rng.exponential(size=(5, 7))).float()


def ended(*costs: float, demo: bool = False) -> EndedEpisode:
    told = np.array(costs, np.float32)
    none, tokens = np.zeros(len(told), np.float32), np.zeros((len(told), 1), np.int64)
    return EndedEpisode(np.arange(len(told)), True, demo, True, tokens, none, {COST: told})


@pytest.mark.parametrize("seed", range(5))
def test_a_price_and_a_budget_take_so_much_for_a_unit_of_cost(seed: int) -> None:
    q, cost = drawn(seed)
    torch.testing.assert_close(Price(0.2).rank(q, cost, Price(0.2).start), q - 0.2 * cost)
    torch.testing.assert_close(Budget(1.0).rank(q, cost, 0.7), q - 0.7 * cost)


@pytest.mark.parametrize("seed", range(5))
def test_of_decisions_that_succeed_alike_the_cheapest_comes_first_and_success_goes_before_cost(seed: int) -> None:
    q, cost = drawn(seed)
    worth = Lexicographic(epsilon=0.3, apart=0.2).rank(q, cost, 0.0)
    for row in range(len(q)):
        near = [i for i in range(7) if q[row, i] >= q[row].max() - 0.3]
        cheap = [i for i in near if cost[row, i] <= cost[row, near].min() + 0.2]
        dear, far = [i for i in near if i not in cheap], [i for i in range(7) if i not in near]
        by_q, by_cost = lambda i: -float(q[row, i]), lambda i: float(cost[row, i])  # noqa: B023
        expected = [*sorted(cheap, key=by_q), *sorted(dear, key=by_cost), *sorted(far, key=by_q)]
        assert worth[row].argsort(descending=True).tolist() == expected
        torch.testing.assert_close(worth[row, cheap], q[row, cheap])


def test_of_decisions_that_cost_alike_success_decides_however_little_it_differs() -> None:
    q, cost = torch.tensor([[0.45, 0.5, 0.1]]), torch.tensor([[1.0, 1.009, 0.0]])
    worth = Lexicographic(epsilon=0.1, apart=0.01).rank(q, cost, 0.0)
    torch.testing.assert_close(worth, torch.tensor([[0.45, 0.5, 0.0]]))


def test_a_budgets_price_follows_what_is_spent_between_nothing_and_its_most() -> None:
    budget, price, expected = Budget(limit=1.0, rate=0.5, damping=0.0, most=2.0), 0.0, 0.0
    assert budget.start == 0.0
    for spent in (0.0, 3.0, 1.0, 0.5, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0):
        price, expected = budget.adjusted(price, spent, 1.0), min(max(expected + 0.5 * (spent - 1.0), 0.0), 2.0)
        assert price == pytest.approx(expected)
    assert price == 0.0
    assert Price(0.3).adjusted(0.3, 100.0, 100.0) == 0.3


def test_a_damped_price_is_that_of_what_is_spent_now_and_of_what_was_too_much_so_far() -> None:
    budget, price, before = Budget(limit=1.0, rate=0.1, damping=0.5), 1.0, 1.2
    spent = [1.2, 1.5, 2.0, 1.4, 0.9, 0.7]
    for each in spent:
        price, before = budget.adjusted(price, each, each - before), each
    assert price == pytest.approx(1.0 + 0.1 * sum(each - 1.0 for each in spent) + 0.5 * (spent[-1] - 1.2))


def test_the_latest_episodes_count_and_demonstrations_do_not() -> None:
    heard = RealisedCosts(recent=2)
    assert heard.total == (0, 0)
    for episode in (ended(5.0), ended(1.0, 2.0), ended(9.0, demo=True), ended(0.5)):
        assert heard.on_episode(episode) == {}
    assert heard.total == (2, pytest.approx(3.5))


@pytest.mark.parametrize("use", [Price(0.2), Budget(1.0, rate=0.1), Lexicographic(0.1)])
def test_each_is_told_by_name_within_an_algorithm(use: CostUse) -> None:
    described = registry.describe(PaRl(cost=use), "algorithms")
    assert registry.build("algorithms", described) == PaRl(cost=use)
    assert described["cost"]["type"] == type(use).__name__.lower()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"type": "pa_rl", "cost": {"type": "prize"}}, r"algorithm.cost.type: unknown name 'prize' among costs"),
        ({"type": "pa_rl", "cost": {"type": "budget", "limt": 1}}, r"algorithm.cost.limt: unknown key; .*'limit'"),
        ({"type": "pa_rl", "cost": {"type": "price", "c": -1}}, "algorithm.cost: c: a price is at least 0, got -1"),
        ({"type": "pa_rl", "cost": {"c": 1}}, "cost: null, or a component that ranks decisions"),
        ({"type": "awac", "cost": {"type": "lexicographic", "epsilon": 0}}, "epsilon, apart: above 0"),
        ({"type": "iql", "cost": {"type": "budget", "limit": 1.0, "recent": 0}}, "recent: at least 1"),
        ({"type": "recap", "cost": {"type": "price", "c": 1.0}}, "recap's critic judges no decisions"),
        ({"type": "filtered_bc", "cost": {"type": "price", "c": 1.0}}, "filtered_bc has no critic"),
    ],
)
def test_what_cannot_be_is_named(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        registry.build("algorithms", config, path="algorithm")
