"""Who takes over a lane: what was decided and seen is remembered once, and the other lanes go on as they would have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import fakes
from vla_rl.actions import Binned
from vla_rl.algorithms.algorithm import Decision
from vla_rl.envs import TokenEnv
from vla_rl.envs.vector import Steps, VectorEnvs
from vla_rl.replay import ReplayBuffer, sample_mixed
from vla_rl.replay.samplers import NothingToSampleError
from vla_rl.rollout.collector import Collector
from vla_rl.rollout.pilot import FAILURE, SUCCESS, Turn, decided
from vla_rl.runtime.logger import Log
from vla_rl.specs import REMEMBERED, SIGNALS, STATE, VERIFIED, Signal

LANES, SEED, MINE = 4, 100_000, 2
RIGHT = np.array([4], np.int64)


class Unverified(fakes.Line):
    """The same line, which does not say whether an episode succeeds, and does not end."""

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, *_ = super().step(action)
        return observation, 0.0, False, False, {}


class Noted(fakes.Line):
    """The same line, which notes what it has shown and done."""

    def __init__(self, notes: list[list[float]]) -> None:
        super().__init__()
        self.notes = notes

    def _observe(self) -> dict[str, Any]:
        if self.steps == 0:
            self.notes.append([])
        self.notes[-1].append(round(self.place, 5))
        return super()._observe()


class Person:
    """Takes over `lane` from turn `begins` to turn `ends`, and acts in every `pace`-th turn only."""

    def __init__(self, lane: int = MINE, begins: int = 3, ends: int = 40, pace: int = 3) -> None:
        self.lane, self.begins, self.ends, self.pace = lane, begins, ends, pace
        self.turns = self.acted = 0
        self.verdicts: dict[int, int] = {}
        self.saw_acting = 0

    def turn(self, lanes: slice, observation: Mapping[str, Any], final: np.ndarray, decision: Decision) -> Turn:
        turn = Turn.of(decision)
        if not lanes.start <= self.lane < lanes.stop:
            return turn
        self.turns += 1
        row = self.lane - lanes.start
        one = np.arange(lanes.stop - lanes.start) == row
        if self.turns in self.verdicts:
            turn = replace(turn, verdict=np.where(one, self.verdicts[self.turns], 0).astype(np.int8))
        if not self.begins <= self.turns < self.ends or final[row]:
            return turn
        if self.turns % self.pace:
            return replace(turn, rests=one)
        self.acted += 1
        return replace(turn, decision=decided(decision, {row: RIGHT}), shown=one)

    def saw(self, lanes: slice, steps: Steps, acted: np.ndarray, final: np.ndarray) -> None:
        self.saw_acting += int(acted.sum())


def act(observation: dict[str, Any]) -> Decision:
    """Towards the middle in single bins; lanes decide apart, as every row is decided by itself."""
    place = observation[STATE]
    return Decision(np.round((np.clip(-place / 0.25, -0.5, 0.5) + 1) * 2).astype(np.int64), {})


def remembering(stack: int = 1, **settings: Any) -> ReplayBuffer:
    cameras = {fakes.CAMERA: (8, 8, 3)}
    return ReplayBuffer(
        4000, cameras, state_dim=1, slots=1, lanes=LANES, choices=5, signals=SIGNALS, stack=stack, **settings
    )


def make_noted(notes: list[list[float]]) -> TokenEnv:
    env = Noted(notes)
    return TokenEnv(env, Binned(bins=5).bind(env.action_space))


def collected(
    folder: Path, turns: int, pilot: Person | None, groups: int = 1, stack: int = 1
) -> tuple[ReplayBuffer, list[list[list[float]]], Collector, int]:
    """Replay; what each lane's environment showed, by episode; and how many transitions that made."""
    notes: list[list[list[float]]] = [[] for _ in range(LANES)]
    makers = [lambda own=own: make_noted(own) for own in notes]
    replay, log = remembering(stack), Log(folder, None, 1, "", show=False)
    collector = Collector(VectorEnvs(makers, LANES), replay, SEED, groups)
    collector.pilot = pilot
    made = sum(collector.step(act, log) for _ in range(turns * groups)) + collector.settle(log)
    collector.close()
    return replay, notes, collector, made


