"""Rows from workers elsewhere are those that a collector here would have written; weights are never too old; what dies
loses the episodes that it was at, and no others. The workers are in this process; tests/rollout/test_ray.py has others.
"""

from __future__ import annotations

import itertools
import json
import pickle
import sys
import types
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import fakes
from tests.rollout.test_collector import LANES, SEED, Breaking, act
from vla_rl import build, config, train
from vla_rl.actions import Binned
from vla_rl.algorithms.algorithm import Decision
from vla_rl.config import fixed
from vla_rl.envs import TokenEnv
from vla_rl.envs.supervision import LostError
from vla_rl.envs.vector import VectorEnvs
from vla_rl.registry import ConfigError
from vla_rl.replay import ReplayBuffer
from vla_rl.rollout import weights
from vla_rl.rollout.collector import Collector
from vla_rl.rollout.parcel import Outbox, Parcel
from vla_rl.rollout.remote import Arrival, RemoteCollector
from vla_rl.rollout.rollout_worker import Assignment, Greeting, RolloutWorker, Untimed
from vla_rl.specs import POLICY_VERSION, SIGNALS, STATE, Signal

BATCH, AHEAD, MAX_LAG = 4, 2, 30
LOG, HERE = Untimed(), Greeting("here", 1)


class Fuelled(Breaking):
    """The same line, which tells of its fuel from time to time."""

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        *rest, info = super().step(action)
        return *rest, info | ({"fuel": float(self.steps)} if self.steps % 4 == 1 else {})  # type: ignore[return-value]


def breaking() -> TokenEnv:
    """A line of which every third episode is spoilt."""
    env = Fuelled("invalid")
    return TokenEnv(env, Binned(bins=5).bind(env.action_space))


def remembering(lanes: int, signals: tuple[Signal, ...]) -> ReplayBuffer:
    """An empty replay of the line."""
    cameras = {fakes.CAMERA: (8, 8, 3)}
    return ReplayBuffer(4000, cameras, state_dim=1, slots=1, lanes=lanes, choices=5, signals=signals)


def episodes(replay: ReplayBuffer) -> list[Any]:
    """What replay holds of each whole episode."""
    told = []
    for ids in replay.episodes():
        seen, done = replay.observations(ids), replay.recorded(ids)
        fuel = done.get("fuel", np.zeros(0)).tolist()
        told.append((seen[STATE].ravel().tolist(), seen[fakes.CAMERA].sum(), done["reward"].tolist(), fuel))
    return sorted(told)


@pytest.mark.parametrize("batch", [1, 3, 40])
def test_parcels_leave_replay_as_a_collector_that_writes_to_it(batch: int) -> None:
    signals = (*SIGNALS, Signal("fuel"))
    direct, sent = remembering(LANES, signals), remembering(LANES + 2, signals)
    collector = Collector(VectorEnvs(breaking, LANES), direct, SEED)
    outbox = Outbox(stack=1, signals=signals, caches=True)
    other = Collector(VectorEnvs(breaking, LANES), outbox, SEED)
    for _ in range(120 // batch):
        for each in (collector, other):
            for _ in range(batch):
                each.step(act, LOG)
            each.settle(LOG)
        parcel = pickle.loads(pickle.dumps(outbox.sealed(version=0)))
        assert sum(len(coded) for coded in parcel.coded.values()) == sum(count for _, count in parcel.turns)
        parcel.deliver(sent, first=2, signals={})
    assert other.counts == collector.counts
    assert collector.invalid_episodes > 5
    assert episodes(sent) == episodes(direct)
    assert any(sum(fuel) > 1 for *_, fuel in episodes(sent))
    assert len(sent) == len(direct)


class Weights(torch.nn.Linear):
    """Stands in for a policy: one number that trains."""

    frozen_trunk = False

    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / "weights").write_bytes(self.bias.detach().numpy().tobytes())


