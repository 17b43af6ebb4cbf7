"""What environments and their workers do wrong costs the episodes concerned, and no others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests import fakes
from vla_rl.envs.supervision import LostError
from vla_rl.envs.vector import Steps, VectorEnvs
from vla_rl.registry import ConfigError
from vla_rl.rollout.collector import Collector
from vla_rl.runtime.logger import Log
from vla_rl.specs import STATE

LANES = 4
STILL = np.zeros((LANES, 1), np.float32)
SPARE, FAR = 900, 7


@contextmanager
def made(faults: dict[int, tuple[int, str]], workers: int, restarts: int = 3, **further: Any) -> Iterator[VectorEnvs]:
    envs = VectorEnvs(
        partial(fakes.Faulty, faults), LANES, workers, restarts=restarts, spare_seeds=itertools.count(SPARE), **further
    )
    with closing(envs):
        yield envs


def beginning(seed: int) -> float:
    """Where the line of a seed begins."""
    return float(fakes.Line().reset(seed=seed)[0][STATE][0])


def places(steps: Steps) -> list[float]:
    return steps.observation[STATE][:, 0].tolist()


def invalid(steps: Steps) -> list[bool]:
    return [bool(info.get("invalid")) for info in steps.infos]


@pytest.mark.parametrize(
    ("how", "workers", "lost", "said"),
    [
        ("raise", 0, [1], "OSError: the line broke"),
        ("raise", 2, [1], "OSError: the line broke"),
        ("exit", 1, [1], "SystemExit: the line has had enough"),
        ("nan", 2, [1], r"observation.state: entry [0] is nan"),
        ("kill", 2, [1, 3], "environments 1, 3 ended: SIGKILL"),
        ("hang", 2, [1, 3], "environments 1, 3 has not answered `step 1, 3` for"),
    ],
)
def test_a_fault_costs_the_episodes_concerned_and_no_others(
    how: str, workers: int, lost: list[int], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with made({11: (1, how)}, workers, timeout=2.0 if how == "hang" else None) as envs:
        begun = places(envs.reset(seed=10))
        assert invalid(envs.step(STILL)) == [False] * LANES
        broken = envs.step(STILL)
        assert invalid(broken) == broken.truncated.tolist() == [lane in lost for lane in range(LANES)]
        assert not broken.terminated.any()
        assert all(said in broken.infos[lane]["error"] for lane in lost)
        told = capfd.readouterr().err
        assert said in told
        assert all(f"environment {lane}, the episode of seed {10 + lane}" in told for lane in lost)
        anew = envs.step(STILL)
        assert invalid(anew) == [False] * LANES
        spare = dict(zip(lost, itertools.count(SPARE), strict=False))
        for lane, place in enumerate(places(anew)):
            assert place == (beginning(spare[lane]) if lane in lost else begun[lane])
        assert invalid(envs.step(STILL)) == [False] * LANES


@pytest.mark.parametrize("workers", [0, 1])
def test_a_reset_that_fails_is_an_episode_that_is_lost(workers: int) -> None:
    with made({12: (-1, "raise")}, workers) as envs:
        envs.reset(seed=0)
        envs.send_seeds([11, 12], [1, 2])
        begun = envs.receive()
        assert invalid(begun) == [False, True]
        assert not begun.truncated.any()
        broken = envs.step(STILL)
        assert (invalid(broken), broken.truncated.tolist()) == ([False, False, True, False],) * 2
        assert invalid(envs.step(STILL)) == [False] * LANES


def test_what_other_groups_wait_for_is_lost_with_their_worker_and_what_was_over_is_not() -> None:
    with made({}, workers=2) as envs:
        assert min(map(abs, places(envs.reset(seed=FAR)))) > 0.1
        for _ in range(12):
            last = envs.step(STILL)
        assert last.truncated.all(), "by the time limit"
        assert invalid(last) == [False] * LANES
        envs.send_seeds([20, 21], [0, 1])
        envs.receive()
        workers = psutil.Process().children()
        for worker in workers:
            worker.suspend()
        envs.send(STILL[:2], slice(0, 2))  # under way, lost; the others begin an episode, and have none to lose
        envs.send(STILL[2:], slice(2, 4))
        for worker in workers:
            worker.kill()
        first, second = envs.receive(), envs.receive()
        assert (invalid(first), first.truncated.tolist()) == ([True, True],) * 2
        assert invalid(second) == [True, True], "their reset was lost"
        assert invalid(envs.step(STILL)) == [False, False, True, True]
        assert invalid(envs.step(STILL)) == [False] * LANES


@pytest.mark.parametrize(("how", "workers"), [("raise", 0), ("kill", 2)])
def test_what_goes_wrong_again_and_again_is_an_error_that_says_how_often(how: str, workers: int) -> None:
    always = {seed: (0, how) for seed in (1, *range(SPARE, SPARE + 50))}
    with made(always, workers, restarts=2) as envs:
        envs.reset(seed=0)
        with pytest.raises(LostError, match=r"the line broke|SIGKILL") as caught:  # noqa: PT012
            for _ in range(20):
                envs.step(STILL)
        assert "3 times in a row, of which train.restarts=2 are borne: environment 1" in str(caught.value)


def test_what_goes_wrong_now_and_then_is_borne_without_end() -> None:
    every_other = {1: (0, "raise"), -1: (0, "raise")}  # an episode that follows one that went to its end
    with made(every_other, workers=0, restarts=1) as envs:
        envs.reset(seed=0)
        lost = sum(sum(invalid(envs.step(STILL))) for _ in range(400))
    assert lost > 5


def test_a_fault_of_the_settings_is_not_tried_again() -> None:
    class Refused(fakes.Line):
        def reset(self, **_: Any) -> Any:
            raise ConfigError("env.kwargs.page: no such page")

    with closing(VectorEnvs(Refused, 2, restarts=5)) as envs, pytest.raises(ConfigError, match="no such page"):
        envs.reset(seed=0)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_replay_holds_no_part_of_an_episode_that_was_lost(groups: int, workers: int, tmp_path: Path) -> None:
    from tests.rollout.test_collector import act, remembering

    faults = {100_001: (2, "raise"), 100_002: (3, "kill" if workers else "raise"), SPARE: (-1, "raise")}

    replay = remembering(2000, LANES)
    envs = VectorEnvs(
        partial(fakes.in_five_bins, "fake/Faulty-v0", faults=faults),
        LANES,
        workers,
        restarts=3,
        spare_seeds=itertools.count(SPARE),
    )
    log = Log(tmp_path, None, 1, "", show=False)
    with closing(Collector(envs, replay, 100_000, groups)) as collector:
        for _ in range(60 * groups):
            collector.step(act, log)
        collector.settle(log)
        assert collector.invalid_episodes == (4 if workers else 3)
    episodes = list(replay.episodes())
    assert collector.episodes > 10
    assert abs(len(episodes) - collector.episodes) <= LANES, "but for those under way, or just over"
    for ids in episodes:
        walked = np.diff(replay.observations(ids)[STATE].ravel())
        assert np.abs(walked).max(initial=0) <= 0.25 + 1e-6, "two episodes are mixed"
