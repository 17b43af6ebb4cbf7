"""Goals in the state, in hindsight: against the episodes themselves; and what a config may ask for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_rl import build, config
from vla_rl.registry import ConfigError
from vla_rl.replay import Hindsight, Own, ReplayBuffer
from vla_rl.rewards.goals import StateGoal
from vla_rl.specs import STATE, TASK

GAMMA = 0.9


def walks(rng: np.random.Generator, episodes: int) -> tuple[ReplayBuffer, list[np.ndarray], list[tuple[int, int]]]:
    """Random walks on a line: a buffer, the places of each, and each row's episode and time.

    The state: place, something else, goal.
    """
    buffer = ReplayBuffer(400, {}, state_dim=3, slots=1, gamma=GAMMA, n_step=1)
    places, rows = [], []
    for episode in range(episodes):
        walk = np.cumsum(rng.choice([-1.0, 1.0], rng.integers(2, 12))).astype(np.float32)
        places.append(walk)
        for t, place in enumerate(walk):
            final, last = t == len(walk) - 1, t == len(walk) - 2
            over = np.array([last])
            seen = {STATE: np.array([[place, 7, 99]], np.float32), TASK: ["go"]}
            success = over & bool(rng.random() < 0.5)
            outcome = success.astype(np.float32), success, over & ~success
            buffer.add(seen, np.zeros((1, 1), np.int64), *outcome, final=np.array([final]))
            rows.append((episode, t))
    return buffer, places, rows


@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.3, 1.0]), horizon=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_a_goal_is_a_place_of_later_and_reached_where_the_walk_reaches_it(
    seed: int, share: float, horizon: int
) -> None:
    rng = np.random.default_rng(seed)
    buffer, places, rows = walks(rng, 8)
    goals = StateGoal((0, 1), (2, 3), within=0.5, share=share, horizon=horizon)
    plain = buffer.sample(60, rng)
    before = plain.rows(slice(None))
    batch = Hindsight(goals, goals.share, goals.horizon)(buffer, plain, rng)
    aims = batch.observation[STATE][:, 2]
    changed = aims != 99
    assert changed.all() if share == 1 else changed.any()
    for row in np.flatnonzero(changed):
        episode, t = rows[batch.index[row]]
        walk = places[episode]
        assert aims[row] in walk[t + 1 : t + 1 + horizon]
        reached = walk[t + 1] == aims[row]
        assert batch.reward[row] == reached
        assert batch.discount[row] == (0 if reached else np.float32(GAMMA))
        assert np.isnan(batch.returns[row])
        assert batch.observation[STATE][row].tolist() == [walk[t], 7, aims[row]]
        assert batch.next_observation[STATE][row].tolist() == [walk[t + 1], 7, aims[row]]
    kept = np.flatnonzero(~changed)
    for name in ("reward", "discount", "returns"):
        assert np.array_equal(getattr(batch, name)[kept], getattr(before, name)[kept], equal_nan=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"achieved": (0, 3), "goal": (3, 5)}, "as many entries"),
        ({"achieved": (2, 2), "goal": (3, 3)}, "as many entries"),
        ({"achieved": (-1, 1), "goal": (0, 2)}, "as many entries"),
        ({"within": 0.0}, "within > 0"),
        ({"share": 1.5}, r"share in \[0, 1\]"),
    ],
)
def test_refuses_what_makes_no_sense(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StateGoal(**{"achieved": (0, 1), "goal": (1, 2), "within": 0.1, **fields})


GOALS = "replay.hindsight={type: state_goal, achieved: [0, 3], goal: [3, 6], within: 0.05}"


def own_experience(overrides: list[str]) -> Own:
    run = config.load(overrides)
    return build.own_experience(run, build.env_spec(run))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["replay.hindsight={type: state_gaol}"], "replay.hindsight.type: unknown name 'state_gaol'.*'state_goal'"),
        (["replay.hindsight={type: state_goal, achieved: [0, 3]}"], "replay.hindsight.*goal"),
        ([GOALS, "algorithm.mc_weight=1.0"], "replay.hindsight: .*lower algorithm.mc_weight"),
        ([GOALS, "replay.n_step=3"], "replay.n_step is 3"),
        ([GOALS.replace("6", "60").replace("3]", "57]"), "replay.n_step=1"], "the state has 9 entries"),
        (["replay.success_share=1.5"], "replay.success_share.*less than or equal to 1"),
    ],
)
def test_a_config_that_does_not_fit_says_so(overrides: list[str], message: str, quick: list[str]) -> None:
    with pytest.raises(ConfigError, match=message):
        own_experience([*quick, "algorithm.mc_weight=0.5", *overrides])


def test_a_run_draws_as_its_config_says(quick: list[str]) -> None:
    own = own_experience([*quick, "replay.success_share=0.25", "replay.prioritised=true", "replay.n_step=1", GOALS])
    assert (own.success_share, own.by, own.correction) == (0.25, "priority", 0.4)
    assert own.hindsight is not None
    assert own.hindsight.relabel == StateGoal((0, 3), (3, 6), 0.05)
