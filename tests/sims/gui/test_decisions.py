"""The decision problems of screens: exact solutions against enumeration and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from sims.gui.decisions import Costs, File, Knowledge, beliefs, best, options, value, worth

CHEAP = Costs(zoom=0.04, read=0.03, lookup=0.05, wrong=0.25, stale=0.1)
COSTS = (CHEAP, Costs(0.1, 0.3, 0.02, 0.1, 0.5), Costs(0.4, 0.1, 0.2, 0.9, 0.3), Costs(0.05, 0.04, 0.6, 0.05, 0.0))


def start(folders, readable: bool = False, coded: bool = False) -> Knowledge:
    """What is known at first; where all names can be read, the one looked for is the first file's."""
    now = Knowledge(tuple((File(read=readable),) * count for count in folders), coded, known=not coded)
    return now.change((0,), named=True) if readable and not coded else now


def enumerated(costs: Costs, folders, readable: bool, coded: bool) -> float:
    """The best expected return over all decision trees, over worlds that answer for themselves.

    A world is (the wanted file, the file with the name looked for); nothing here knows of exchanging files.
    """
    rows, count = [], 0
    for size in folders:
        rows.append(tuple(range(count, count + size)))
        count += size
    stale = costs.stale if coded and count > 1 else 0.0
    worlds = {
        (wanted, named): (1 - stale if wanted == named else stale / (count - 1)) / count
        for wanted in range(count)
        for named in range(count)
        if wanted == named or stale
    }
    price = {"zoom": costs.zoom, "read": costs.read, "lookup": costs.lookup}
    calls = [("zoom", row) for row in rows] + [("read", (i,)) for i in range(count)] + [("lookup", ())]
    memo: dict = {}

    def answer(world, seen, known):
        """What can be told apart once these names are read: where the name looked for is among them."""
        return world[1] if known and world[1] in seen else None

    def search(worlds, seen, opened, known) -> float:
        """Weighted with the worlds' probability."""
        key = (tuple(sorted(worlds)), seen, opened, known)
        if key in memo:
            return memo[key]
        most = 0.0
        for file in set(range(count)) - opened:
            rest = {world: weight for world, weight in worlds.items() if world[0] != file}
            then = search(rest, seen, opened | {file}, known) if rest else 0.0
            right = sum(worlds.values()) - sum(rest.values())
            most = max(most, right + then - costs.wrong * sum(rest.values()))
        for kind, files in calls:
            after, asked = seen | set(files), known or kind == "lookup"
            if after == seen and asked == known:
                continue
            heard: dict = {}
            for world, weight in worlds.items():
                heard.setdefault(answer(world, after, asked), {})[world] = weight
            then = sum(search(part, after, opened, asked) for part in heard.values())
            most = max(most, then - price[kind] * sum(worlds.values()))
        memo[key] = most
        return most

    seen, heard = frozenset(range(count)) if readable else frozenset(), {}
    for world, weight in worlds.items():
        heard.setdefault(answer(world, seen, not coded), {})[world] = weight
    return sum(search(part, seen, frozenset(), not coded) for part in heard.values())


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("folders", [(1,), (2,), (1, 2), (2, 2)])
@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("coded", [False, True])
def test_the_rules_value_is_that_of_the_best_decision_tree(costs, folders, readable, coded):
    found = value(costs, start(folders, readable, coded))
    assert found == pytest.approx(enumerated(costs, folders, readable, coded), abs=1e-12)


def test_the_rule_depends_on_what_calls_cost():
    unread = start((2, 2))
    assert best(CHEAP, unread).kind == "zoom"
    assert best(Costs(0.2, 0.03, 0.05, 0.25, 0.1), unread).kind == "read"
    assert best(Costs(0.2, 0.2, 0.05, 0.05, 0.1), unread).kind == "open"
    assert best(Costs(2, 2, 2, 2, 0.1), unread).kind == "stop"
    assert best(CHEAP, start((2, 2), readable=True)).kind in ("open", "zoom", "read")
    assert best(CHEAP, start((2, 2), coded=True)).kind == "lookup"
    assert best(Costs(0.04, 0.03, 0.05, 0.25, 0.75), start((2, 2), coded=True)).kind == "open"  # the table says nothing


def test_a_call_that_tells_nothing_loses_what_it_costs():
    now = start((2, 2)).change((0, 1), read=True)
    for act in options(now):
        assert worth(CHEAP, now, act) <= value(CHEAP, now) + 1e-12
    again = best(CHEAP, start((2, 2)))._replace(files=(0, 1))
    assert worth(CHEAP, now, again) == pytest.approx(value(CHEAP, now) - CHEAP.zoom)


def test_beliefs_follow_from_what_a_stale_table_may_have_said():
    told = start((2, 2), coded=True).change((1,), read=True, named=True)
    told = Knowledge(told.folders, coded=True, known=True)
    wanted, named = beliefs(CHEAP, told)
    np.testing.assert_allclose(wanted, [0.1 / 3, 0.9, 0.1 / 3, 0.1 / 3])
    assert named == (0, 1, 0, 0)
    wrong, _ = beliefs(CHEAP, told.change((1,), opened=True))
    np.testing.assert_allclose(wrong, [1 / 3, 0, 1 / 3, 1 / 3])
