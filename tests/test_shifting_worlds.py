"""A world that shifts in mid-run, through a whole run: who trains, resumes or evaluates meets it as it is by then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_rl import config, envs
from vla_rl.data.record import record
from vla_rl.envs.vector import VectorEnvs
from vla_rl.eval import evaluate_checkpoint
from vla_rl.evaluation.outcome import EvalResult
from vla_rl.specs import HELD_OUT_SEEDS
from vla_rl.train import train

SHIFT = "env.kwargs={horizon: 6, randomise: [{from_episode: %d, camera: 1.0, seed: 3}]}"


@pytest.fixture
def trained(quick: list[str], tmp_path: Path) -> Path:
    """The checkpoint of a run whose world shifted after its second episode; its demonstrations are from before."""
    words = [*quick, SHIFT % 2, f"run_dir={tmp_path}/run"]
    record(config.load(words, command="demos"))
    return train(config.load(words))


def evaluated(checkpoint: Path, folder: Path, *words: str) -> EvalResult:
    words = (f"eval.checkpoint={checkpoint}", f"run_dir={folder}", "eval.episodes=2", "eval.videos=1", *words)
    return evaluate_checkpoint(config.load(words, command="eval"))


def first_picture(from_episode: int) -> np.ndarray:
    """What the first held-out episode begins with, in a world that is new."""
    words = ["experiment=smoke", SHIFT % from_episode]
    env = envs.factory(config.load(words), "rgb_array")()
    env.reset(seed=HELD_OUT_SEEDS.start)
    picture = np.asarray(env.render())
    env.close()
    return picture


def shows(result: EvalResult, picture: np.ndarray) -> bool:
    """Whether a film begins with this picture, but for what is drawn on it."""
    frame = next(each.frames[0] for each in result.outcomes if each.frames)
    return bool((frame == picture).all(-1).mean() > 0.9)


def test_an_evaluation_sees_the_world_that_training_had_reached(trained: Path, tmp_path: Path) -> None:
    before, after = first_picture(10), first_picture(0)
    assert (before == after).all(-1).mean() < 0.5
    assert shows(evaluated(trained, tmp_path / "eval"), after)
    said = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    assert [row["stage"] for row in said["per_episode"]] == [0, 0]
    assert said["about"]["after_episodes"] >= 2
    early = evaluated(trained, tmp_path / "early", "eval.after_episodes=1")
    assert shows(early, before)
    assert [outcome.stage for outcome in early.outcomes] == [None, None]


def test_an_evaluation_of_a_runs_folder_shows_how_the_run_learned(trained: Path, tmp_path: Path) -> None:
    evaluated(trained.parent.parent, tmp_path / "eval")
    assert "Success while learning" in (tmp_path / "eval" / "report.html").read_text("utf-8")


def test_a_resumed_run_goes_on_in_the_stage_that_it_had_reached(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos: list[dict[str, Any]] = []
    begin = VectorEnvs.reset

    def noted(self: VectorEnvs, *seeds: Any) -> Any:
        steps = begin(self, *seeds)
        infos.extend(steps.infos)
        return steps

    monkeypatch.setattr(VectorEnvs, "reset", noted)
    train(config.load([f"run_dir={tmp_path}/run", "resume=true", "train.steps=96"]))
    assert infos
    assert [info.get("stage") for info in infos] == [0] * len(infos)
