"""A hand that presses things by their name."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.gui.named import NamedScreen
from vla_rl.envs.snapshots import restore_to, snapshot_of
from vla_rl.specs import IMAGES

SCREEN = IMAGES + "screen"


def chain(**kwargs: Any) -> gymnasium.Env:
    return gymnasium.make("vla_rl/GuiNamedChain-v0", steps=4, **kwargs)


def named(env: gymnasium.Env) -> NamedScreen:
    inner = env
    while not isinstance(inner, NamedScreen):
        inner = inner.env  # type: ignore[attr-defined]
    return inner


@pytest.mark.parametrize("codes", [0, 1])
def test_the_expert_goes_through_a_chain_by_names_alone(codes: int) -> None:
    env = chain(codes=codes, contributions=True)
    for seed in range(5):
        env.reset(seed=seed)
        first = env.unwrapped.task.state(env.unwrapped.world)  # type: ignore[attr-defined]
        over, total = False, 0.0
        while not over:
            _, reward, terminated, truncated, info = env.step(named(env).expert_action())
            over, total = terminated or truncated, total + info["contribution"]
        assert (reward, info["is_success"], terminated) == (1.0, True, True)
        assert first.step == 0
        assert 0 < total < 1  # success less the first chance


def test_the_chain_is_a_matter_of_order_where_names_are_known() -> None:
    env = chain(codes=0, asides=0)
    env.reset(seed=3)
    for number in range(1, 5):
        assert named(env).expert_action() == number
        *_, info = env.step(number)
    assert info["is_success"]


def test_what_is_not_shown_or_not_named_is_waited_for() -> None:
    env = chain(codes=0, choices=2)
    env.reset(seed=0)
    before = named(env).screen.world.memory["step"]
    shown = [text for text, _ in named(env).screen.things()]
    words = named(env).screen.goal.words
    hidden = next(i for i, word in enumerate(words) if word not in shown)
    env.step(hidden + 1)
    env.step(len(words) + 1)
    env.step(0)
    assert named(env).screen.world.memory["step"] == before
    assert [gesture.kind for gesture in named(env).screen.world.gestures] == ["wait"] * 3


def test_episodes_begin_in_few_ways_and_a_snapshot_knows_which_come_next() -> None:
    env = chain(starts=3, codes=0)
    seen = {env.reset(seed=5 if i == 0 else None)[0][SCREEN].tobytes() for i in range(30)}
    assert len(seen) == 3
    kept = snapshot_of(env)
    assert kept is not None
    coming = [env.reset()[0]["task"] for _ in range(6)]
    other = chain(starts=3, codes=0)
    other.reset(seed=9)
    restore_to(other, kept)
    assert [other.reset()[0]["task"] for _ in range(6)] == coming
    assert len({chain(codes=0).reset(seed=i)[0][SCREEN].tobytes() for i in range(6)}) == 6


@pytest.mark.parametrize("wrong", [{"named": 0}, {"starts": -1}])
def test_counts_out_of_range_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NamedScreen("vla_rl/GuiChain-v0", **wrong)


def test_an_action_is_a_number() -> None:
    env = chain(named=5)
    assert env.action_space == gymnasium.spaces.Discrete(6)
    env.reset(seed=0)
    assert isinstance(named(env).expert_action(), np.int64)
