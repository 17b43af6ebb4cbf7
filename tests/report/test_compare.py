"""Runs beside one another: how they are grouped, and whether bands and differences are those that scipy finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.report.compared import write_evaluation, write_run
from tests.report.test_report import Seen
from vla_rl import cli
from vla_rl.compare import compare
from vla_rl.report import comparison
from vla_rl.report.bootstrap import difference_interval, mean_interval, ratio_interval
from vla_rl.report.groups import BY_EPISODES, BY_RUNS, curve, difference, grouped, success
from vla_rl.report.player import Budget
from vla_rl.report.runs import read_runs

CURVES = {  # three seeds of two settings, in percent of 40 episodes: what validations found
    0.9: [[30, 45, 60, 72.5], [35, 40, 52.5, 65], [32.5, 50, 70, 80]],
    0.95: [[30, 55, 80, 92.5], [27.5, 60, 77.5, 85], [35, 57.5, 85, 97.5]],
}


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Their folders."""
    return [
        write_run(tmp_path / f"{gamma}_{seed}", rates, f"seed={seed}", f"algorithm.gamma={gamma}")
        for gamma, of_gamma in CURVES.items()
        for seed, rates in enumerate(of_gamma)
    ]


def scipys(*samples: list[float], difference: bool = False) -> tuple[float, float]:
    """Its 95% percentile bootstrap interval of a mean, or of the second mean less the first."""
    statistic = (lambda a, b: np.mean(b, -1) - np.mean(a, -1)) if difference else (lambda a, axis: np.mean(a, axis))
    found = stats.bootstrap(
        samples,
        statistic,
        vectorized=not difference,
        method="percentile",
        n_resamples=9999,
        rng=np.random.default_rng(7),
    ).confidence_interval
    return float(found.low), float(found.high)


def test_bands_and_the_interval_of_the_difference_are_those_of_scipys_bootstrap(runs: list[Path]) -> None:
    first, second = grouped(read_runs(runs))
    for group, rates in zip((first, second), CURVES.values(), strict=True):
        band = curve(group, "eval/pc_success")
        assert band is not None
        assert band.steps.tolist() == [0, 500, 1000, 1500]
        np.testing.assert_allclose(band.mean, np.mean(rates, 0))
        for at, of_step in enumerate(np.transpose(rates)):
            # The means of three runs drawn anew take ten values, so that both find the very same ends.
            np.testing.assert_allclose((band.low[at], band.high[at]), scipys(list(of_step)), atol=1e-9)
    ends = [[of_run[-1] for of_run in rates] for rates in CURVES.values()]
    found = difference(first, second)
    assert found is not None
    assert (found.by, found.runs) == (BY_RUNS, 3)
    assert found.value == pytest.approx(np.mean(ends[1]) - np.mean(ends[0]))
    np.testing.assert_allclose((found.low, found.high), scipys(*ends, difference=True), atol=0.9)


@pytest.mark.parametrize("runs_each", [2, 5, 20])
def test_intervals_agree_with_scipys_on_continuous_values(runs_each: int) -> None:
    rng = np.random.default_rng(runs_each)
    first, second = rng.normal(0, 10, runs_each), rng.normal(5, 20, runs_each)
    ours, width = mean_interval(first), np.ptp(first)
    np.testing.assert_allclose((ours.low, ours.high), scipys(list(first)), atol=0.02 * width)
    both = difference_interval(first, second)
    np.testing.assert_allclose(
        (both.low, both.high), scipys(list(first), list(second), difference=True), atol=0.02 * (width + np.ptp(second))
    )


def test_clusters_of_one_row_are_runs() -> None:
    rows = np.random.default_rng(0).normal(size=7)
    for one, other in zip(ratio_interval(rows, np.ones(7)), mean_interval(rows), strict=True):
        assert one == pytest.approx(other)


def test_one_run_has_a_band_without_width_and_a_difference_over_its_episodes(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(gamma), [30.0, 60.0], f"algorithm.gamma={gamma}") for gamma in (0.9, 0.95)]
    first, second = grouped(read_runs(folders))
    band = curve(first, "eval/pc_success")
    assert band is not None
    assert (band.low == band.high).all()
    for found in (success(first), difference(first, second)):
        assert found is not None
        assert found.by == BY_EPISODES
        assert found.low < found.value < found.high


def test_runs_are_grouped_by_all_settings_but_seed_folder_and_tracker(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", [10.0], "seed=1"),
        write_run(tmp_path / "b", [20.0], "seed=2", "tracker=null"),
        write_run(tmp_path / "c", [30.0], "seed=1", "replay.n_step=7"),
        write_run(tmp_path / "d", [40.0], "seed=1", "algorithm=iql"),
    ]
    groups = grouped(read_runs(folders))
    assert [group.seeds for group in groups] == [[1, 2], [1], [1]]
    assert "n_step=7" in groups[1].name
    assert "algorithm=iql" in groups[2].name


