"""The decision problem of the desk: the exact solution against enumeration, and what can be told by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from sims.gui.decisions import CENT, RULES, Act, Knowledge, Offer, Problem, best, likely, options, value, worth

FREE = Offer(2)
PROBLEMS = [
    Problem(3, 0.25, False, FREE, Offer(5), Offer(1)),
    Problem(3, 0.25, False, Offer(5, fails=0.5), Offer(5, lies=0.5), Offer(3, fails=0.25)),
    Problem(4, 0.4, False, FREE, Offer(10, lies=0.25), Offer(2)),
    Problem(4, 0.1, False, Offer(20), Offer(4, fails=0.25), Offer(10, fails=0.5)),
    Problem(3, 0.25, True, Offer(20, fails=0.5), FREE, FREE),
]
BUDGETS = (0, 7, 12, 40)


def enumerated(problem: Problem, known: bool, budget: int) -> float:
    """The best expected return over all decision trees, over worlds that answer for themselves.

    A world is (the wanted file, the file that `find` names); nothing here knows of exchanging files.
    """
    files = range(problem.files)
    lies = problem.find.lies

    @cache
    def search(worlds: frozenset, known: bool, asked: bool, left: int) -> float:
        """Weighted with the worlds' probability; what was told is what worlds are left."""
        total = sum(weight for _, weight in worlds)
        most = 0.0
        for file in files:
            rest = frozenset(each for each in worlds if each[0][0] != file)
            if len(rest) < len(worlds):
                most = max(most, total - weigh(rest) + (search(rest, known, asked, left) if rest else 0) - cost(rest))
        for kind in ("translate", "find", "check"):
            price, fails, _ = getattr(problem, kind)
            if price > left:
                continue
            for file in files if kind == "check" else [None]:
                if kind != "translate" and not known:
                    continue
                heard: dict = {}
                for world, weight in worlds:
                    answer = {"translate": world[0] if problem.legible else 0, "find": world[1]}.get(
                        kind, world[0] == file
                    )
                    heard.setdefault(answer, set()).add((world, weight))
                then = sum(
                    search(frozenset(part), known or kind == "translate", asked or kind == "find", left - price)
                    for part in heard.values()
                )
                again = search(worlds, known, asked, left - price) if fails else 0.0
                most = max(most, fails * again + (1 - fails) * then - CENT * price * total)
        return most

    def weigh(worlds: frozenset) -> float:
        return sum(weight for _, weight in worlds)

    def cost(worlds: frozenset) -> float:
        return problem.wrong * weigh(worlds)

    worlds = {
        (wanted, told): (1 - lies if wanted == told else lies / (problem.files - 1)) / problem.files
        for wanted in files
        for told in files
        if wanted == told or lies
    }
    return search(frozenset(worlds.items()), known, False, budget)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("known", [False, True])
def test_the_rules_value_is_that_of_the_best_decision_tree(problem: Problem, budget: int, known: bool) -> None:
    if problem.legible and known:
        return  # one file is left, and nothing to decide
    now = Knowledge(problem.files, known, left=budget)
    assert value(problem, now) == pytest.approx(enumerated(problem, known, budget), abs=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("known", [False, True])
def test_no_budget_is_one_that_is_large_enough(problem: Problem, known: bool) -> None:
    now = Knowledge(problem.files, known)
    for rule in (None, *RULES):
        large = value(problem, now._replace(left=300), rule)
        assert value(problem, now, rule) == pytest.approx(large, abs=1e-4)


def test_the_rule_depends_on_prices_flaws_and_the_budget() -> None:
    now = Knowledge(4)
    problem = Problem(4, 0.25, False, FREE, Offer(10), Offer(5))
    assert best(problem, now).kind == "find"
    assert best(replace(problem, find=Offer(10, lies=0.5)), now).kind == "check"
    assert best(replace(problem, find=Offer(40)), now).kind == "check"
    assert best(Problem(4, 0.25, False, FREE, Offer(40), Offer(40)), now).kind == "open"
    assert best(problem, now._replace(left=9)).kind == "check"
    assert best(problem, now._replace(left=4)).kind == "open"
    assert best(problem, now._replace(known=False)).kind == "translate"


def test_what_fixed_rules_get_can_be_told_by_hand() -> None:
    problem = Problem(5, 0.25, False, FREE, Offer(10, fails=0.5), Offer(3))
    now = Knowledge(5)
    assert value(problem, now, ()) == pytest.approx(1 - 0.25 * 2)  # two wrong files on average
    assert value(problem, now, ("find",)) == pytest.approx(1 - 0.2)  # two calls on average
    assert value(problem, now, ("check",)) == pytest.approx(1 - 0.03 * (1 + 2 + 3 + 4 + 4) / 5)
    assert all(value(problem, now, rule) <= value(problem, now) + 1e-12 for rule in RULES)


def test_beliefs_follow_from_how_often_a_tool_lies() -> None:
    problem = Problem(5, 0.25, False, FREE, Offer(10, lies=0.2), FREE)
    named = Knowledge(4, said="in")
    assert likely(problem, named, said=True) == pytest.approx(0.8)
    assert likely(problem, named, said=False) == pytest.approx(0.05)
    assert likely(problem, named._replace(others=2), said=True) == pytest.approx(0.8 / 0.9)
    assert likely(problem, named._replace(said="out"), said=False) == pytest.approx(0.25)


def test_no_act_is_worth_more_than_the_best_one() -> None:
    for problem in PROBLEMS:
        for now in (Knowledge(problem.files), Knowledge(2, said="in"), Knowledge(3, known=False, left=20)):
            acts = options(problem, now)
            assert max(worth(problem, now, act) for act in acts) == pytest.approx(value(problem, now))
    assert Act("find") not in options(PROBLEMS[0], Knowledge(2, said="in"))  # it would say the same