def episodes(replay: ReplayBuffer) -> list[tuple[list[float], list[bool], list[int]]]:
    """Of every ended episode: what was seen in each row, the last one included, who decided, and the tokens."""
    found = []
    for ids in replay.episodes():
        rows = replay.recorded(ids)
        seen = replay.observations(ids)[STATE].ravel().astype(float).round(5).tolist()
        found.append((seen, rows["demo"].tolist(), rows["tokens"].ravel().tolist()))
    return found


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_nothing_is_lost_nor_doubled_whoever_decides(tmp_path: Path, groups: int) -> None:
    person = Person()
    replay, notes, collector, made = collected(tmp_path, 90, person, groups)
    shown = sorted(seen for lane in notes for seen in lane[:-1])
    assert sorted(seen for seen, _, _ in episodes(replay)) == shown  # every state once, in its order
    rows = replay.recorded(np.arange(replay.added))
    assert rows["demo"].sum() == person.acted > 5
    assert collector.statistics()["train/taken_over"] == replay.demonstrated > 5
    assert (rows["tokens"][rows["demo"]] == RIGHT).all()
    assert made == person.saw_acting - sum(len(lane) - 1 for lane in notes)  # a reset is no transition


@pytest.mark.parametrize("groups", [1, 2])
def test_other_lanes_go_on_as_they_would_have(tmp_path: Path, groups: int) -> None:
    _, without, _, _ = collected(tmp_path, 60, None, groups)
    _, taken_over, _, _ = collected(tmp_path, 60, Person(), groups)
    for lane in range(LANES):
        if lane != MINE:
            assert taken_over[lane] == without[lane]
    assert taken_over[MINE] != without[MINE]