class Worker:
    """Stands in for a rollout worker: acts by no policy, but tells by which one it would."""

    def __init__(self, given: Assignment) -> None:
        self.outbox, self.version = Outbox(1, given.signals, caches=True), -1
        envs = VectorEnvs(given.makers, len(given.makers))
        self.collector = Collector(envs, self.outbox, given.seeds)

    def collect(self, version: int) -> Parcel:
        self.version, before = version, self.collector.episodes
        made = sum(self.collector.step(self.act, LOG) for _ in range(BATCH)) + self.collector.settle(LOG)
        return self.outbox.sealed(version, decisions=made, valid=self.collector.episodes - before)

    def act(self, observation: dict[str, Any]) -> Decision:
        decision = act(observation)
        versions = np.full(len(decision.tokens), self.version, np.int32)
        return Decision(decision.tokens, {}, {POLICY_VERSION.name: versions})


class FakeFleet:
    """Workers in this process, which work when they are waited for.

    Attributes:
        slow: the worker of which nothing arrives unless it is asked for. dying: those that are gone.
    """

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.asked: dict[int, deque[Any]] = {}
        self.version, self.wholes, self.seeds = -1, 0, list[int]()
        self.slow: int | None = None
        self.dying: set[int] = set()
        self.most = 0

    def publish(self, version: int, trained: Any = None, whole: Any = None) -> None:
        assert (trained is None) != (whole is None)
        self.version = version
        self.wholes += whole is not None

    def begin(self, number: int, given: Assignment) -> None:
        self.workers[number] = Worker(given)
        self.asked[number] = deque([HERE])
        self.seeds += given.seeds

    def ask(self, number: int) -> None:
        self.asked[number].append(self.version)
        self.most = max(self.most, len(self.asked[number]))

    def receive(self, number: int | None, patience: float) -> Arrival | None:
        able = [each for each, asked in self.asked.items() if asked and (number is None or each == number)]
        if number is None and self.slow in able and self.asked[self.slow][0] != HERE:
            able.remove(self.slow)
        if not able:
            return None
        (chosen, *_) = able
        if chosen in self.dying:
            return Arrival(chosen, RuntimeError("it is gone"))
        what = self.asked[chosen].popleft()
        self.asked[chosen] = self.asked.pop(chosen)  # the others come first now
        return Arrival(chosen, what if isinstance(what, Greeting) else self.workers[chosen].collect(what))

    def describe(self) -> str:
        return "of nobody"

    def close(self) -> None:
        pass


class Run:
    """A remote collector with two workers, and a learner that counts."""

    def __init__(self, restarts: int = 3, **changed: Any) -> None:
        signals = (*SIGNALS, POLICY_VERSION)
        self.replay = remembering(LANES, signals)
        common: dict[str, Any] = dict.fromkeys(("algorithm", "plugins", "device", "mixed_precision", "timeout"))
        common |= {"processes": 0, "restarts": 0, "groups": 1, "stack": 1, "caches": True, "noise": 0, "spare": []}
        assignments = [
            Assignment(
                first=int(lanes[0]),
                makers=[fakes.in_five_bins] * len(lanes),
                seeds=[SEED + int(lane) for lane in lanes],
                batch=BATCH,
                signals=signals,
                **common,
            )
            for lanes in np.array_split(np.arange(LANES), 2)
        ]
        self.fleet, self.updates = FakeFleet(), 0
        limits = {"ahead": AHEAD, "max_lag": MAX_LAG, "publish_every": 1, "per_decision": 0.5} | changed
        self.collector = RemoteCollector(
            self.fleet,
            assignments,
            self.replay,
            Weights(1, 1),  # type: ignore[arg-type]
            lambda: self.updates,
            spare=itertools.count(SEED + 1000),
            restarts=restarts,
            tasks=["line"] * LANES,
            **limits,
        )

    def step(self) -> int:
        made = self.collector.step(act, LOG)
        self.updates += int(0.5 * made)
        return made

    def versions(self) -> np.ndarray:
        ids = np.arange(self.replay.added)
        return self.replay.recorded(ids[self.replay._ring.alive(ids)])[POLICY_VERSION.name]


