"""Few rows of settings in which every pair of values that may go together does."""

import itertools
from collections.abc import Callable, Mapping, Sequence

Row = dict[str, str]


def every_pair(choices: Mapping[str, Sequence[str]], allowed: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """Rows of one value of each name of `choices`, such that any two values of two names are in one of them.

    Greedy: the first pair that is missing begins a row, and each further name takes the value that brings most of what
    is missing.

    Args:
        choices: the values of each name, in the order in which a row is filled.
        allowed: whether the values of a row, or of a part of one, go together; pairs that never do are left out.
    """
    names = list(choices)
    missing = {
        ((a, x), (b, y))
        for a, b in itertools.combinations(names, 2)
        for x in choices[a]
        for y in choices[b]
        if allowed({a: x, b: y})
    }
    rows: list[Row] = []
    while missing:
        pair = min(missing)
        row = _filled(dict(pair), choices, allowed, missing)
        missing.discard(pair)
        if row is not None:
            row = {name: row[name] for name in names}
            missing -= set(itertools.combinations(row.items(), 2))
            rows.append(row)
    return rows


def _filled(row: Row, choices: Mapping[str, Sequence[str]], allowed: Callable[[Row], bool], missing: set) -> Row | None:
    """The row with a value for every name; None where there is none that is allowed."""
    name = next((name for name in choices if name not in row), None)
    if name is None:
        return row

    def brings(value: str) -> int:
        here = (name, value)
        return sum((here, other) in missing or (other, here) in missing for other in row.items())

    tried = [row | {name: value} for value in sorted(choices[name], key=brings, reverse=True)]
    found = (_filled(each, choices, allowed, missing) for each in tried if allowed(each))
    return next((whole for whole in found if whole is not None), None)
