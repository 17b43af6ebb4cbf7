"""A damaged file of a replay costs the rows that it held, and no other one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed_writer import PART, PLACES, save, started
from replay_streams import Stream, batched

from vla_rl.buffer_pool import Recycler
from vla_rl.replay import ReplayBuffer
from vla_rl.replay.columns import FRAME
from vla_rl.runtime import checkpoint
from vla_rl.runtime.generations import DamagedError


def flip(path: Path) -> None:
    """Alter one bit where the file lies, so that every link to it is altered."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with open(path, "r+b") as file:
        file.write(content)


def played(run: Path, seed: int, place: str) -> Stream:
    """A stream of which two generations are saved, which share files."""
    stream = started(seed, run / "replay" if place == "disk" else None)
    for step in (20, 40, 45):
        stream.run(12)
        save(run, step, stream.buffer)
    return stream


def alive(buffer: ReplayBuffer) -> np.ndarray:
    return buffer._ring.ids_at(np.flatnonzero(buffer._ring.alive(buffer._ring.ids_at(np.arange(buffer.capacity)))))


def content(buffer: ReplayBuffer, ids: np.ndarray) -> dict[str, Any]:
    """All that rows hold; the frames of each row alone, as its stack may reach back to rows that are gone."""
    at = ids % buffer.capacity
    columns, memory = buffer._ring.columns, buffer._memory
    frames = {key: store.take(columns[FRAME + key][at], Recycler()) for key, store in memory._stores.items()}
    texts = memory._instructions.texts(columns["instruction"][at])
    rows = {name: columns[name][at].copy() for name in ("tokens", "reward", "terminated", "state", "prev", "episode")}
    return {"rows": rows, "frames": frames, "texts": texts}


def assert_same_rows(one: ReplayBuffer, other: ReplayBuffer, ids: np.ndarray) -> None:
    here, there = content(one, ids), content(other, ids)
    assert here["texts"] == there["texts"]
    for part in ("rows", "frames"):
        for name, values in here[part].items():
            np.testing.assert_array_equal(values, there[part][name], err_msg=name)


def held_by(folder: Path, name: str, twin: ReplayBuffer) -> np.ndarray:
    """The rows that stand or fall with a file of a saved replay, by the twin that was loaded from it whole."""
    state, ids = json.loads((folder / "replay.json").read_text()), alive(twin)
    for first, last, segment in state["rows"]:
        if segment == name:
            return ids[(ids >= first) & (ids < last)]
    for key, names in state["frames"].items():
        if name in names:
            store = twin._memory._stores[key]
            number = next(n for n, shard in store.shards.items() if shard.name == name)
            frames = twin._ring.columns[FRAME + key][ids % twin.capacity]
            return ids[store._shard[frames] == number]
    raise AssertionError(name)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_costs_the_rows_that_it_held(tmp_path: Path, seed: int, place: str) -> None:
    run = tmp_path / "run"
    played(run, seed, place)
    older, newest = (run / "checkpoints" / name / PART for name in ("000040", "000045"))
    twin = started(seed, tmp_path / "twin" if place == "disk" else None).buffer
    twin.load(newest)
    shared = [path for path in newest.iterdir() if path.name in os.listdir(older) and path.name != "replay.json"]
    assert len(shared) >= 3
    costs = []
    for path in shared:
        held = held_by(newest, path.name, twin)
        flip(path)
        with pytest.warns(UserWarning, match=rf"{path.name}.*no checkpoint is whole, so that of step 45 goes on"):
            generation = checkpoint.latest(run)
        assert generation is not None
        assert generation.damaged == (path,)
        buffer = started(seed, tmp_path / path.name if place == "disk" else None).buffer
        with pytest.warns(UserWarning, match=rf"replay: {len(held)} of {len(twin)} rows are lost"):
            buffer.load(newest, damaged=generation.damaged)
        assert buffer.statistics() == ({"train/lost_rows": float(len(held))} if len(held) else {})
        assert sorted(alive(buffer)) == sorted(set(alive(twin)) - set(held))
        assert_same_rows(buffer, twin, alive(buffer))
        assert set(buffer.sampleable_ids()) <= set(twin.sampleable_ids())
        known = {tuple(episode) for episode in twin.episodes()}
        assert {tuple(episode) for episode in buffer.episodes()} <= known, "an episode with a gap is no whole one"
        flip(path)  # as it was
        costs.append(len(held))
    assert max(costs) < len(twin)
    assert sum(costs) > 0