def test_every_row_says_by_which_weights_it_was_acted_and_these_are_never_too_old() -> None:
    run, lags = Run(), list[float]()
    run.fleet.slow = 0
    for _ in range(60):
        run.step()
        lags.append(run.collector.statistics().get("actors/lag_max", 0.0))
    assert 0 < max(lags) <= MAX_LAG
    assert run.fleet.workers[0].version > 100, "the slow one is waited for"
    assert len(np.unique(run.versions())) > 10
    assert run.fleet.version <= run.updates


def test_a_short_limit_has_all_be_asked_anew_by_the_newest_weights() -> None:
    run = Run(max_lag=1)
    for _ in range(30):
        run.step()
    assert run.collector.statistics()["actors/lag_max"] <= 1


def test_no_worker_owes_more_than_it_may_and_nothing_is_done_unasked() -> None:
    run = Run()
    for _ in range(20):
        run.step()
    assert run.fleet.most == AHEAD
    run.collector.settle(LOG)
    assert not any(run.fleet.asked.values())


def test_weights_go_out_whole_at_first_and_after_all_was_settled() -> None:
    run = Run(publish_every=20)
    for _ in range(10):
        run.step()
    assert run.fleet.wholes == 1
    assert len(np.unique(run.versions())) < 6
    run.collector.settle(LOG)
    run.step()
    assert run.fleet.wholes == 2


def test_a_worker_that_dies_loses_the_episodes_it_was_at_and_begins_others() -> None:
    run = Run()
    for _ in range(25):
        run.step()
    whole, first_seeds = episodes(run.replay), list(run.fleet.seeds)
    run.fleet.dying = {1}
    while not run.collector.statistics()["actors/lost"]:
        run.step()
    run.fleet.dying = set()
    kept = episodes(run.replay)
    assert [each for each in whole if each not in kept] == []
    lost = run.collector.counts.invalid_episodes
    assert 0 < lost <= len(run.fleet.workers[1].collector.envs._hosts[0].lanes)
    seeds = run.fleet.seeds[len(first_seeds) :]
    assert seeds
    assert not set(seeds) & set(first_seeds)
    for _ in range(25):
        run.step()
    assert len(episodes(run.replay)) > len(kept)
    assert run.collector.counts.episodes == pytest.approx(len(episodes(run.replay)), abs=LANES)


def test_a_worker_that_dies_again_and_again_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    run = Run(restarts=2)
    run.fleet.dying = {0}
    with pytest.raises(LostError, match=r"it is gone; 3 times in a row, of which train\.restarts=2"):
        deque((run.step() for _ in range(20)), maxlen=0)


def test_who_goes_on_keeps_the_counts_and_says_that_episodes_are_lost() -> None:
    run = Run()
    for _ in range(25):
        run.step()
    saved, other = run.collector.state_dict(LOG), Run()
    made, reasons = other.collector.load_state_dict(saved, LOG)
    assert made == 0
    assert sorted(reasons) == list(range(LANES))
    assert other.collector.counts == run.collector.counts


def test_a_copy_of_a_policy_acts_as_the_policy_and_follows_it(line: list[str]) -> None:
    run = config.load(line)
    spec = build.env_spec(run)
    policy = build.fresh_policy(run, spec)
    lane, features = build.env_factory(run, spec), policy.cached_features()
    given = Assignment(
        first=3,
        makers=[lane, lane],
        seeds=[SEED, SEED + 1],
        spare=[SEED + 2],
        batch=2,
        processes=0,
        timeout=None,
        restarts=0,
        groups=1,
        stack=1,
        signals=(*build.signals(run), POLICY_VERSION),
        caches=True,
        algorithm=run.algorithm,
        plugins=[],
        device="cpu",
        mixed_precision="no",
        noise=7,
    )
    worker = RolloutWorker()
    assert worker.begin(given, 5, weights.whole(policy)).pid > 0
    first = worker.collect(5, None, None)
    assert (first.decisions, first.version) == (4, 5)
    assert set(first.rows["features"]) == set(features)
    with torch.no_grad():
        for each in policy.trainable_parameters():
            each.add_(0.1)
    second = worker.collect(6, weights.trained(policy), None)
    assert second.rows["signals"][POLICY_VERSION.name].tolist() == [6] * len(second.order)
    for name, value in worker._policy.state_dict().items():
        assert torch.equal(value, policy.state_dict()[name]), name
    worker.close()


