"""The ruler of critics: its statistics on numbers that are known, and its rollouts on a real environment."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts import critics
from vla_rl import build, cli, config
from vla_rl.bench.critic import Judged, _choices, judges_of, summary, table
from vla_rl.registry import ConfigError
from vla_rl.rollout.branches import every, meet, roll_out
from vla_rl.specs import VALIDATION_SEEDS
from vla_rl.train import train


def judged(noise: float = 0.0, seed: int = 0, **values: np.ndarray) -> tuple[Judged, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(60, 6))
    returns = truth[:, :, None] + noise * rng.normal(size=(60, 6, 40))
    return Judged(returns, {"perfect": truth, "wrong": -truth, **values}, rng.random(60)), truth


def test_a_perfect_judge_and_one_who_has_it_backwards() -> None:
    found, truth = judged()
    told = summary(found)
    best = (truth.max(1) - truth.mean(1)).mean()
    assert told["perfect"]["spearman"] == pytest.approx(1.0)
    assert told["perfect"]["spearman_early"] == pytest.approx(1.0)
    assert told["perfect"]["gain"] == pytest.approx(best)
    assert told["oracle"]["gain"] == pytest.approx(best)
    assert told["wrong"]["spearman"] == pytest.approx(-1.0)
    assert told["wrong"]["gain"] == pytest.approx((truth.min(1) - truth.mean(1)).mean())
    assert told["cap"] == pytest.approx(1.0)


def test_all_is_told_by_steps_to_go() -> None:
    """Here decisions matter near the end only, and there the judge has it backwards."""
    rng = np.random.default_rng(0)
    near = np.arange(60) < 20
    truth = rng.normal(size=(60, 6)) * near[:, None]
    length = np.where(near, 1.0, np.arange(60.0))
    told = summary(Judged(truth[:, :, None].repeat(4, 2), {"critic": -truth}, length))
    assert told["steps"]["steps_late"] == 1
    assert told["steps"]["steps_early"] > told["steps"]["steps_middle"] > 1
    assert told["critic"]["spearman_late"] == pytest.approx(-1)
    assert np.isnan(told["critic"]["spearman_early"])
    assert told["critic"]["gain_late"] < told["critic"]["gain"] < 0
    assert told["critic"]["gain_early"] == told["oracle"]["gain_early"] == 0
    assert told["oracle"]["gain_late"] == pytest.approx(3 * told["oracle"]["gain"])
    lines = table(told).splitlines()
    assert lines[3].split() == ["all", "early", "middle", "late"]
    assert [text[:16].strip() for text in lines[4:]] == ["steps", "oracle gain", "critic spearman", "critic gain"]


def test_the_cap_is_what_noise_leaves_a_perfect_judge() -> None:
    told = summary(judged(noise=6.0)[0])
    assert told["perfect"]["spearman"] == pytest.approx(told["cap"], abs=0.1)
    assert told["cap"] < 0.9
    assert 0 < told["oracle"]["gain"] <= told["perfect"]["gain"]


def test_equal_values_share_their_rank_and_decisions_that_are_not_there_count_for_nothing() -> None:
    returns = np.array([[0.0, 1.0, 1.0, np.nan], [0.5, 0.5, 0.5, 0.5], [0.0, 1.0, 2.0, 3.0]])[:, :, None].repeat(2, 2)
    values = np.array([[0.1, 0.9, 0.2, np.nan], [0.0, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 0.0]])
    told = summary(Judged(returns, {"critic": values}, np.arange(3.0)))
    ties = np.corrcoef([0, 2, 1], [0, 1.5, 1.5])[0, 1]
    assert told["critic"]["spearman"] == pytest.approx((ties - 1) / 2)  # the second state has no better decision
    assert told["critic"]["gain"] == pytest.approx(((1 - 2 / 3) + 0 + (0 - 1.5)) / 3)


@pytest.fixture
def trained(quick: list[str], tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    given = [*quick, "demos.episodes=0", "algorithm.demo_share=0", "env.kwargs.horizon=4", f"run_dir={folder}"]
    train(config.load([*given, "algorithm.critic=both", "train.workers=0", "train.eval_every=0"]))
    return folder


def test_rollouts_do_not_depend_on_how_many_run_together(trained: Path) -> None:
    run = config.load([f"eval.checkpoint={trained}"], command="eval")
    spec = build.env_spec(run)
    policy = build.fresh_policy(run, spec)
    (make,) = build.env_factories(run, spec).values()

    def found(lanes: int) -> dict[tuple[int, int, int], tuple[float, int]]:
        envs = [make() for _ in range(lanes)]
        for env in envs:
            env.reset(seed=VALIDATION_SEEDS[0])
        met = [meet(envs[0], policy, seed) for seed in VALIDATION_SEEDS[:2]]
        chosen = [_choices(policy, each.seen, 3, 0) for each in met]
        assert all(len(np.unique(tokens, axis=0)) == len(tokens) for tokens in chosen)
        told = {each.job: each for each in roll_out(envs, policy, met, chosen, every(chosen, 2), 0.9)}
        for env in envs:
            env.close()
        assert set(told) == {(s, a, r) for s in range(2) for a in range(len(chosen[s])) for r in range(2)}
        return {job: (each.paid, each.steps) for job, each in told.items()}

    alone, together = found(1), found(5)
    assert alone == together
    assert all(1 <= steps <= 4 for _, steps in alone.values())


def test_the_critics_of_a_run_are_told_apart(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--states", "3", "--decisions", "2", "--rollouts", "2", "--json"]
    assert cli.main(["bench", "critic", str(trained), *few]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"direct", "model", "both", "oracle", "cap"} <= told.keys()
    assert told["states"] == 3


def test_what_cannot_be_judged_is_a_users_error(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "critic"]) == 2
    assert "name the folder of a run" in capsys.readouterr().err
    run = config.load([f"eval.checkpoint={trained}"], command="eval")
    policy = build.fresh_policy(run, build.env_spec(run))
    policy.save_pretrained(tmp_path / "start" / "pretrained_model")
    with pytest.raises(ConfigError, match="holds a policy that nothing judged"):
        judges_of(
            run.model_copy(update={"eval": run.eval.model_copy(update={"checkpoint": tmp_path / "start"})}), policy
        )
    assert cli.main(["bench", "critic", str(trained), "replay.stack=2"]) == 2
    assert "policies of one frame only" in capsys.readouterr().err


def test_critics_of_other_settings_are_held_against_the_same_rollouts(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [f"--{name}={count}" for name, count in (("states", 2), ("decisions", 2), ("rollouts", 2), ("updates", 2))]
    monkeypatch.setattr(sys, "argv", ["critics.py", str(trained), "critic=direct,critics=3", *few])
    critics.main()
    lines = capsys.readouterr().out.splitlines()
    judges = [line.split(" | ")[0].removeprefix("| ") for line in lines if ": " in line and line.startswith("|")]
    others = [f"critic=direct,critics=3: {way}" for way in ("q", "mean", "ahead")]
    assert judges[1:] == [*(f"the run's: {way}" for way in ("q", "mean", "model", "ahead")), *others]


@pytest.mark.parametrize(
    ("given", "said"),
    [("critic_waves=2", ""), ("critic_with=64", "critic_width"), ("gamma=0.5", "changes what batches hold (gamma)")],
)
def test_critics_differ_in_what_batches_have_in_common(given: str, said: str) -> None:
    settings = config.load([]).algorithm
    if said:
        with pytest.raises(ConfigError, match=re.escape(said)):
            critics.others(settings, given)
    else:
        assert critics.others(settings, given).critic_waves == 2
