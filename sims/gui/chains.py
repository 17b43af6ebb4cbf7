"""How much each act of a chain adds to the chance of its success, under a stated reference policy: exact.

A chain has `length` steps; at each there are one right button, wrong ones, and others that do nothing. A wrong one
leads on as the right one does, but spoils the chain. A chain that ends spoilt begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ACTS = ("right", "wrong", "aside")
"""What a button is. Whatever is no button is `aside`."""


@dataclass(frozen=True)
class Chain:
    """The reference policy presses the right button with probability 1 - `slip`, else any other, each as likely.

    With `slip` None it presses any button, each as likely.
    """

    length: int
    wrong: int
    asides: int
    slip: float | None = None

    @property
    def odds(self) -> tuple[float, float, float]:
        """How likely the reference policy does each of ACTS."""
        others = self.wrong + self.asides
        slip = others / (others + 1) if self.slip is None else self.slip
        return 1 - slip, slip * self.wrong / others, slip * self.asides / others


@dataclass(frozen=True)
class State:
    """step: buttons of the chain that were pressed. clean: whether all were right. left: steps of the episode to go."""

    step: int
    clean: bool
    left: int
    done: bool = False

    def after(self, chain: Chain, act: str) -> State:
        """The state that an act leads to."""
        if act == "aside":
            return State(self.step, self.clean, self.left - 1)
        clean = self.clean and act == "right"
        if self.step + 1 < chain.length:
            return State(self.step + 1, clean, self.left - 1)
        return State(0, True, self.left - 1, done=clean)


def chance(chain: Chain, state: State) -> float:
    """The probability that the reference policy succeeds from here on."""
    return 1.0 if state.done else float(_chances(chain, state.left)[state.left, state.step, int(state.clean)])


def contribution(chain: Chain, state: State, act: str) -> float:
    """By how much an act changes that probability. Those of an episode sum to its success less the first chance."""
    return chance(chain, state.after(chain, act)) - chance(chain, state)


def _chances(chain: Chain, left: int) -> np.ndarray:
    """float64 [at least left + 1, length, 2]; the sizes are few, so that it is seldom computed anew."""
    return _table(chain, 16 * (left // 16 + 1))


@lru_cache(maxsize=64)
def _table(chain: Chain, most: int) -> np.ndarray:
    found = np.zeros((most + 1, chain.length, 2))
    for left in range(1, most + 1):
        for step in range(chain.length):
            for clean in (False, True):
                state = State(step, clean, left)
                found[left, step, int(clean)] = sum(
                    odds * (1.0 if then.done else found[left - 1, then.step, int(then.clean)])
                    for odds, then in (
                        (odds, state.after(chain, act)) for act, odds in zip(ACTS, chain.odds, strict=True)
                    )
                )
    found.setflags(write=False)
    return found