def test_a_run_that_goes_on_stays_spread_or_together(line: list[str]) -> None:
    spread, together = config.load([*line, "distributed=ray", "distributed.actors=1"]), config.load(line)
    fixed.check(fixed.told(spread), config.load([*line, "distributed=ray", "distributed.actors=2"]), "it")
    for before, now in ((spread, together), (together, spread)):
        with pytest.raises(ConfigError, match="distributed: it was saved with"):
            fixed.check(fixed.told(before), now, "it")


def test_a_key_of_the_actors_that_is_none_is_named(line: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"distributed\.actor: unknown key .* did you mean 'actors'"):
        config.load([*line, "distributed=ray", "distributed.actor=2"])
    with pytest.raises(ConfigError, match=r"at most one for each of train\.num_envs=2 environments, got 3"):
        config.load([*line, "distributed=ray", "distributed.actors=3"])
    assert config.load([*line, "distributed=ray", "distributed=null"]).distributed is None


class InThisProcess:
    """A fleet of real rollout workers, which work when they are waited for."""

    def __init__(self, *_: Any) -> None:
        self.workers: dict[int, RolloutWorker] = {}
        self.waiting = deque[tuple[int, Any]]()
        self.weights: tuple[Any, ...] = ()
        self.whole: Any = None

    def publish(self, version: int, trained: Any = None, whole: Any = None) -> None:
        self.weights, self.whole = (version, trained, whole), whole or self.whole

    def begin(self, number: int, given: Assignment) -> None:
        self.workers[number] = RolloutWorker()
        self.waiting.append((number, self.workers[number].begin(given, self.weights[0], self.whole)))

    def ask(self, number: int) -> None:
        self.waiting.append((number, self.weights))

    def receive(self, number: int | None, patience: float) -> Arrival | None:
        at = next((i for i, (each, _) in enumerate(self.waiting) if number in (None, each)), None)
        if at is None:
            return None
        chosen, what = self.waiting[at]
        del self.waiting[at]
        return Arrival(chosen, what if isinstance(what, Greeting) else self.workers[chosen].collect(*what))

    def describe(self) -> str:
        return "in this process"

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


def test_a_run_learns_from_workers_and_goes_on_from_its_checkpoint(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in = types.ModuleType("ray_fleet")
    stand_in.RayFleet = InThisProcess  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vla_rl.rollout.ray_fleet", stand_in)
    spread = [
        "distributed=ray",
        "distributed.batch=4",
        "distributed.max_lag=20",
        "train.num_envs=4",
        "train.save_every=0",
    ]
    first = train.train(config.load([*line, *spread, "train.steps=160"]))
    assert "environments: 4 on 2 actors in this process" in capsys.readouterr().out
    second = train.train(config.load([f"run_dir={tmp_path}/run", "resume=true", "train.steps=240"]))
    assert "environments 0, 1, 2, 3 begin new episodes: it was elsewhere" in capsys.readouterr().out
    told = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert 0 < max(line.get("actors/lag_max", 0) for line in told) <= 20
    assert [line["step"] for line in told] == sorted(line["step"] for line in told)
    before, after = (ReplayBuffer.of_saved(each / "training_state" / "replay") for each in (first, second))
    ids = before.sampleable_ids()
    old, new = before.recorded(ids), after.recorded(ids)
    for name, column in old.items():
        assert np.array_equal(column, new[name]), name
    versions = [each.recorded(each.sampleable_ids())[POLICY_VERSION.name] for each in (before, after)]
    assert 0 < versions[0].max() < versions[1].max()
    assert int(second.name) >= 240 > len(ids) >= 140
