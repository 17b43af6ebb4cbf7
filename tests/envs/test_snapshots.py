"""Environments that go on in the middle of an episode, here and in workers, and those that cannot."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

from tests import fakes
from vla_rl.envs.snapshots import restore_to, snapshot_of
from vla_rl.envs.vector import VectorEnvs
from vla_rl.specs import STATE

STAYS = np.full((3, 1), 2)


def known(steps: int | None = None) -> gymnasium.Env:
    env: gymnasium.Env = fakes.known_in_five_bins()
    return env if steps is None else TimeLimit(env, steps)


def test_a_limit_of_steps_goes_on_with_its_episode() -> None:
    env, other = known(5), known(5)
    env.reset(seed=3)
    for _ in range(3):
        env.step(np.array([2]))
    snapshot = snapshot_of(env)
    assert snapshot is not None
    other.reset(seed=4)
    restore_to(other, snapshot)
    for ended in (False, True):
        here, there = env.step(np.array([2])), other.step(np.array([2]))
        assert here[0][STATE] == there[0][STATE]
        assert here[3] == there[3] == ended


@pytest.mark.parametrize("env", [gymnasium.Wrapper(fakes.Known()), fakes.Line()], ids=["wrapped", "line"])
def test_what_may_remember_more_than_it_tells_has_no_snapshot(env: gymnasium.Env) -> None:
    env.reset(seed=3)
    assert snapshot_of(env) is None


def test_a_snapshot_is_of_as_many_limits() -> None:
    env = known(5)
    env.reset(seed=3)
    with pytest.raises(ValueError, match="another environment"):
        restore_to(known(), snapshot_of(env) or {})


@pytest.mark.parametrize("workers", [0, 2])
def test_lanes_go_on_where_they_can(workers: int) -> None:
    makers = [fakes.known_in_five_bins, fakes.known_in_five_bins, fakes.in_five_bins]
    envs, others = (VectorEnvs(makers, 3, workers) for _ in range(2))
    try:
        envs.reset(7)
        envs.step(STAYS)
        first, second, none = envs.snapshot()
        assert none is None
        assert first is not None
        assert second is not None
        second["env"]["state"]["place"] = None
        others.reset(17)
        failed = others.restore({0: first, 1: second})
        assert list(failed) == [1]
        assert "the line goes on from nowhere" in str(failed[1])
        others.send_seeds([8], [1])
        others.receive()
        for _ in range(30):
            here, there = shown(envs), shown(others)
            assert here[0] == there[0]
    finally:
        envs.close()
        others.close()


def shown(envs: VectorEnvs) -> list[Any]:
    """What each lane shows next."""
    steps = envs.step(STAYS)
    return list(zip(steps.observation[STATE][:, 0], steps.terminated, steps.truncated, strict=True))


def test_a_snapshot_that_fails_costs_no_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = VectorEnvs(known, 3)
    envs.reset(7)
    before = envs.step(STAYS)

    def fails(self: fakes.Known) -> None:
        raise OSError("no")

    monkeypatch.setattr(fakes.Known, "snapshot", fails)
    assert envs.snapshot() == [None] * 3
    after = envs.step(STAYS)
    np.testing.assert_array_equal(before.observation[STATE], after.observation[STATE])
    assert not after.truncated.any()
    envs.close()


def test_a_lane_that_has_lost_its_episode_has_no_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    makers = [partial(fakes.in_five_bins, "fake/Faulty-v0", faults={7: (0, "raise")}), known]
    envs = VectorEnvs(makers, 2, restarts=3)
    envs.reset(7)
    assert envs.step(STAYS[:2]).truncated.tolist() == [True, False]
    first, second = envs.snapshot()
    assert first is None
    assert second is not None
    envs.close()
