"""Estimators that count, held against the exact contributions of a chain, under the policy that those are told for."""

from __future__ import annotations

import numpy as np
import pytest

from sims.gui import chains
from tests.rewards.test_credit import GAMMA, play, remembering
from vla_rl.rewards.credit_tables import AnchorStates, Counted, Milestones, Redistributed
from vla_rl.specs import CREDIT, REWARD

LATE = 0.5
"""The last share of the episodes, by which most is known."""


def correlations(length: int, estimators: dict[str, Counted], episodes: int = 400) -> dict[str, float]:
    """Of each estimator's credit, and of the return from each decision on, with what the decisions contributed.

    The chain's windows are all that is shown, so that nothing tells whether it is spoilt.
    """
    chain, rng = chains.Chain(length, 2, 2, slip=0.2), np.random.default_rng(0)
    replays = {name: remembering(each.book(GAMMA, "fail"), capacity=20_000) for name, each in estimators.items()}
    rows, truth = [], list[float]()
    for number in range(episodes):
        state, windows, done = chains.State(0, clean=True, left=length + 4), "", list[int]()
        while state.left and state.step < length:
            act = int(rng.choice(4, p=chain.odds(state)))
            windows, done = windows + chr(ord("a") + state.step), [*done, act]
            after = state.after(chain, chains.ACTS[act])
            if number >= LATE * episodes:
                truth.append(chains.contribution(chain, state, after))
            state = after
        succeeds = state.clean and state.step == length
        for replay in replays.values():
            ids = play(replay, windows, done, succeeds, truncated=not (succeeds or state.step == length))
        if number >= LATE * episodes:
            rows.append(ids)
    ids = np.concatenate(rows)
    found = {}
    for name, replay in replays.items():
        credit = replay.transitions(ids).extra[CREDIT.name][:, 0] if CREDIT in estimators[name].columns else None
        told = replay.chunks(ids, 1).reward[:, 0] if credit is None else credit
        found[name] = float(np.corrcoef(told, truth)[0, 1])
    returns = next(replays[name] for name in replays if REWARD not in [c.name for c in estimators[name].columns])
    return found | {"return": float(np.corrcoef(returns.transitions(ids).returns, truth)[0, 1])}


ALL = {
    "screens": AnchorStates(),
    "history": AnchorStates(history=20),
    "redistributed": Redistributed(history=20),
    "milestones": Milestones(),
}


@pytest.mark.parametrize("length", [3, 6])
def test_credit_is_nearer_to_the_truth_than_the_return(length: int) -> None:
    found = correlations(length, ALL)
    assert found["return"] < found["screens"] < found["history"]
    assert found["redistributed"] > 0.6
    assert found["milestones"] > found["return"]
