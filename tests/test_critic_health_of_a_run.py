"""A run some of whose lanes act by the critic: what it logs, says and keeps, and what its evaluation tells of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rl import cli, config, resume, train_state
from vla_rl.runtime import checkpoint
from vla_rl.specs import ACTING, BY_CRITIC, GREEDY

LANES = ["algorithm.critic_share=0.25", "algorithm.greedy_share=0.25", "algorithm.critic_samples=4", "train.num_envs=4"]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_tells_how_acting_by_the_critic_does(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, plugins = tmp_path / "run", "plugins=[tests.fakes]"
    assert cli.main(["train", *line, plugins, *LANES, "train.steps=200", "train.eval_every=100"]) == 0
    told = [text for text in capsys.readouterr().out.splitlines() if "acting by the critic is" in text]
    assert len(told) >= 2, "at a validation, and at the end"
    assert told[-1].startswith(f"step {lines(folder)[-1]['step']}: acting by the critic is")
    found = [one for one in lines(folder) if "critic/gain" in one]
    assert found[-1]["critic/gain_low"] < found[-1]["critic/gain"] < found[-1]["critic/gain_high"]
    assert found[-1]["critic/episodes"] > found[0]["critic/episodes"]
    assert "q/orders_states" in set().union(*lines(folder))

    run = config.load([f"run_dir={folder}", "resume=true", plugins])
    state = train_state.make(run, folder)
    try:
        resume.restore(folder, state)
        counts = state.acting.counts
        assert counts[0, BY_CRITIC, 1] == found[-1]["critic/episodes"], "worked out anew from what was saved"
        assert {GREEDY, BY_CRITIC} < set(state.replay.sample(200, np.random.default_rng(0)).extra[ACTING].tolist())
    finally:
        state.close()

    measured = tmp_path / "eval"
    assert cli.main(["eval", f"eval.checkpoint={folder}", plugins, f"run_dir={measured}", "eval.videos=0"]) == 0
    sentence = told[-1].partition(": ")[2]
    assert f"in training {sentence}" in capsys.readouterr().out
    assert json.loads((measured / "eval_info.json").read_text())["about"]["critic"] == sentence
    assert sentence in (measured / "report.html").read_text().replace("&#x27;", "'")


def test_a_run_that_finds_its_critic_harmful_falls_back_and_goes_on_so(line: list[str], tmp_path: Path) -> None:
    run = config.load([*line, *LANES, "algorithm.fallback=true", "plugins=[tests.fakes]"])
    folder = tmp_path / "run"
    state = train_state.make(run, folder)
    try:
        for way, won in ((BY_CRITIC, False), (GREEDY, True)):
            state.acting._latest.extend([(0, way, won)] * 20)
        found = train_state.check_critic(state)
        assert found["critic/gain"] == -100
        assert state.critic_health.endswith("eval.best_of=0; meanwhile the actor clones what succeeded")
        assert state.algorithm.falls_back
        last = resume.save(folder, 8, state)
    finally:
        state.close()
    resumed = train_state.make(run, folder)
    try:
        resume.restore(folder, resumed)
        assert resumed.algorithm.falls_back
        assert resumed.critic_health == state.critic_health
        assert train_state.check_critic(resumed) == found, "what is known is as it was"
        assert resumed.algorithm.falls_back
        resumed.acting._latest.clear()
        assert not train_state.check_critic(resumed)
        assert resumed.algorithm.falls_back, "nothing is known, so that all stays as it was"
        resumed.acting._latest.extend([(0, BY_CRITIC, True), (0, GREEDY, True)] * 20)
        train_state.check_critic(resumed)
        assert not resumed.algorithm.falls_back
    finally:
        resumed.close()
    assert checkpoint.load_entry(last / "training_state", "critic_health").startswith("acting by the critic is worse")


def test_a_run_without_such_lanes_says_nothing(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins, folder = "plugins=[tests.fakes]", tmp_path / "run"
    assert cli.main(["train", *line, plugins, "train.eval_every=32"]) == 0
    assert not {"critic/gain", "critic/episodes"} & set().union(*lines(folder))
    assert cli.main(["eval", f"eval.checkpoint={folder}", plugins, f"run_dir={tmp_path}/eval", "eval.videos=0"]) == 0
    assert "acting by the critic" not in capsys.readouterr().out
    assert "critic" not in json.loads((tmp_path / "eval" / "eval_info.json").read_text())["about"]
