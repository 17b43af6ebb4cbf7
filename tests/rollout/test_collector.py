"""What is remembered does not depend on who steps the environments, nor on how many are acted for at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests import fakes
from vla_rl.actions import Binned
from vla_rl.algorithms.algorithm import Decision
from vla_rl.envs import TokenEnv
from vla_rl.envs.vector import VectorEnvs
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout.collector import Collector
from vla_rl.runtime.logger import Log
from vla_rl.specs import SIGNALS, STATE

LANES, SEED = 5, 100_000


class Breaking(fakes.Line):
    """The same line, on which every third episode breaks after three steps, `key` says how."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key, self.number = key, -1

    def reset(self, **kwargs: Any) -> tuple[dict[str, Any], dict]:
        self.number += 1
        return super().reset(**kwargs)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.number % 3 != 1 or self.steps < 3:
            return observation, reward, terminated, truncated, info
        observation[STATE] = np.full(1, np.nan, np.float32)  # a place that the world had no answer for
        return observation, 0.0, False, True, {**info, self.key: True}


class Places(Breaking):
    """The same, which also notes where each of its episodes went."""

    def __init__(self, key: str, notes: list[tuple[int, list[float]]]) -> None:
        super().__init__(key)
        self.notes = notes

    def _observe(self) -> dict[str, Any]:
        if self.steps == 0:
            self.notes.append((self.number, []))
        self.notes[-1][1].append(self.place)
        return super()._observe()


def act(observation: dict[str, Any]) -> Decision:
    """Towards the middle, but from far to the left: some episodes end by the task, others by the time limit."""
    place = np.nan_to_num(observation[STATE])
    tokens = np.where(place < -0.4, 2, np.round((np.clip(-place / 0.25, -1, 1) + 1) * 2)).astype(np.int64)
    return Decision(tokens, {})


def remembering(capacity: int, lanes: int) -> ReplayBuffer:
    """An empty replay of the line."""
    cameras = {fakes.CAMERA: (8, 8, 3)}
    return ReplayBuffer(capacity, cameras, state_dim=1, slots=1, lanes=lanes, choices=5, signals=SIGNALS)


def collected(folder: Path, steps: int, workers: int = 0, groups: int = 1, settle_every: int = 0) -> Any:
    """The episodes of each lane as they were remembered, the count of transitions, and of episodes."""
    replay = remembering(2000, LANES)
    collector = Collector(VectorEnvs(fakes.in_five_bins, LANES, workers), replay, SEED, groups)
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


@pytest.mark.parametrize("groups", [1, 2, 9])
def test_whoever_acts_can_tell_for_which_lanes(tmp_path: Path, groups: int) -> None:
    replay = remembering(200, LANES)
    collector = Collector(VectorEnvs(fakes.in_five_bins, LANES), replay, SEED, groups)
    first = {lane: VectorEnvs(fakes.in_five_bins, 1).reset(SEED + lane).observation[STATE][0] for lane in range(LANES)}
    seen = []

    def look(observation: dict[str, Any]) -> Decision:
        lanes = range(LANES)[collector.turn]
        assert [first[lane] for lane in lanes] == observation[STATE].tolist()
        seen.extend(lanes)
        return act(observation)

    log = Log(tmp_path, None, 1, "", show=False)
    for _ in range(min(groups, LANES)):
        collector.step(look, log)
    assert seen == list(range(LANES))


def test_the_log_says_what_the_loop_waited_for(tmp_path: Path) -> None:
    replay = remembering(100, 2)
    collector = Collector(VectorEnvs(fakes.in_five_bins, 2), replay, SEED)
    log = Log(tmp_path, None, 1, "", show=False)
    assert collector.step(act, log) == 0  # nothing has come of it yet
    assert collector.step(act, log) == 2
    line = log.write(2)
    assert {"time/act", "time/step", "time/remember"} <= line.keys()
    assert log.describe().startswith("time: 0 s; act ")
    assert "rest" in log.describe()


@pytest.mark.parametrize("key", ["invalid", "diverged"])
@pytest.mark.parametrize("groups", [1, 2])
def test_an_episode_that_the_environment_spoilt_teaches_nothing_and_counts_neither_way(
    tmp_path: Path, key: str, groups: int
) -> None:
    notes: list[list[tuple[int, list[float]]]] = []

    def breaking() -> gymnasium.Env:
        notes.append([])
        env = Places(key, notes[-1])
        return TokenEnv(env, Binned(5).bind(env.action_space))

    replay = remembering(2000, 2)
    replay.can_sample(by="success")
    collector = Collector(VectorEnvs(breaking, 2), replay, SEED, groups)
    log = Log(tmp_path, None, 1, "", show=False)
    for _ in range(60 * groups):
        collector.step(act, log)
    collector.settle(log)
    over = [(number % 3 == 1 and len(places) > 3, places) for lane in notes for number, places in lane[:-1]]
    good = [np.float32(places).tolist() for broke, places in over if not broke]
    spoilt = sum(number % 3 == 1 and len(places) > 3 for lane in notes for number, places in lane)
    found = [replay.observations(ids)[STATE].ravel().tolist() for ids in replay.episodes()]
    assert sorted(found) == sorted(good)
    assert len(good) <= collector.episodes <= len(good) + 2
    statistics = collector.statistics()
    assert statistics["train/invalid_episodes"] == spoilt > 2
    wins = [abs(places[-1]) < 0.1 for places in good]
    assert statistics["train/success_rate"] == pytest.approx(np.mean(wins), abs=0.1)
    for folder in (None, tmp_path / "replay"):
        if folder:
            replay.save(folder)
            replay = ReplayBuffer.of_saved(folder)
        assert np.isfinite(replay.observations(replay.sampleable_ids())[STATE]).all()
        assert np.isfinite(replay.sample(200, np.random.default_rng(0)).next_observation[STATE]).all()