def test_what_was_salvaged_goes_on_and_is_saved_whole(tmp_path: Path) -> None:
    run = tmp_path / "run"
    stream = played(run, 0, "ram")
    newest = run / "checkpoints" / "000045" / PART
    first = json.loads((newest / "replay.json").read_text())["rows"][0]
    flip(newest / first[2])
    buffer = started(0, None).buffer
    with pytest.warns(UserWarning, match="rows are lost"):
        buffer.load(newest, damaged=(newest / first[2],))
    buffer.interrupt()
    for _ in range(60):  # past the end of the ring
        buffer.add(**batched([stream.new_row(False) | {"truncated": False, "terminated": False} for _ in range(3)]))
    save(run, 46, buffer)
    checkpoint.verify(run / "checkpoints" / "000046")
    again = started(0, None).buffer
    again.load(run / "checkpoints" / "000046" / PART)
    assert sorted(alive(again)) == sorted(alive(buffer))
    assert_same_rows(again, buffer, alive(buffer))


def test_without_its_state_a_replay_begins_empty(tmp_path: Path) -> None:
    run = tmp_path / "run"
    played(run, 0, "ram")
    for name in ("000040", "000045"):
        flip(run / "checkpoints" / name / PART / "replay.json")
    with pytest.warns(UserWarning, match=r"replay\.json: altered.*of step 45 goes on without"):
        generation = checkpoint.latest(run)
    assert generation is not None
    buffer = started(0, None).buffer
    with pytest.warns(UserWarning, match=r"replay\.json: damaged; replay begins empty"):
        buffer.load(generation.folder / PART, damaged=generation.damaged)
    assert len(buffer) == 0


def test_damage_elsewhere_is_no_loss_of_rows_but_of_the_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    checkpoint.save(run, 1, {"training_state": lambda folder: (folder / "critic").write_bytes(b"weights")})
    flip(run / "checkpoints" / "000001" / "training_state" / "critic")
    with pytest.raises(DamagedError, match="critic"):
        checkpoint.latest(run)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_altered_while_it_is_in_use_is_not_linked(tmp_path: Path, seed: int, place: str) -> None:
    run = tmp_path / "run"
    stream = played(run, seed, place)
    newest = run / "checkpoints" / "000045" / PART
    twin = started(seed, tmp_path / "twin" if place == "disk" else None).buffer
    twin.load(newest)
    state = json.loads((newest / "replay.json").read_text())
    spoilt = [newest / state["rows"][0][2], newest / next(iter(state["frames"].values()))[0]]
    for path in spoilt:
        flip(path)
    before = len(stream.buffer)
    with pytest.warns(UserWarning, match="altered since it was written"):
        save(run, 50, stream.buffer)
    made = run / "checkpoints" / "000050"
    checkpoint.verify(made)
    linked = {path.stat().st_ino for path in (made / PART).iterdir()}
    assert not linked & {path.stat().st_ino for path in spoilt}, "if of the same name, then written anew, from memory"
    if place == "ram":
        assert len(stream.buffer) == before, "memory holds all frames, too"
    again = started(seed, tmp_path / "again" if place == "disk" else None).buffer
    again.load(made / PART)
    assert sorted(alive(again)) == sorted(alive(stream.buffer))
    assert len(again) > 0
    assert_same_rows(again, twin, alive(again))
    ids = again.sampleable_ids()
    assert len(again.transitions(ids)) == len(ids)


def test_a_file_that_was_only_touched_is_linked(tmp_path: Path) -> None:
    run = tmp_path / "run"
    stream = played(run, 0, "ram")
    newest = run / "checkpoints" / "000045" / PART
    name = json.loads((newest / "replay.json").read_text())["rows"][0][2]
    os.utime(newest / name, (1, 1))
    save(run, 50, stream.buffer)
    assert (run / "checkpoints" / "000050" / PART / name).samefile(newest / name)
