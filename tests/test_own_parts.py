"""One file of a user's own adds a part of every kind, by config alone; a run of them is saved and goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import own_parts
from vla_rl import config, resume, train
from vla_rl.data.record import record
from vla_rl.eval import evaluate_checkpoint
from vla_rl.replay import ReplayBuffer
from vla_rl.runtime import checkpoint
from vla_rl.sft import sft

OWN = [
    "plugins=[tests.own_parts]",
    "env.id=own/Track-v0",
    "env.kwargs={}",
    "env.sensors=[{type: 'tests.own_parts:Strip'}, {type: 'tests.own_parts:Odometer'}, {type: instruction}]",
    "env.actions=[stride]",
    "action_space={type: 'tests.own_parts:Strides'}",
    "algorithm={type: 'tests.own_parts:ThriftyCloning', batch_size: 8}",
    "replay.signals=[{name: fuel, summed: true}]",
    "replay.on_episode=[{type: 'tests.own_parts:Frugality'}]",
    "train.workers=0",
    "tracker=null",
]


def test_a_file_of_ones_own_adds_a_part_of_every_kind(
    random_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = f"policy.backbone={{type: pretrained, source: '{random_backbone}', image_size: 64}}"
    common = ["experiment=smoke", *OWN, backbone, f"demos.path={tmp_path}/demos", "demos.noise=0", "device=cpu"]
    record(config.load(common, command="demos"))
    start = sft(config.load([*common, f"run_dir={tmp_path}/sft"], command="sft"))
    folder = tmp_path / "run"
    last = train.train(config.load([*common, f"train.checkpoint={start}", f"run_dir={folder}", "train.steps=80"]))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    learnt = [line for line in lines if "thrift/loss" in line]
    assert learnt
    assert all(line["thrift/fuel"] > 0 for line in learnt)
    assert all(0 < line["thrift/share"] <= 1 for line in learnt)
    before = checkpoint.load_state(last / "training_state")
    assert before["settings"]["type"] == "tests.own_parts:ThriftyCloning"
    assert before["algorithm"]["updates"] > 0
    saved = ReplayBuffer.of_saved(last / "training_state" / "replay")
    whole = list(saved.episodes())
    assert whole
    for ids in whole:
        rows = saved.recorded(ids[:-1])
        stride = rows["tokens"][:, 0].astype(np.float32) - 2
        assert np.array_equal(rows["fuel"], stride**2)
        assert ((rows["sureness"] > 0) & (rows["sureness"] <= 1)).all()

    states = []
    restored = resume.restore
    monkeypatch.setattr(train, "restore", lambda run, state: (restored(run, state), states.append(state))[0])
    go_on = ["resume=true", f"run_dir={folder}", "plugins=[tests.own_parts]", "train.steps=112"]
    further = train.train(config.load(go_on))
    assert int(further.name) >= 112
    after = checkpoint.load_state(further / "training_state")
    assert after["algorithm"]["updates"] > before["algorithm"]["updates"]
    (state,) = states
    assert isinstance(state.algorithm, own_parts.Thrift)
    for ids in whole:  # what the listener tells was worked out anew
        found = state.replay.transitions(ids[:-1]).extra
        fuel = saved.recorded(ids[:-1])["fuel"]
        assert found["share"] == pytest.approx(fuel / max(fuel.sum(), 1e-6))

    given = ["plugins=[tests.own_parts]", f"eval.checkpoint={folder}", f"run_dir={tmp_path}/eval", "eval.videos=0"]
    assert len(evaluate_checkpoint(config.load(given, command="eval")).valid) == 2
