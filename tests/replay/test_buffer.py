"""The buffer's contract: what it refuses, what it costs, how batches are mixed and saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_streams import CAMERAS, Stream, batched, make_stream
from safetensors.numpy import load_file, save_file

from vla_rl.replay import Batch, NothingToSampleError, ReplayBuffer, sample_mixed
from vla_rl.specs import IMAGES, STATE, TASK


def row(stream: Stream, **changes: Any) -> dict[str, Any]:
    """The arguments of one good row in lane 0, but for `changes`."""
    arguments = batched([stream.new_row(final=False)]) | {"lanes": [0], "terminated": np.array([False])}
    arguments |= {"truncated": np.array([False])}
    observation = arguments["observation"] | changes.pop("observation", {})
    return arguments | {"observation": observation} | changes


def make_plain(capacity: int = 100, rows: int = 10, demo: bool = False, **kwargs: Any) -> ReplayBuffer:
    """A buffer of episodes of four rows and a final one, with reward 1 at their ends."""
    buffer = ReplayBuffer(capacity, {"front": (4, 4, 3)}, 2, 1, **kwargs)
    for t in range(rows):
        fill_row(buffer, t, demo)
    return buffer


def fill_row(buffer: ReplayBuffer, t: int, demo: bool = False) -> None:
    """Row t of that stream; its state and token are t."""
    buffer.add(
        {IMAGES + "front": np.full((1, 4, 4, 3), t, np.uint8), STATE: np.full((1, 2), t), TASK: ["go"]},
        tokens=np.array([[t]]),
        reward=np.array([t % 5 == 3]),
        terminated=np.array([t % 5 == 3]),
        truncated=np.array([False]),
        final=np.array([t % 5 == 4]),
        demo=demo,
    )


def seen(name: str, value: Any) -> dict[str, Any]:
    return {"observation": {name: value}}


FRONT = IMAGES + "front"
REFUSED = {
    "image of another size": (seen(FRONT, np.zeros((1, 9, 9, 3), np.uint8)), r"front: .*\[1, 5, 4, 3\].*9, 9, 3\]"),
    "image of floats": (seen(FRONT, np.zeros((1, 5, 4, 3))), r"images\.front: .*uint8.*float64"),
    "state too long": (seen(STATE, np.zeros((1, 5), np.float32)), r"observation\.state: .*\[1, 4\].*\[1, 5\]"),
    "state of text": (seen(STATE, np.full((1, 4), "a")), r"observation\.state: .*float32.*<U1"),
    "NaN in the state": (seen(STATE, np.array([[0, np.nan, 0, 0]])), r"observation\.state: .*NaN.*\[0\]"),
    "state beyond float32": (seen(STATE, np.full((1, 4), 1e300)), r"observation\.state: .*infinity"),
    "NaN reward": ({"reward": np.array([np.nan])}, "reward: .*NaN"),
    "reward of another shape": ({"reward": np.zeros((1, 1))}, r"reward: expected shape \[1\], got \[1, 1\]"),
    "token too large": ({"tokens": np.array([[0, 300, 0]])}, r"tokens: .*\[0, 300\), got 300"),
    "negative label": ({"labels": np.array([[0, 0, -1]])}, r"labels: .*got -1"),
    "float tokens": ({"tokens": np.zeros((1, 3))}, "tokens: .*int64.*float64"),
    "too few slots": ({"tokens": np.zeros((1, 2), int)}, r"tokens: .*\[1, 3\].*\[1, 2\]"),
    "terminated of ints": ({"terminated": np.array([1])}, "terminated: .*bool.*int64"),
    "no instruction": (seen(TASK, [None]), r"task: expected 1 str"),
    "too many instructions": (seen(TASK, ["a", "b"]), r"task: expected 1 str, got 2"),
    "no features": ({"features": None}, r"features\.places: missing"),
    "infinite feature": ({"features": {"places": np.full((1, 2, 2), np.inf)}}, r"features\.places: .*infinity"),
    "final out of order": ({"final": np.array([True])}, "final: expected False for lane 0, got True"),
    "no such lane": ({"lanes": [2]}, r"lanes: .*\[0, 2\), got \[2\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_and_stores_nothing(case: str) -> None:
    changes, message = REFUSED[case]
    stream = make_stream()
    with pytest.raises(ValueError, match=message):
        stream.buffer.add(**row(stream, **changes))
    assert stream.buffer.added == 0
    stream.buffer.add(**row(stream))
    assert stream.buffer.added == 1


def test_refuses_a_row_after_the_end_that_is_not_final() -> None:
    stream = make_stream()
    stream.buffer.add(**row(stream, truncated=np.array([True])))
    with pytest.raises(ValueError, match="final: expected True for lane 0, got False"):
        stream.buffer.add(**row(stream))


def test_refuses_the_same_lane_twice() -> None:
    stream = make_stream()
    with pytest.raises(ValueError, match="distinct lanes"):
        stream.buffer.add(**batched([stream.new_row(False), stream.new_row(False)]), lanes=[1, 1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"capacity": 3, "lanes": 2}, "at least 4"),
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": 1.1}, "gamma"),
        ({"n_step": 0}, "n_step"),
        ({"images": {"front": (64, 64)}}, r"images\.front: .*\[64, 64\]"),
        ({"features": {"x": ((1,), "O")}}, r"features\.x"),
    ],
)
def test_refuses_bad_settings(settings: dict[str, Any], message: str) -> None:
    good = {"capacity": 10, "images": {"front": (4, 4, 3)}, "state_dim": 1, "slots": 1}
    with pytest.raises(ValueError, match=message):
        ReplayBuffer(**(good | settings))


def test_discount_is_zero_after_termination_only() -> None:
    stream = make_stream(lanes=2, n_step=5, gamma=0.5)
    ends = {"terminated": np.array([True, False]), "truncated": np.array([False, True])}
    for final in (False, True):
        rows = batched([stream.new_row(final), stream.new_row(final)])
        stream.buffer.add(**(rows | (ends if not final else {})))
    batch = stream.buffer.transitions(np.array([0, 1]))
    assert batch.discount.tolist() == [0.0, 0.5]


def test_an_interrupted_episode_bootstraps_where_it_broke_and_has_no_return() -> None:
    buffer = make_plain(rows=3, gamma=0.5, n_step=3)
    buffer.interrupt()
    fill_row(buffer, 0)
    fill_row(buffer, 1)
    batch = buffer.transitions(buffer.sampleable_ids())
    assert batch.index.tolist() == [0, 1, 3]
    assert batch.next_observation[STATE][:, 0].tolist() == [2, 2, 1]
    assert batch.discount.tolist() == [0.25, 0.5, 0.5]
    assert np.isnan(batch.returns).all()


def test_overhead_over_raw_frames() -> None:
    buffer = ReplayBuffer(
        1000, {"front": (64, 64, 3)}, state_dim=9, slots=3, lanes=8, features={"z": ((32,), "float32")}
    )
    plan = buffer.plan()
    assert plan["frame_bytes"] == 64 * 64 * 3
    assert plan["overhead"] <= 1.02
    assert plan["bytes"] == 1000 * plan["row_bytes"] == pytest.approx(buffer.nbytes, rel=0.01)
    assert plan["feature_bytes"] == 128
    assert str(plan["row_bytes"]) in buffer.describe()


def test_instructions_are_forgotten_with_their_rows(tmp_path: Path) -> None:
    buffer = ReplayBuffer(8, {}, 1, 1)
    for t in range(1000):
        observation = {STATE: np.zeros((1, 1)), TASK: [f"task {t}"]}
        no = np.array([False])
        buffer.add(observation, np.zeros((1, 1), int), np.zeros(1), no, no, no)
    batch = buffer.transitions(buffer.sampleable_ids())
    assert batch.observation[TASK] == [f"task {t}" for t in range(992, 999)]
    buffer.save(tmp_path)
    assert not any(b"task 991" in path.read_bytes() for path in tmp_path.iterdir())


def test_batches_that_are_held_are_never_overwritten() -> None:
    buffer, rng = make_plain(rows=50), np.random.default_rng(0)
    held = [buffer.sample(16, rng).observation[IMAGES + "front"][2:4] for _ in range(40)]
    copies = [images.copy() for images in held]
    for _ in range(40):
        buffer.sample(16, rng)
    assert all(np.array_equal(images, copy) for images, copy in zip(held, copies, strict=True))


def test_a_batch_without_images_keeps_the_rest() -> None:
    buffer = make_plain()
    batch = buffer.sample(8, np.random.default_rng(0), images=False)
    assert set(batch.observation) == {STATE, TASK}
    assert batch.tokens[:, 0].tolist() == batch.observation[STATE][:, 0].tolist()


@pytest.mark.parametrize("images", [True, False])
def test_a_batch_without_next_observations_keeps_the_rest(images: bool) -> None:
    buffer = make_plain()
    whole, brief = (
        buffer.sample(8, np.random.default_rng(0), images=images, following=following) for following in (True, False)
    )
    assert brief.next_observation == brief.next_features == {}
    for name in ("tokens", "labels", "reward", "discount", "returns", "demo", "weight", "index"):
        assert np.array_equal(getattr(brief, name), getattr(whole, name), equal_nan=name == "returns"), name
    for key, value in whole.observation.items():
        assert np.array_equal(brief.observation[key], value), key
    if images:
        assert np.array_equal(brief.shown, whole.shown[:, :1])
    joined = Batch.concatenate([brief, brief.rows(slice(0, 3))])
    assert len(joined) == 11
    assert joined.next_observation == {}


def test_batch_rows_and_concatenate() -> None:
    buffer = make_plain()
    ids = buffer.sampleable_ids()
    batch = buffer.transitions(ids)
    joined = Batch.concatenate([batch.rows(slice(0, 3)), batch.rows(np.arange(3, len(batch)))])
    assert joined.index.tolist() == ids.tolist()
    assert joined.observation[TASK] == batch.observation[TASK]
    assert np.array_equal(joined.next_observation[IMAGES + "front"], batch.next_observation[IMAGES + "front"])
    assert len(batch.rows(np.zeros(len(batch), bool))) == 0
    with pytest.raises(ValueError, match="keys"):
        Batch.concatenate([batch, buffer.transitions(ids, images=False)])


@pytest.mark.parametrize(("share", "demos"), [(0.5, 4), (0.25, 2), (0.0, 0), (1.0, 8)])
def test_mixed_batches_hold_the_share_of_demonstrations(share: float, demos: int) -> None:
    batch = sample_mixed(make_plain(), make_plain(demo=True), 8, share, np.random.default_rng(0))
    assert batch.demo.tolist() == [True] * demos + [False] * (8 - demos)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_one_side_stands_in_for_the_other(share: float) -> None:
    rng = np.random.default_rng(0)
    full, empty = make_plain(), make_plain(rows=0)
    unfinished = make_plain(rows=3)
    assert len(sample_mixed(full, empty, 8, share, rng)) == 8
    assert len(sample_mixed(empty, full, 8, share, rng)) == 8
    finished = sample_mixed(unfinished, full, 8, share, rng, finished_only=True)
    assert not np.isnan(finished.returns).any()
    with pytest.raises(NothingToSampleError, match="neither"):
        sample_mixed(empty, empty, 8, share, rng)


def test_refuses_a_bad_share() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        sample_mixed(make_plain(), make_plain(), 8, 1.5, np.random.default_rng(0))


def test_only_live_rows_are_written(tmp_path: Path) -> None:
    make_plain(capacity=10_000, rows=10).save(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10_000


def test_a_save_writes_what_is_new_and_links_the_rest(tmp_path: Path) -> None:
    buffer = make_plain(capacity=100, rows=40)
    buffer.save(tmp_path / "1")
    for t in range(40, 50):
        fill_row(buffer, t)
    buffer.save(tmp_path / "2", previous=[tmp_path / "1"])
    first, second = ({path.name for path in (tmp_path / name).iterdir()} for name in "12")
    assert first <= second
    assert len(second - first) == 2  # ten rows, and their frames
    assert all((tmp_path / "1" / name).samefile(tmp_path / "2" / name) for name in first - {"replay.json"})
    assert_loads_like(buffer, tmp_path / "2")

    # Without the former folder, everything is written again.
    buffer.save(tmp_path / "3", previous=[tmp_path / "gone"])
    assert {path.name for path in (tmp_path / "3").iterdir()} == second
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "3").iterdir())


def assert_loads_like(buffer: ReplayBuffer, folder: Path) -> None:
    twin = make_plain(capacity=buffer.capacity, rows=0)
    twin.load(folder)
    ids = buffer.sampleable_ids()
    assert twin.sampleable_ids().tolist() == ids.tolist()
    images = (each.transitions(ids).observation[FRONT] for each in (buffer, twin))
    assert np.array_equal(*images)


@pytest.mark.parametrize("damage", ["truncated", "longer", "missing", "another shape", "no archive"])
@pytest.mark.parametrize("part", ["rows", "frames"])
def test_load_names_the_damaged_file_and_changes_nothing(tmp_path: Path, part: str, damage: str) -> None:
    make_plain(rows=10).save(tmp_path)
    state = json.loads((tmp_path / "replay.json").read_text())
    path = tmp_path / (state["rows"][0][2] if part == "rows" else state["frames"][FRONT][0])
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "longer":
        path.write_bytes(content + b"\0")
    elif damage == "missing":
        path.unlink()
    elif damage == "another shape":
        meta = json.dumps({"codec": "raw", "shape": "4,4,3", "texts": "[]"})
        save_file({name: np.zeros(9) for name in load_file(path)}, path, {"meta": meta})
    else:
        path.write_bytes(b"\xff" * len(content))
    buffer = make_plain(rows=5)
    with pytest.raises(ValueError, match=path.name):
        buffer.load(tmp_path)
    assert len(buffer) == 5
    assert buffer.transitions(np.array([3])).reward.tolist() == [1.0]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}', '{"version": 99, "settings": {}}'])
def test_load_refuses_a_broken_state(tmp_path: Path, content: str) -> None:
    make_plain().save(tmp_path)
    (tmp_path / "replay.json").write_text(content)
    with pytest.raises(ValueError, match=r"replay\.json"):
        make_plain().load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"capacity": 50}, "capacity 100.*capacity 50"),
        ({"gamma": 0.5}, "gamma"),
        ({"stack": 2}, "stack"),
        ({"choices": 9}, "tokens"),
    ],
)
def test_load_refuses_other_settings(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    make_plain().save(tmp_path)
    with pytest.raises(ValueError, match=message):
        make_plain(rows=0, **settings).load(tmp_path)


def test_cameras_are_named_or_keyed() -> None:
    keyed = ReplayBuffer(10, {IMAGES + name: shape for name, shape in CAMERAS.items()}, 1, 1)
    named = ReplayBuffer(10, CAMERAS, 1, 1)
    assert keyed.plan() == named.plan()


def test_equal_frames_are_stored_once() -> None:
    buffer = make_plain(rows=0)
    for _ in range(3):
        for t in range(10):
            fill_row(buffer, t)
    assert buffer.frames == {FRONT: 10}


def limited(tmp_path: Path, **limits: int) -> ReplayBuffer:
    """A buffer whose frames differ from each other in every pixel."""
    buffer = ReplayBuffer(1000, {"front": (16, 16, 3)}, 1, 1, folder=tmp_path / "shards", **limits)
    rng = np.random.default_rng(0)
    no = np.array([False])
    for t in range(900):
        image = rng.integers(0, 256, (1, 16, 16, 3), np.uint8)
        seen = {FRONT: image, STATE: np.full((1, 1), t), TASK: [f"task {t // 20}"]}
        end = t % 20 == 18
        buffer.add(seen, np.zeros((1, 1), int), np.zeros(1), no | end, no, no | (t % 20 == 19))
    return buffer


def test_bytes_in_ram_keep_to_their_limit_by_whole_episodes(tmp_path: Path) -> None:
    buffer = limited(tmp_path, ram_bytes=400_000)
    assert buffer.coded_bytes > 0
    assert buffer.nbytes <= buffer.plan()["bytes"] + 8192 <= 400_000 + 8192  # tables of constant size
    assert 300 < len(buffer) < 600
    assert len(buffer) % 20 == 0
    assert buffer.frames == {FRONT: len(buffer)}
    assert buffer.sampleable_ids().tolist() == [i for i in range(900 - len(buffer), 900) if i % 20 != 19]


def test_bytes_on_disk_keep_to_their_limit_and_are_those_of_the_files(tmp_path: Path) -> None:
    buffer = limited(tmp_path, ram_bytes=200_000, disk_bytes=250_000)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "shards").iterdir())
    assert 200_000 < buffer.coded_bytes <= 250_000
    assert on_disk == pytest.approx(buffer.coded_bytes, rel=0.02)
    assert buffer.nbytes <= 200_000 + 8192
    assert "on disk" in buffer.describe()


def test_a_new_buffer_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    limits = {"ram_bytes": 200_000, "disk_bytes": 250_000}
    buffer = limited(tmp_path, **limits)
    buffer.save(tmp_path / "saved")
    shards = tmp_path / "shards"
    names = {path.name for path in shards.iterdir()}
    (shards / ".part-torn").write_bytes(b"half")
    (shards / "written-after-the-save").write_bytes(b"whole")
    again = ReplayBuffer(1000, {"front": (16, 16, 3)}, 1, 1, folder=shards, **limits)
    assert not list(shards.iterdir())
    again.load(tmp_path / "saved")
    assert {path.name for path in shards.iterdir()} == names
    ids = buffer.sampleable_ids()
    assert np.array_equal(buffer.transitions(ids).observation[FRONT], again.transitions(ids).observation[FRONT])


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"ram_bytes": 1000}, r"ram_bytes: 1000 .* which need \d+ at least"),
        ({"disk_bytes": 1000}, "disk_bytes: without ram_bytes"),
        ({"ram_bytes": 200_000, "disk_bytes": 1000}, "folder"),
    ],
)
def test_refuses_limits_that_make_no_sense(limits: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReplayBuffer(1000, {"front": (16, 16, 3)}, 1, 1, **limits)
