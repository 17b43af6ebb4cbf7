"""How much each act of a chain adds to the chance of its success, under a stated reference policy: exact.

A chain has `length` steps; at each there are one right button, wrong ones, and others that do nothing. A wrong one
leads on as the right one does, but spoils the chain, and nothing makes it good. Which button is right at the steps of
`codes` is told only to who looks their code up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

ACTS = ("right", "wrong", "aside", "look")
"""What can be done. `aside`: what does nothing. `look`: look up the first code that is still ahead and not known."""


@dataclass(frozen=True)
class Chain:
    """The reference policy presses the right button with probability 1 - `slip`, else does anything else.

    Where it does not know the code of a step, each button is the right one to it, as likely. With `slip` None it does
    anything, each as likely.
    """

    length: int
    wrong: int
    asides: int
    codes: tuple[int, ...] = ()
    slip: float | None = None

    def odds(self, state: State) -> tuple[float, ...]:
        """How likely the reference policy does each of ACTS."""
        ways = np.array([1, self.wrong, self.asides, bool(self.codes)], float)
        if self.slip is None:
            return tuple(ways / ways.sum())
        meant = ways * (1, self.unsure(state), 0, 0)
        others = np.where(meant > 0, 0, ways)
        return tuple((1 - self.slip) * meant / meant.sum() + self.slip * others / others.sum())

    def unsure(self, state: State) -> bool:
        """Whether the right button of the present step follows from a code that is not known."""
        return state.step in self.codes and not state.known >> self.codes.index(state.step) & 1

    def ahead(self, state: State) -> int:
        """The bit of the first code that is still ahead and not known; 0 for none."""
        bits = (1 << i for i, step in enumerate(self.codes) if step >= state.step and not state.known >> i & 1)
        return next(bits, 0)


@dataclass(frozen=True)
class State:
    """step: buttons of the chain that were pressed. clean: whether all were right. left: steps of the episode to go.

    known: bit i says whether the i-th of the chain's codes was looked up.
    """

    step: int
    clean: bool
    left: int
    known: int = 0

    def after(self, chain: Chain, act: str) -> State:
        """The state that an act leads to."""
        if act in ("right", "wrong") and self.step < chain.length:
            return replace(self, step=self.step + 1, clean=self.clean and act == "right", left=self.left - 1)
        return self.told(chain.ahead(self) if act == "look" else 0)

    def told(self, bits: int) -> State:
        """The state after a look at these codes."""
        return replace(self, left=self.left - 1, known=self.known | bits)


def chance(chain: Chain, state: State) -> float:
    """The probability that the reference policy succeeds from here on."""
    if not state.clean:
        return 0.0
    left = max(0, state.left)
    table = _table(chain, 16 * (left // 16 + 1))  # the sizes are few, so that it is seldom computed anew
    return float(table[left, state.step, state.known])


def contribution(chain: Chain, before: State, after: State) -> float:
    """By how much an act changed that probability. Those of an episode sum to its success less the first chance."""
    return chance(chain, after) - chance(chain, before)


@lru_cache(maxsize=256)
def _table(chain: Chain, most: int) -> np.ndarray:
    """float64 [most + 1, length + 1, 2 ** codes]: the chances of clean chains by steps left, steps done and `known`."""
    shape = chain.length + 1, 1 << len(chain.codes)
    moves = np.zeros((*shape, *shape))
    for step in range(chain.length):
        for known in range(shape[1]):
            state = State(step, clean=True, left=1, known=known)
            for act, odds in zip(ACTS, chain.odds(state), strict=True):
                then = state.after(chain, act)
                moves[step, known, then.step, then.known] += odds * then.clean
    found = np.zeros((most + 1, *shape))
    found[:, chain.length] = 1.0
    for left in range(1, most + 1):
        found[left, :-1] = np.tensordot(moves[:-1], found[left - 1])
    found.setflags(write=False)
    return found
