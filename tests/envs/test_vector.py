"""Environments in worker processes show what they would show here, and what goes wrong there is told here."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest

from tests import fakes
from vla_rl.envs.vector import Steps, VectorEnvs
from vla_rl.registry import ConfigError
from vla_rl.specs import STATE, TASK

ROOT = Path(__file__).resolve().parents[2]


class Moody(fakes.Line):
    """A line whose instruction is its place, with a tool; breaks down, or ends its process, at a given step."""

    def __init__(self, breaks: int = -1, dies: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.breaks, self.dies = breaks, dies
        tool = gymnasium.spaces.Discrete(2)
        self.action_space: Any = gymnasium.spaces.Dict({"walk": self.action_space, "tool": tool})

    def step(self, action: Any) -> Any:
        if self.steps == self.breaks:
            raise ConfigError(f"out of order at {self.place:.1f}")
        if self.steps == self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        observation, *outcome, info = super().step(action["walk"])
        return observation, *outcome, info | {"tool": int(action["tool"])}

    def _observe(self) -> dict[str, Any]:
        return super()._observe() | {TASK: f"at {self.place:.3f}"}


def actions(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"walk": rng.uniform(-1, 1, (count, 1)).astype(np.float32), "tool": rng.integers(0, 2, count)}


def same(one: Steps, other: Steps) -> None:
    assert one.observation.keys() == other.observation.keys()
    for key, value in one.observation.items():
        assert np.array_equal(value, other.observation[key]), key
    for name in ("reward", "terminated", "truncated"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.infos == other.infos


@pytest.mark.parametrize("workers", [1, 2, 3, 9])
def test_any_number_of_workers_shows_the_same(workers: int) -> None:
    here, there = VectorEnvs(Moody, 5), VectorEnvs(Moody, 5, workers)
    try:
        same(here.reset(seed=3), there.reset(seed=3))
        rng, seen = np.random.default_rng(0), []
        for _ in range(40):
            given = actions(5, rng)
            seen.append(here.step(given))
            same(seen[-1], there.step(given))
        assert any(steps.terminated.any() for steps in seen)
        assert any(steps.truncated.any() for steps in seen)
        assert {info["tool"] for steps in seen for info in steps.infos if info} == {0, 1}
    finally:
        here.close()
        there.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_each_lane_can_be_given_a_seed_of_its_own(workers: int) -> None:
    envs = VectorEnvs(Moody, 3, workers)
    try:
        consecutive, own = envs.reset(seed=3), envs.reset(seed=[5, 4, 2**32 - 1])
        assert own.observation[STATE][1] == consecutive.observation[STATE][1]
        assert own.observation[STATE][0] == consecutive.observation[STATE][2]
        with pytest.raises(ValueError, match="2 seeds for 3 environments"):
            envs.reset(seed=[1, 2])
    finally:
        envs.close()


def test_it_is_gymnasiums_vector_with_a_reset_in_the_next_step() -> None:
    ours = VectorEnvs(fakes.Line, 3, workers=2)
    theirs = gymnasium.vector.SyncVectorEnv([fakes.Line] * 3, autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP)
    try:
        ours.reset(seed=5)
        theirs.reset(seed=5)
        rng = np.random.default_rng(1)
        for _ in range(30):
            given = rng.uniform(-1, 1, (3, 1)).astype(np.float32)
            mine, (observation, reward, terminated, truncated, _) = ours.step(given), theirs.step(given)
            for key in mine.observation:
                assert np.array_equal(mine.observation[key], observation[key]), key
            assert np.array_equal(mine.reward, reward)
            assert np.array_equal(mine.terminated, terminated)
            assert np.array_equal(mine.truncated, truncated)
    finally:
        ours.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_some_are_stepped_while_others_are_acted_for(workers: int) -> None:
    together, apart = VectorEnvs(Moody, 6), VectorEnvs(Moody, 6, workers)
    halves = [slice(0, 2), slice(2, 6)]
    try:
        together.reset(seed=1)
        apart.reset(seed=1)
        rng = np.random.default_rng(2)
        given = [actions(6, rng) for _ in range(20)]
        for lanes in halves:
            apart.send({key: value[lanes] for key, value in given[0].items()}, lanes)
        for now, then in zip(given, [*given[1:], None], strict=True):
            expected = together.step(now)
            for lanes in halves:
                got = apart.receive()
                if then is not None:
                    apart.send({key: value[lanes] for key, value in then.items()}, lanes)
                assert np.array_equal(got.observation[STATE], expected.observation[STATE][lanes])
                assert got.observation[TASK] == expected.observation[TASK][lanes]
                assert got.infos == expected.infos[lanes]
    finally:
        together.close()
        apart.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_an_environment_raises_is_raised_here(workers: int) -> None:
    envs = VectorEnvs(partial(Moody, breaks=2), 3, workers)
    envs.reset(seed=0)
    still = {"walk": np.zeros((3, 1), np.float32), "tool": np.zeros(3, np.int64)}
    envs.step(still)
    envs.step(still)
    with pytest.raises(ConfigError, match="out of order at") as raised:
        envs.step(still)
    said = "\n".join(raised.value.__notes__)
    assert "in environment 0, step 2 of the episode of seed 0, with" in said
    assert ("in a worker process" in said) == bool(workers)


def test_a_worker_that_is_killed_is_named() -> None:
    envs = VectorEnvs(partial(Moody, dies=1), 4, workers=2)
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    envs.step(actions(4, rng))
    with pytest.raises(RuntimeError, match="environments 0, 2 ended: SIGKILL"):
        envs.step(actions(4, rng))
    assert not _workers()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_run_leaves_its_workers_at_work(number: signal.Signals) -> None:
    envs = VectorEnvs(Moody, 2, workers=1)
    try:
        envs.reset(seed=0)
        (worker,) = _workers()
        worker.send_signal(number)
        for _ in range(3):
            assert len(envs.step(actions(2, np.random.default_rng(0))).infos) == 2
    finally:
        envs.close()
    assert not worker.is_running()


class Chatty(fakes.Line):
    """The line, whose info holds what cannot travel, and an array that it changes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.count = np.zeros(2, np.int64)

    def step(self, action: Any) -> Any:
        *rest, info = super().step(action)
        self.count += 1
        more = {"lock": threading.Lock(), "all": [(lambda: 1), 2.5], "count": self.count, "sum": np.int64(7)}
        return *rest, info | more


