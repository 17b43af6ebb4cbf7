"""A discount that is worked out from the demonstrations' length, once for the whole life of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes import LINE
from vla_rl import build, cli, config, resume, train_state
from vla_rl.config import RunConfig
from vla_rl.data import demos
from vla_rl.data.record import record
from vla_rl.registry import ConfigError
from vla_rl.rollout.actor import saved_algorithm
from vla_rl.runtime import checkpoint

CHUNKS = "action_space={type: chunk, horizon: 2, inner: {type: binned, bins: 5}}"


@pytest.fixture
def auto(quick: list[str], tmp_path: Path) -> list[str]:
    """The overrides of a run on the line with demonstrations, and with a discount to be worked out."""
    fake = [f"env.id={LINE}", "env.sensors=null", "env.actions=[x]", "plugins=[tests.fakes]", "tracker=null"]
    return [*quick, *fake, "demos.episodes=5", "demos.noise=0.5", "train.workers=0", "algorithm.gamma=auto"]


def loaded(given: list[str], *more: str, command: str = "train") -> RunConfig:
    return config.load([*given, *more], command=command)


def lengths(run: RunConfig) -> list[int]:
    return [len(episode) for episode in demos.load(run.demos.folder)]


@pytest.mark.parametrize(("ways", "stride"), [([], 1), ([CHUNKS], 2)])
def test_it_is_that_of_the_median_demonstration_in_decisions(auto: list[str], ways: list[str], stride: int) -> None:
    run = loaded(auto, *ways)
    record(run)
    found = build.with_gamma(run)
    decisions = float(np.median([-(-length // stride) for length in lengths(run)]))
    assert len(set(lengths(run))) > 1
    assert found.algorithm.gamma == pytest.approx(1 - 1 / max(decisions, 2), abs=1e-6)
    assert build.with_gamma(found) == found, "a number stays as it is"


def test_of_several_tasks_the_longest_counts(auto: list[str], tmp_path: Path) -> None:
    several = ["env=[reach,push]", "demos.episodes=1", "demos.noise=0", "algorithm.gamma=auto"]
    own = [text for text in auto if text.startswith(("experiment", "policy", "demos.path", "device"))]
    run = loaded([*own, *several])
    record(run)
    found = build.with_gamma(run)
    longest = max(length for one in run.each() for length in lengths(one))
    assert found.algorithm.gamma == pytest.approx(1 - 1 / longest, abs=1e-6)


def test_the_number_goes_with_the_run(auto: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert cli.main(["demos", *auto]) == 0
    assert cli.main(["sft", *auto, f"run_dir={tmp_path}/sft"]) == 0
    capsys.readouterr()
    start = f"train.checkpoint={tmp_path}/sft/checkpoints/last"
    assert cli.main(["train", *auto, "train.groups=1", start, f"run_dir={folder}"]) == 0
    number = build.with_gamma(loaded(auto)).algorithm.gamma
    assert (
        f"algorithm.gamma: {number:g}; a demonstration takes {1 / (1 - number):.3g} decisions"
        in capsys.readouterr().out
    )

    kept = loaded([f"run_dir={folder}", "resume=true", "plugins=[tests.fakes]"], "demos.episodes=0")
    assert kept.algorithm.gamma == number, "what it was worked out from may be gone by then"
    settings, _ = saved_algorithm(checkpoint.locate(folder).policy, ["tests.fakes"]) or (None, {})
    assert settings is not None
    assert settings.needs.gamma == number
    measured = loaded([f"eval.checkpoint={folder}", "plugins=[tests.fakes]"], command="eval")
    assert measured.algorithm.gamma == number
    state = train_state.make(kept, folder)
    try:
        assert resume.restore(folder, state) > 0
        assert state.replay.gamma == state.demos.gamma == number
    finally:
        state.close()


def test_without_demonstrations_there_is_nothing_to_work_it_out_from(
    auto: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"algorithm.gamma: auto is worked out from .* such as 0.97"):
        build.with_gamma(loaded(auto, "demos.episodes=0"))
    with pytest.raises(ConfigError, match=r"algorithm.gamma: .*'auto' \(got 'atuo'\)"):
        loaded(auto, "algorithm.gamma=atuo")
    assert cli.main(["train", *auto, "demos.episodes=0", f"run_dir={tmp_path}/run"]) == 2
    assert "auto is worked out from the length of demonstrations" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
