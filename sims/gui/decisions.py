"""When to call which tool before acting: the decision problem of a desk of files, solved exactly.

One of some files is wanted, each as likely. Opening it pays 1 and ends the problem; opening another costs, and tells
that it is not the one. Its name may be coded, and names may be too fine to be read. Three kinds of tools help:
`translate` gives the name of a code, which the others need; `find` says which file has the name, and lies now and then,
in an episode always or never; `check` says whether one file has it. A call costs its price, and fails now and then,
anew each time. Prices and flaws are known; so is the budget for calls, if there is one.

Files of which the same is known may be exchanged, so that the states are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations
from typing import Literal, NamedTuple

CALLS = ("translate", "find", "check")
"""The kinds of tools, as acts. The other act is `open`."""
RULES = tuple(chain.from_iterable(combinations(CALLS, count) for count in range(len(CALLS) + 1)))
"""The fixed rules, which look at no price and no flaw: each calls these kinds, in this order and as long as they may
tell something, and then opens what is most likely. The first one never calls, the last one always."""
EXACT = 1e-9
"""Two returns that are nearer than this are equal."""
CENT = 0.01
"""What is paid for a cent, beside the 1 that success pays."""


Said = Literal["none", "in", "out"]


class Offer(NamedTuple):
    """A tool: cents of a call, the probabilities that a call fails, and that `find` names another file."""

    price: int
    fails: float = 0.0
    lies: float = 0.0


class Act(NamedTuple):
    """What can be done. said: whether it is done to the file that `find` named, or to any other that is possible."""

    kind: str
    said: bool = False


@dataclass(frozen=True)
class Problem:
    """What is stated. wrong: cost of opening another file. legible: whether names can be read once one is known."""

    files: int
    wrong: float
    legible: bool
    translate: Offer
    find: Offer
    check: Offer


class Knowledge(NamedTuple):
    """What is known on the way. known: the name. others: files that are possible beside the one that `find` named.

    said: whether `find` has named no file yet, one that is still possible (`in`), or one that is not (`out`).
    left: cents of the budget; None where there is none.
    """

    others: int
    known: bool = True
    said: Said = "none"
    left: int | None = None

    def sure(self) -> Knowledge:
        """One file is left."""
        return self._replace(said="out", others=1)

    def less(self, cents: int) -> Knowledge:
        """So much was spent."""
        return self if self.left is None else self._replace(left=self.left - cents)


def likely(problem: Problem, now: Knowledge, said: bool) -> float:
    """The probability that the file that `find` named is wanted; or that a given one of the others is."""
    lies = problem.find.lies
    one, other = (1 - lies, lies / (problem.files - 1)) if now.said == "in" else (0.0, 1.0)
    return (one if said else other) / (one + now.others * other)


def options(problem: Problem, now: Knowledge) -> list[Act]:
    """All acts that tell something new and can be paid for."""
    which = [True] * (now.said == "in") + [False] * (now.others > 0)
    acts = [Act("open", said) for said in which]
    if not now.known:
        acts.append(Act("translate"))
    elif now.others + (now.said == "in") > 1:
        acts += [Act("find")] * (now.said == "none") + [Act("check", said) for said in which]
    return [act for act in acts if act.kind == "open" or now.left is None or offer(problem, act).price <= now.left]


def offer(problem: Problem, act: Act) -> Offer:
    """The tool that is called."""
    found: Offer = getattr(problem, act.kind)
    return found


def value(problem: Problem, now: Knowledge, rule: tuple[str, ...] | None = None) -> float:
    """The return that can be expected of the best acts from here on; or of those of one of RULES."""
    return _value(problem, now, rule)


@lru_cache(maxsize=2**15)
def _value(problem: Problem, now: Knowledge, rule: tuple[str, ...] | None) -> float:
    if now.others + (now.said == "in") == 1:
        return 1.0
    acts = options(problem, now) if rule is None else [_ruled(problem, now, rule)]
    return max(_settled(problem, now, act, rule) for act in acts)


def _settled(problem: Problem, now: Knowledge, act: Act, rule: tuple[str, ...] | None) -> float:
    """The value if this act is done here; without a budget, as often as it fails."""
    if act.kind == "open" or now.left is not None:
        return _worth(problem, now, act, rule)
    price, fails, _ = offer(problem, act)
    return _answered(problem, now, act, rule) - CENT * price / (1 - fails)


def best(problem: Problem, now: Knowledge) -> Act:
    """An act of the largest value: the first of `options`."""
    most = value(problem, now)
    return next(act for act in options(problem, now) if worth(problem, now, act) > most - EXACT)


def worth(problem: Problem, now: Knowledge, act: Act) -> float:
    """The return that can be expected of an act, done once, and of the best ones after it."""
    return _worth(problem, now, act, None)


def _worth(problem: Problem, now: Knowledge, act: Act, rule: tuple[str, ...] | None) -> float:
    if act.kind == "open":
        right = likely(problem, now, act.said)
        return 1.0 if right == 1 else right + (1 - right) * (_failed(problem, now, act, rule) - problem.wrong)
    price, fails, _ = offer(problem, act)
    then = now.less(price)
    again = fails * value(problem, then, rule) if fails else 0.0
    return again + (1 - fails) * _answered(problem, then, act, rule) - CENT * price


def _answered(problem: Problem, now: Knowledge, act: Act, rule: tuple[str, ...] | None) -> float:
    """What can be expected after a call was answered."""
    if act.kind == "translate":
        then = now._replace(known=True)
        return value(problem, then.sure() if problem.legible else then, rule)
    if act.kind == "check":
        right = likely(problem, now, act.said)
        return 1.0 if right == 1 else right + (1 - right) * _failed(problem, now, act, rule)
    lies, rest = problem.find.lies, problem.files - 1
    out = lies * (problem.files - now.others) / rest  # named is a file that is known not to be the one
    named = now._replace(said="in", others=now.others - 1)
    unlucky = out * value(problem, now._replace(said="out"), rule) if out else 0.0
    return (1 - out) * value(problem, named, rule) + unlucky


def _failed(problem: Problem, now: Knowledge, act: Act, rule: tuple[str, ...] | None) -> float:
    """What can be expected where the file is not the one."""
    then = now._replace(said="out") if act.said else now._replace(others=now.others - 1)
    return value(problem, then, rule)


def _ruled(problem: Problem, now: Knowledge, rule: tuple[str, ...]) -> Act:
    """What a fixed rule does."""
    order = (*rule, "open")
    acts = [act for act in options(problem, now) if act.kind in order]
    return min(acts, key=lambda act: (order.index(act.kind), not act.said))