def test_a_stack_holds_each_frame_once_though_its_lane_rests(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def watch(observation: dict[str, Any]) -> Decision:
        seen.append(observation[fakes.CAMERA][MINE, :, 0, 0, 0])
        return act({**observation})

    replay, log = remembering(stack=3), Log(tmp_path, None, 1, "", show=False)
    collector = Collector(VectorEnvs(fakes.in_five_bins, LANES), replay, SEED)
    collector.pilot = Person()
    for _ in range(60):
        collector.step(watch, log)
    collector.close()
    stacks = {
        tuple(stack[:, 0, 0, 0].tolist())
        for ids in replay.episodes()
        for stack in replay.observations(ids)[fakes.CAMERA]
    }
    assert {tuple(each.tolist()) for each in seen[:40]} <= stacks


def test_what_a_policy_remembers_is_noted_once_though_its_lane_rests(tmp_path: Path) -> None:
    def count(observation: dict[str, Any]) -> Decision:
        before = observation.get(REMEMBERED, np.zeros((LANES, 1), np.float32))
        return Decision(act(observation).tokens, {}, remembered=before + 1)

    replay, log = remembering(remembered=(1,)), Log(tmp_path, None, 1, "", show=False)
    collector = Collector(VectorEnvs(fakes.in_five_bins, LANES), replay, SEED)
    collector.pilot = Person()
    for _ in range(60):
        collector.step(count, log)
    collector.close()
    for ids in replay.episodes():
        assert replay.observations(ids)[REMEMBERED].ravel().tolist() == list(range(len(ids)))


@pytest.mark.parametrize("verdict", [SUCCESS, FAILURE])
def test_a_person_says_how_an_episode_ends(tmp_path: Path, verdict: int) -> None:
    def make() -> TokenEnv:
        env = Unverified()
        return TokenEnv(env, Binned(bins=5).bind(env.action_space))

    person = Person()
    person.verdicts = {30: verdict}
    replay, log = remembering(), Log(tmp_path, None, 1, "", show=False)
    collector = Collector(VectorEnvs(make, LANES), replay, SEED)
    collector.pilot = person
    for _ in range(50):
        collector.step(act, log)
    collector.close()
    (ids,) = replay.episodes()  # no other lane's ends
    rows = replay.recorded(ids)
    assert rows["reward"][:-2].sum() == 0
    assert rows["reward"][-2] == rows[VERIFIED][-2] == (verdict == SUCCESS)
    assert rows["terminated"].tolist() == [False] * (len(ids) - 2) + [True, False]
    assert collector.episodes == 1
    ended, begun = replay.observations(ids[-1:])[STATE], replay.observations(ids[-1:] + LANES)[STATE]
    assert ended.ravel() != begun.ravel()  # the environment was told to begin another one


def test_an_episode_that_a_person_touched_says_nothing_of_the_policy(tmp_path: Path) -> None:
    replay, _, collector, _ = collected(tmp_path, 60, None)
    untouched = collector.statistics()["train/success_rate"]
    assert untouched == 1.0
    person = Person(lane=MINE, begins=1, ends=200, pace=1)
    replay, _, collector, _ = collected(tmp_path, 90, person)
    mine = [demo for _, demo, _ in episodes(replay) if any(demo)]
    assert len(mine) > 2
    assert collector.statistics()["train/success_rate"] == 1.0  # though the person runs away to the right


def test_what_the_algorithm_tells_of_its_own_decision_is_not_told_of_a_persons() -> None:
    decision = Decision(np.ones((3, 1), np.int64), {}, {"log_prob": np.full(3, -1.5)})
    other = decided(decision, {1: RIGHT})
    assert other.tokens.ravel().tolist() == [1, 4, 1]
    assert other.extras["log_prob"].tolist() == [-1.5, 0.0, -1.5]
    assert decision.tokens.ravel().tolist() == [1, 1, 1]
    assert decided(decision, {}) is decision


def filled(demo: list[bool], capacity: int = 100) -> ReplayBuffer:
    """One episode of as many decisions, each worth its number, and its last observation."""
    buffer = ReplayBuffer(capacity, {fakes.CAMERA: (8, 8, 3)}, 1, 1, choices=5, signals=(Signal("number"),))
    for number in range(len(demo) + bool(demo)):
        last, final = number == len(demo) - 1, number == len(demo)
        seen = {
            fakes.CAMERA: np.full((1, 8, 8, 3), number, np.uint8),
            STATE: np.full((1, 1), number, np.float32),
            "task": ["go"],
        }
        flag = np.array([False if final else demo[number]])
        none = np.zeros(1, bool)
        buffer.add(
            seen, np.zeros((1, 1), np.int64), np.zeros(1), none | last, none, none | final, demo=flag,
            signals={"number": np.array([float(number)])},
        )  # fmt: skip
    return buffer


def test_decisions_of_people_are_drawn_as_demonstrations_are() -> None:
    online, demos = filled([False, True, True, False, False, True]), filled([True] * 5)
    rng = np.random.default_rng(0)
    batches = [sample_mixed(online, demos, 16, 0.5, rng) for _ in range(200)]
    first = [row.rows(np.arange(8)) for row in batches]
    assert all(batch.demo.all() for batch in first)
    drawn = np.bincount(np.concatenate([batch.index for batch in first]), minlength=6) / (200 * 8)
    # Of 5 demonstrated rows and 3 of people each is drawn alike; two of these have numbers that the others have, too.
    assert np.allclose(drawn, np.array([1, 2, 2, 1, 1, 1]) / 8, atol=0.03)
    rest = np.concatenate([batch.demo[8:] for batch in batches])
    assert 0.4 < rest.mean() < 0.6  # the other half is of all that was done, people's decisions too


def test_people_stand_in_where_there_are_no_demonstrations() -> None:
    online, rng = filled([False, True, False]), np.random.default_rng(0)
    none = filled([])
    with pytest.raises(NothingToSampleError):
        none.sample(1, rng)
    batch = sample_mixed(online, none, 8, 0.5, rng)
    assert batch.demo[:4].all()
    assert batch.observation[STATE].ravel()[:4].tolist() == [1.0] * 4


def test_batches_are_as_before_where_nobody_took_over() -> None:
    one = sample_mixed(filled([False] * 6), filled([True] * 5), 16, 0.5, np.random.default_rng(3))
    other = filled([False] * 6)
    assert other.demonstrated == 0
    rng = np.random.default_rng(3)
    assert one.index.tolist() == [*filled([True] * 5).sample(8, rng).index, *other.sample(8, rng).index]


def test_people_are_remembered_in_a_saved_replay(tmp_path: Path) -> None:
    online = filled([False, True, True])
    online.save(tmp_path)
    again = ReplayBuffer.of_saved(tmp_path)
    assert again.demonstrated == online.demonstrated == 2
    assert set(again.sample(20, np.random.default_rng(0), by="demo").index.tolist()) == {1, 2}
