"""Runs on Ray: real actors and nodes, which are killed. `bash scripts/install_suite.sh ray --test` runs these."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from vla_rl import config, train
from vla_rl.registry import ConfigError
from vla_rl.replay import ReplayBuffer
from vla_rl.runtime import checkpoint
from vla_rl.runtime.callbacks import Callback, Moment
from vla_rl.specs import POLICY_VERSION

ray = pytest.importorskip("ray", reason="no ray: bash scripts/install_suite.sh ray")
pytestmark = pytest.mark.ray
STORE, MAX_LAG = 100 * 2**20, 40
"""Bytes of each node's object store, and of the weights' age in updates, the most."""
SPREAD = [
    "plugins=[tests.fakes]",
    "distributed=ray",
    f"distributed.object_store={STORE}",
    "distributed.dashboard=false",
    "distributed.batch=4",
    f"distributed.max_lag={MAX_LAG}",
    "train.num_envs=4",
    "train.save_every=0",
    "train.steps=1000000",
    "train.minutes=20",
]


class Killing(Callback):
    """Kills once both actors act, and ends the run when both do so again. named: the actors' names before."""

    def __init__(self, kill: Callable[[], object]) -> None:
        self.kill, self.named = kill, list[str]()

    def on_step(self, now: Moment) -> bool | None:
        told = last_line(now.folder)
        if told.get("actors/ready") != 2 or now.step < 100:
            return None
        if not self.named:
            self.named = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]
            self.kill()
        return False if told["actors/lost"] else None


class Until(Callback):
    """Ends the run at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, now: Moment) -> bool | None:
        return False if now.step >= self.step else None


def actors() -> list[psutil.Process]:
    """The processes of this machine's actors."""
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if "ray::RolloutWorker" in " ".join(each.info["cmdline"] or ())]


def last_line(folder: Path) -> dict[str, Any]:
    """What the log told last of the actors."""
    file = folder / "metrics.jsonl"
    lines = [line for line in file.read_text().splitlines() if "actors/lost" in line] if file.exists() else []
    return json.loads(lines[-1]) if lines else {}


def replayed(folder: Path) -> dict[str, np.ndarray]:
    """What the last checkpoint's replay holds."""
    last = checkpoint.last(folder)
    assert last is not None
    replay = ReplayBuffer.of_saved(last / "training_state" / "replay")
    return replay.recorded(replay.sampleable_ids())


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins and ends without one, whose processes stand back behind nobody."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    yield
    ray.shutdown()


def test_a_run_starts_a_cluster_of_its_own_outlives_an_actor_and_goes_on(
    line: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, before = tmp_path / "run", {each.pid for each in actors()}
    killing = Killing(lambda: next(each for each in actors() if each.pid not in before).send_signal(signal.SIGKILL))
    train.train(config.load([*line, *SPREAD]), callbacks=[killing])
    assert sorted(killing.named) == ["run/actor-0", "run/actor-1"]
    assert not ray.is_initialized()
    assert {each.pid for each in actors()} <= before
    told, first = last_line(folder), replayed(folder)
    assert told["actors/lost"] == 1
    assert told["train/invalid_episodes"] <= 2, "no more than it was at"
    assert told["actors/lag_max"] <= MAX_LAG
    assert len(np.unique(first[POLICY_VERSION.name])) > 5
    assert " is gone: " in capfd.readouterr().err

    more = Until(int(told["step"]) + 100)
    train.train(config.load([f"run_dir={folder}", "resume=true", "plugins=[tests.fakes]"]), callbacks=[more])
    assert "environments 0, 1, 2, 3 begin new episodes" in capfd.readouterr().out
    again, count = replayed(folder), len(first["reward"])
    assert len(again["reward"]) > count
    assert np.array_equal(again["reward"][:count], first["reward"])
    assert again[POLICY_VERSION.name].max() > first[POLICY_VERSION.name].max()


def test_a_node_that_dies_costs_no_more_than_the_episodes_that_were_on_it(line: list[str], tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        other = cluster.add_node(num_cpus=1, object_store_memory=STORE)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, logging_level="WARNING")

        def kill() -> None:
            assert ray.available_resources()["CPU"] == 1, "an actor on each, and room for another on the first"
            cluster.remove_node(other, allow_graceful=False)

        train.train(config.load([*line, *SPREAD]), callbacks=[Killing(kill)])
        told = last_line(tmp_path / "run")
        assert told["actors/lost"] == 1
        assert told["train/invalid_episodes"] <= 2
        assert told["actors/lag_max"] <= MAX_LAG
        assert ray.is_initialized(), "a cluster that was there before stays"
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_what_a_copy_of_the_policy_cannot_do_is_refused(line: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.critic_share: 0\.5: asks the critic at every decision"):
        train.train(config.load([*line, *SPREAD, "algorithm.critic_share=0.5"]))
    assert not ray.is_initialized()