@pytest.mark.parametrize("workers", [0, 2])
def test_of_an_info_that_cannot_be_pickled_what_is_plain_arrives(workers: int) -> None:
    envs = VectorEnvs(Chatty, 2, workers)
    try:
        envs.reset(seed=0)
        still = np.zeros((2, 1), np.float32)
        first, second = envs.step(still).infos[0], envs.step(still).infos[0]
        assert first["is_success"] is False
        assert (first["lock"], first["all"]) == ("<_thread.lock>", ["<builtins.function>", 2.5])
        assert (first["count"].tolist(), second["count"].tolist(), first["sum"]) == ([1, 1], [2, 2], 7)
    finally:
        envs.close()


@pytest.mark.parametrize("name", ["random", "numpy"])
def test_a_file_of_the_working_folder_stands_in_for_no_module_of_a_worker(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('the file of the working folder')")
    code = (
        "import fakes; from vla_rl.envs.vector import VectorEnvs\n"
        "envs = VectorEnvs(fakes.Line, 1, 1); print(len(envs.reset(seed=0).infos)); envs.close()"
    )
    places = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | places, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "1\n", done.stderr


class Hanging(Moody):
    """Hangs at a given step."""

    def step(self, action: Any) -> Any:
        if self.steps == 1:
            threading.Event().wait()
        return super().step(action)


def test_a_worker_that_hangs_is_ended_and_what_it_was_at_is_named() -> None:
    envs = VectorEnvs(Hanging, 4, workers=2, timeout=3.0)
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    envs.step(actions(4, rng))
    with pytest.raises(TimeoutError, match=r"environments 0, 2 has not answered `step 0, 2` for 3.* s.*step_timeout=3"):
        envs.step(actions(4, rng))
    assert not _workers()


def leaving(how: str) -> gymnasium.Env:
    if how == "exit":
        raise SystemExit("no display")
    os._exit(3)


@pytest.mark.parametrize(("how", "message"), [("exit", "SystemExit: no display"), ("die", "exit code 3, in `make 0`")])
def test_a_worker_that_ends_while_it_makes_environments_says_why(how: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        VectorEnvs(partial(leaving, how), 1, workers=1)
    assert not _workers()


def test_what_cannot_be_sent_to_a_worker_leaves_none_behind() -> None:
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        VectorEnvs(lambda: Moody(), 1, workers=1)
    assert not _workers()


def test_a_worker_that_cannot_be_started_names_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(RuntimeError, match=r"environments 0 can be started with '/nowhere/python'.*train\.workers=0"):
        VectorEnvs(Moody, 1, workers=1)


def test_an_environment_that_cannot_be_made_is_a_clear_error_and_leaves_nothing() -> None:
    with pytest.raises(TypeError, match="wdith"):
        VectorEnvs(partial(fakes.Line, wdith=3), 2, workers=2)
    gc.collect()
    assert not _workers()


def test_workers_end_with_their_trainer() -> None:
    code = (
        "import os, signal, fakes; from vla_rl.envs.vector import VectorEnvs\n"
        "envs = VectorEnvs(fakes.Line, 2, 2)\n"  # a script without `if __name__ == '__main__'` works
        "print(*[host._process.pid for host in envs._hosts], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    places = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | places, stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    workers = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_workers_never_load_torch() -> None:
    code = "import sys, vla_rl.envs.worker, vla_rl.envs; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def _workers() -> list[psutil.Process]:
    """The processes of environments that this one has started, as far as they run."""
    running = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in running if "vla_rl.envs.worker" in " ".join(child.cmdline())]
