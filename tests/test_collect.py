"""What is remembered does not depend on who steps the environments, nor on how many are acted for at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import gymnasium
import numpy as np
import pytest

from vla_rl.actions import Binned
from vla_rl.algorithms.parl import Decision
from vla_rl.collect import Collector
from vla_rl.envs import TokenEnv
from vla_rl.log import Log
from vla_rl.replay import ReplayBuffer
from vla_rl.specs import STATE
from vla_rl.vector import VectorEnvs

LANES, SEED = 5, 100_000


def make() -> gymnasium.Env:
    env = fakes.Line()
    return TokenEnv(env, Binned(5).bind(env.action_space))


def act(observation: dict[str, Any]) -> Decision:
    """Towards the middle, but from far to the left: some episodes end by the task, others by the time limit."""
    place = observation[STATE]
    tokens = np.where(place < -0.4, 2, np.round((np.clip(-place / 0.25, -1, 1) + 1) * 2)).astype(np.int64)
    return Decision(tokens, {})


def collected(folder: Path, steps: int, workers: int = 0, groups: int = 1, settle_every: int = 0) -> Any:
    """The episodes of each lane as they were remembered, the count of transitions, and of episodes."""
    replay = ReplayBuffer(2000, {fakes.CAMERA: (8, 8, 3)}, state_dim=1, slots=1, lanes=LANES, choices=5)
    collector = Collector(VectorEnvs(make, LANES, workers), replay, SEED, groups)
    log, made = Log(folder, None, 1, "", show=False), 0
    for turn in range(steps * min(groups, LANES)):
        made += collector.step(act, log)
        if settle_every and turn % settle_every == 0:
            made += collector.settle(log)
    made += collector.settle(log)
    assert collector.settle(log) == 0
    collector.close()
    assert made == replay.added - replay.recorded(np.arange(replay.added))["terminated"].sum() - _truncated(replay)
    episodes = []
    for ids in replay.episodes():
        seen = replay.observations(ids)
        episodes.append((seen[STATE].ravel().tolist(), seen[fakes.CAMERA].sum(), replay.recorded(ids)["reward"].sum()))
    return sorted(episodes), collector.episodes


def _truncated(replay: ReplayBuffer) -> int:
    return int(replay.recorded(np.arange(replay.added))["truncated"].sum())


@pytest.mark.parametrize(("workers", "groups", "settle_every"), [(0, 2, 0), (2, 1, 0), (2, 2, 0), (1, 9, 0), (2, 2, 3)])
def test_it_is_the_same_stream(tmp_path: Path, workers: int, groups: int, settle_every: int) -> None:
    expected, count = collected(tmp_path, 60)
    found, episodes = collected(tmp_path, 60, workers, groups, settle_every)
    assert episodes == count > 20
    assert found == expected
    assert {reward for _, _, reward in expected} == {0.0, 1.0}


def test_the_log_says_what_the_loop_waited_for(tmp_path: Path) -> None:
    replay = ReplayBuffer(100, {fakes.CAMERA: (8, 8, 3)}, state_dim=1, slots=1, lanes=2, choices=5)
    collector = Collector(VectorEnvs(make, 2), replay, SEED)
    log = Log(tmp_path, None, 1, "", show=False)
    assert collector.step(act, log) == 0  # nothing has come of it yet
    assert collector.step(act, log) == 2
    line = log.write(2)
    assert {"time/act", "time/step", "time/remember"} <= line.keys()
    assert log.describe().startswith("time: 0 s; act ")
    assert "rest" in log.describe()
