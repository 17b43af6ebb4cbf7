"""A replay that is killed at any write comes back as it was at its last checkpoint, and goes on from there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from killed_writer import PART, PLACES, SEEDS, save, started
from replay_streams import Stream, assert_same

from tests import launch
from vla_rl.replay import ReplayBuffer
from vla_rl.runtime import checkpoint

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """<place>/<seed>: runs whose processes were killed at a random write."""
    root = tmp_path_factory.mktemp("killed")
    launch.run(str(HERE / "killed_writer.py"), str(root))
    return root


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_replay_comes_back_as_saved_and_goes_on(killed: Path, tmp_path: Path, seed: int, place: str) -> None:
    run = killed / place / str(seed)
    generation = checkpoint.latest(run)
    assert generation is not None
    # The stream again, up to the step of the checkpoint: what the replay must hold.
    stream = started(seed, tmp_path / "again" if place == "disk" else None)
    stream.run(generation.step)
    buffer = started(seed, run / "replay" if place == "disk" else None).buffer
    buffer.load(generation.folder / PART)
    assert buffer.sampleable_ids().tolist() == stream.buffer.sampleable_ids().tolist()
    assert_holds(buffer, stream)
    if place == "disk":
        state = json.loads((generation.folder / PART / "replay.json").read_text())
        saved = {name for names in state["frames"].values() for name in names}
        assert {path.name for path in (run / "replay").iterdir()} <= saved

    stream.buffer = buffer
    stream.run(10)
    save(run, generation.step + 10, buffer)
    newest = checkpoint.latest(run)
    assert newest is not None
    assert newest.step == generation.step + 10
    twin = started(seed, tmp_path / "twin" if place == "disk" else None).buffer
    twin.load(newest.folder / PART)
    assert twin.sampleable_ids().tolist() == buffer.sampleable_ids().tolist()
    assert_holds(twin, stream)


def assert_holds(buffer: ReplayBuffer, stream: Stream) -> None:
    ids = buffer.sampleable_ids()
    assert len(ids)
    assert_same(buffer.transitions(ids), [stream.naive.transition(i) for i in ids.tolist()])
    assert np.isin(ids, [i for i in range(len(stream.naive.rows)) if stream.naive.alive(i)]).all()
