"""The race of replay buffers: its stream tells wrong next observations from right ones, and the sums are right."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from vla_rl import cli
from vla_rl.bench.replay import command, stream
from vla_rl.bench.replay.command import Heat
from vla_rl.bench.replay.record import Scene
from vla_rl.bench.replay.stream import Stream


def made(stack: int) -> Stream:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 5, 4, 3), np.uint8)
    return Stream({"front": pictures, "side": pictures[::-1]}, np.array([0, 5, 6]), stack, marked=True)


def test_episodes_end_once_and_are_cut() -> None:
    steps = made(1).take(200)
    for step, following in itertools.pairwise(steps):
        assert following.begins == step.last
        if not step.last:
            assert np.array_equal(step.next_stacked["side"], following.stacked["side"])
    assert any(step.terminated for step in steps)
    assert any(step.truncated for step in steps)
    assert not any(step.terminated and step.truncated for step in steps)


@pytest.mark.parametrize("stack", [1, 3])
def test_wrong_next_observations_are_seen(stack: int) -> None:
    steps = made(stack).take(60)
    seen = {name: np.stack([step.stacked[name] for step in steps]) for name in ("front", "side")}
    right = {name: np.stack([step.next_stacked[name] for step in steps]) for name in ("front", "side")}
    assert not stream.wrong(seen, right).any()
    # What a buffer has that takes the next place for the next observation.
    naive = {name: np.roll(pictures, -1, axis=0) for name, pictures in seen.items()}
    ends = np.array([step.last for step in steps])
    assert np.array_equal(stream.wrong(seen, naive)[:-1], ends[:-1])
    one_camera = right | {"side": naive["side"].astype(np.float32)}
    assert np.array_equal(stream.wrong(seen, one_camera)[:-1], ends[:-1])


def test_ours_runs_the_whole_course(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ROUNDS", 1)
    monkeypatch.setattr(command, "ROOT", Path("/nowhere"))
    scene = Scene(("env=gui_click_shape",), 20)
    found = command.measure({"screen": Heat(scene, capacity=200, stack=3, batches=2, roof=True)}, ["sb3"])
    json.dumps(found)
    assert found["wrong_next"] == 0
    assert found["sample_share_of_roof"] > 0
    assert found["bytes_ratio_raw"] is found["sample_ratio_best_rival"] is None
    assert "bench_rivals.sh" in found["not_raced"]["sb3"]
    for each in found["heats"]["screen"].values():
        assert {"bytes", "adds_per_s", "samples_per_s", "p99_ms", "save_s", "restore_s"} <= each.keys()
    assert "| ours coded |" in command.to_text(found)


def test_ratios_are_the_worst_of_all_heats_and_of_rivals_that_are_right() -> None:
    def each(size: float, rate: float, wrong: float | None) -> dict:
        return {"bytes": size, "samples_per_s": rate, "wrong_next": wrong, "share_of_roof": 0.7}

    scene = Scene((), 1)
    tables = {
        "a": {"ours raw": each(10, 90, 0), "ours coded": each(2, 1, 0), "x": each(5, 30, 0.1), "y": each(20, 60, 0)},
        "b": {
            "ours raw": each(10, 80, None),
            "ours coded": each(4, 1, None),
            "x": each(8, 5, None),
            "y": each(12, 8, None),
        },
    }
    found = command.summary({"a": Heat(scene, 1, roof=True), "b": Heat(scene, 1)}, tables)
    assert found == {
        "bytes_ratio_raw": 1.2,
        "bytes_ratio_coded": 2.0,
        "sample_ratio_best_rival": 1.5,
        "sample_share_of_roof": 0.7,
        "wrong_next": 0,
    }


def test_a_rival_that_does_not_exist_is_a_users_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "replay", "cprb"]) == cli.USER_ERROR
    assert "did you mean 'cpprb'?" in capsys.readouterr().err