def test_a_checkpoint_that_each_seed_began_from_makes_no_group_but_its_settings_do(tmp_path: Path) -> None:
    starts = [write_run(tmp_path / f"start_{seed}", [], f"seed={seed}") for seed in (1, 2)]
    longer = write_run(tmp_path / "longer", [], "seed=3", "sft.steps=999")
    tuned = [
        write_run(tmp_path / f"tuned_{seed}", [50.0], f"seed={seed}", f"train.checkpoint={start}")
        for seed, start in enumerate([*starts, longer], 1)
    ]
    for seed in (1, 2):  # whose folders were recorded alike
        (tmp_path / f"demos_{seed}").mkdir()
        meta = {"env": "vla_rl/Reach-v0", "noise": 0.5, "seed": 10 * seed, "episodes": [{"seed": 10 * seed}]}
        (tmp_path / f"demos_{seed}" / "meta.json").write_text(json.dumps(meta))
        given = [f"seed={seed}", f"demos.path={tmp_path}/demos_{seed}", f"demos.seed={10 * seed}"]
        write_run(tmp_path / f"tuned_{seed}", [50.0], *given, f"train.checkpoint={starts[seed - 1]}")
    write_run(tmp_path / "tuned_3", [50.0], "seed=3", f"demos.path={tmp_path}/demos_1", f"train.checkpoint={longer}")
    groups = grouped(read_runs(tuned))
    assert [group.seeds for group in groups] == [[1, 2], [3]]
    assert "steps=999" in groups[1].name
    gone = write_run(tmp_path / "orphan", [50.0], "seed=4", f"train.checkpoint={tmp_path / 'gone'}")
    assert [group.seeds for group in grouped(read_runs([*tuned, gone]))] == [[1, 2], [3], [4]]


def test_curves_reach_as_far_as_all_runs_of_a_group_and_join_their_lines(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", [0.0, 40.0, 80.0], "seed=1", every=100),
        write_run(tmp_path / "b", [0.0, 90.0], "seed=2", every=150),
    ]
    (group,) = grouped(read_runs(folders))
    band = curve(group, "eval/pc_success")
    assert band is not None
    assert band.steps.tolist() == [0, 100, 150]
    np.testing.assert_allclose(band.mean, [0, (40 + 60) / 2, (60 + 90) / 2])
    assert curve(group, "no/such") is None


def test_evaluations_stand_beside_the_runs_that_they_measured(runs: list[Path], tmp_path: Path) -> None:
    measured = [write_evaluation(tmp_path / f"eval_{run.name}", run, 12 + i) for i, run in enumerate(runs)]
    found = read_runs([*runs, *measured])
    assert [run.folder for run in found] == measured
    first, second = grouped(found)
    assert first.rates() == [60.0, 65.0, 70.0]
    assert second.seeds == [0, 1, 2]
    assert {run.measured for run in found} == {"held-out seeds"}
    assert curve(first, "eval/pc_success") is not None
    by_critic = write_evaluation(tmp_path / "by_critic", runs[0], 3, 20, "eval.best_of=16")
    assert len(grouped(read_runs([measured[0], by_critic]))) == 2


def test_the_page_holds_all_of_it_and_refers_to_nothing_outside(runs: list[Path], tmp_path: Path) -> None:
    measured = [write_evaluation(tmp_path / f"eval_{run.name}", run, 12 + i) for i, run in enumerate(runs)]
    html = compare(measured, tmp_path / "out", ["train/success_rate"]).read_text("utf-8")
    seen = Seen(html)
    for part in ("gamma=0.9", "gamma=0.95", "36", "of 60", "Settings that differ", "Films side by side", "+15.0"):
        assert part in seen.text
    assert seen.tags.count("svg") == 2
    assert seen.tags.count("video") == 2
    assert all(reference.startswith(("data:", "#")) for reference in seen.references)
    assert "script" not in seen.tags


def test_films_that_are_too_large_together_are_linked(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "Budget", lambda page: Budget(10, page))
    measured = write_evaluation(tmp_path / "eval", runs[0], 12)
    seen = Seen(compare([measured], tmp_path).read_text("utf-8"))
    assert "video" not in seen.tags
    (link,) = [reference for reference in seen.references if reference.endswith(".mp4")]
    assert (tmp_path / link).is_file()
    assert not Path(link).is_absolute()


def test_a_strangers_evaluation_shows_no_film_from_elsewhere(runs: list[Path], tmp_path: Path) -> None:
    measured = write_evaluation(tmp_path / "eval", runs[0], 12)
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"not yours")
    info = json.loads((measured / "eval_info.json").read_text())
    info["per_episode"][0]["video_path"] = str(secret)
    (measured / "eval_info.json").write_text(json.dumps(info))
    assert not read_runs([measured])[0].films


def test_json_is_one_object_with_every_pair(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *map(str, runs), "--out", str(tmp_path / "p.html"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings_that_differ"] == ["algorithm.gamma"]
    assert [group["success"]["runs"] for group in told["groups"]] == [3, 3]
    (pair,) = told["differences"]
    assert pair["low"] < pair["value"] < pair["high"]
    assert told["groups"][0]["curves"]["eval/pc_success"]["steps"] == [0, 500, 1000, 1500]
    assert Path(told["page"]).is_file()


def test_a_folder_that_holds_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(tmp_path)]) == cli.USER_ERROR
    assert f"{tmp_path}: holds no run" in capsys.readouterr().err
    broken = write_run(tmp_path / "a", [])
    (broken / "config.yaml").write_text("a: [")
    assert cli.main(["compare", str(broken)]) == cli.USER_ERROR
    assert str(broken / "config.yaml") in capsys.readouterr().err
