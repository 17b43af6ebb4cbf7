"""Episodes that begin where a failed one stood: how many, where, what follows, and as exactly after a resume."""

from typing import Any

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401 (registers screens)
from tests import fakes
from vla_rl.envs.failed_starts import KEPT, STARTED, FailedStarts
from vla_rl.registry import ConfigError
from vla_rl.specs import TASK


def screens(share: float) -> FailedStarts:
    """Chains of buttons, which a wait never gets on with."""
    return FailedStarts(gymnasium.make("vla_rl/GuiChain-v0", steps=3, codes=0, horizon=5), share)


def wait(env: gymnasium.Env) -> dict[str, Any]:
    return env.unwrapped.action_space.command("wait")


def pressed(env: FailedStarts) -> int:
    return len(env.unwrapped.world.gestures)


def fail(env: FailedStarts) -> None:
    """Two right buttons, then nothing."""
    over = False
    for turn in range(5):
        assert not over
        *_, terminated, truncated, _ = env.step(env.unwrapped.expert_action() if turn < 2 else wait(env))
        over = terminated or truncated
    assert over


def test_a_share_of_episodes_begins_on_the_way_to_a_failure() -> None:
    env = screens(0.5)
    env.reset(seed=1)
    fail(env)
    begun, tasks = [], set()
    for _ in range(60):
        observation, info = env.reset()
        begun.append(info[STARTED])
        assert info[STARTED] == (pressed(env) > 0)
        seen = env.unwrapped._observer.read(env.unwrapped.world)
        assert all(np.array_equal(observation[key], seen[key]) for key in observation)
        tasks.add(observation[TASK])
        if not info[STARTED]:
            continue
        over = False
        while not over:  # what is left of the failed one's steps
            *_, terminated, truncated, _ = env.step(wait(env))
            over = terminated or truncated
        assert pressed(env) == 5
    assert 15 < sum(begun) < 45
    assert len(tasks) > 25, "the episodes after it are the same again"
    assert len(env._starts) == 1, "what begins so begins others"
    for seed in range(2 * KEPT):
        env.reset(seed=seed)
        fail(env)
    assert len(env._starts) == KEPT


def test_nothing_begins_on_the_way_to_a_success() -> None:
    env = screens(1.0)
    env.reset(seed=1)
    for _ in range(4):
        over = False
        while not over:
            *_, terminated, truncated, _ = env.step(env.unwrapped.expert_action())
            over = terminated or truncated
        assert not env.reset()[1][STARTED]
    fail(env)
    assert env.reset()[1][STARTED]
    assert not env.reset(seed=2)[1][STARTED]


def test_it_goes_on_from_a_snapshot_as_it_would_have() -> None:
    env, other = screens(0.7), screens(0.7)
    env.reset(seed=1)
    other.reset(seed=5)
    fail(env)
    env.reset()
    other.restore(env.snapshot())
    for _ in range(12):
        shown = []
        for each in (env, other):
            while not any(each.step(wait(each))[2:4]):
                pass
            shown.append(each.reset())
        assert shown[0][1] == shown[1][1]
        assert all(np.array_equal(shown[0][0][key], shown[1][0][key]) for key in shown[0][0])


def test_an_environment_has_to_tell_where_it_stands() -> None:
    env = FailedStarts(fakes.Line(), 0.5)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=r"train\.failed_starts: the environment cannot tell"):
        env.step(np.zeros(1, np.float32))
