"""Evaluation: exact seeds, known intervals, LeRobot's keys, nothing that depends on how it is batched."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import av
import gymnasium
import numpy as np
import pytest
from scipy.stats import binomtest

from tests.fakes import LINE, Line, Walker
from tests.fakes import in_five_bins as make
from vla_rl import __version__, config
from vla_rl.actions.binned import Binned
from vla_rl.envs import TokenEnv
from vla_rl.eval import evaluate_checkpoint
from vla_rl.evaluation import eval_info
from vla_rl.evaluation.episodes import Evaluator, evaluate, workers_of
from vla_rl.evaluation.films import keep_films, refilmed
from vla_rl.evaluation.outcome import EvalResult, Outcome, wilson
from vla_rl.registry import ConfigError
from vla_rl.runtime import checkpoint
from vla_rl.specs import HELD_OUT_SEEDS, POINTERS, VALIDATION_SEEDS

SEEDS = HELD_OUT_SEEDS[:11]


def comparable(result: EvalResult) -> list[tuple]:
    return [
        (o.seed, o.success, o.sum_reward, o.length, o.tokens.tolist(), o.q, o.frames is None) for o in result.outcomes
    ]


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([0], "got 0"),
        ([*SEEDS, HELD_OUT_SEEDS.stop], f"got {HELD_OUT_SEEDS.stop}"),
        ([], "got none"),
        ([SEEDS[0], SEEDS[0]], "1 repeat"),
        ([SEEDS[0], VALIDATION_SEEDS[0]], "not mixed"),
    ],
)
def test_seeds_of_training_and_repeated_seeds_are_refused(seeds: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(Walker(), make, seeds)


def test_validation_seeds_are_allowed() -> None:
    assert evaluate(Walker(), make, VALIDATION_SEEDS[:2]).pc_success == 100.0


def test_the_batch_changes_nothing() -> None:
    alone, three, many = (evaluate(Walker(lazy=True), make, SEEDS, num_envs=n, films=2) for n in (1, 3, 50))
    assert comparable(alone) == comparable(three) == comparable(many)
    assert 0 < alone.pc_success < 100


def test_every_seed_runs_once_and_free_environments_are_used_again() -> None:
    actor, made = Walker(), []

    def counted() -> gymnasium.Env:
        made.append(make())
        return made[-1]

    result = evaluate(actor, counted, SEEDS, num_envs=3)
    assert [outcome.seed for outcome in result.outcomes] == list(SEEDS)
    assert len(made) == 3
    assert max(actor.batches) == 3
    assert sum(actor.batches) == sum(outcome.length for outcome in result.outcomes)
    assert result.pc_success == 100.0
    assert all(len(outcome.q) == outcome.length for outcome in result.outcomes)


def test_films_are_of_the_first_successes_and_failures() -> None:
    result = evaluate(Walker(lazy=True), make, SEEDS, num_envs=4, films=2)
    for success in (True, False):
        filmed = [outcome.seed for outcome in result.films(success)]
        assert filmed == [outcome.seed for outcome in result.outcomes if outcome.success == success][:2]
    for outcome in (*result.films(True), *result.films(False)):
        assert len(outcome.frames or ()) == len(outcome.tokens) + 1
    assert [len(keep_films(result, total).films(True)) for total in (0, 1, 2, 3, 9)] == [0, 1, 1, 2, 2]


class Pointing(Walker):
    """Also points: at where it stands, by the place of the line, and surely."""

    def __call__(self, observation: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        tokens, told = super().__call__(observation)
        place = observation["observation.state"][:, 0]
        pointers = np.stack([place, np.zeros_like(place), np.ones_like(place)], -1)[:, None]
        return tokens, {**told, f"{POINTERS}front": pointers.astype(np.float32)}


def test_what_the_policy_saw_is_kept_of_films_and_the_rewards_of_all() -> None:
    result = evaluate(Pointing(), make, SEEDS, num_envs=3, films=1)
    (filmed,) = result.films(True)
    assert filmed.sight is not None
    assert (filmed.sight.camera, len(filmed.sight.pictures)) == ("front", len(filmed.tokens) + 1)
    assert filmed.sight.texts == (filmed.task,) * len(filmed.tokens)
    assert filmed.sight.pointers.shape == (len(filmed.tokens), 1, 3)
    # It walks to the middle, and so does what it points at.
    assert (np.diff(np.abs(filmed.sight.pointers[:, 0, 0])) < 0).all()
    assert [outcome.sight for outcome in result.outcomes if outcome.frames is None] == [None] * (len(SEEDS) - 1)
    for outcome in result.outcomes:
        assert len(outcome.rewards) == len(outcome.tokens)
        assert sum(outcome.rewards) == outcome.sum_reward


def test_films_are_repeated_in_better_pictures() -> None:
    result = evaluate(Walker(), make, SEEDS, films=1)
    small, large = result.films(True)[0], refilmed(result, partial(make, render_mode="rgb_array")).films(True)[0]
    assert [frame[0, 0, 0] for frame in small.frames or ()] == [frame[0, 0, 0] for frame in large.frames or ()]
    assert (large.frames or ())[0].shape == (32, 32, 3)
    assert refilmed(result, make).films(True)[0].frames == small.frames


def test_invalid_episodes_are_counted_but_not_scored(tmp_path: Path) -> None:
    result = evaluate(Walker(), partial(make, fragile=True), HELD_OUT_SEEDS[:14], films=20)
    assert result.n_invalid == 2
    assert len(result.valid) == 12
    assert result.pc_success == 100.0
    assert all(outcome.frames is None for outcome in result.outcomes if outcome.invalid)
    info = json.loads(eval_info.write(result, tmp_path).read_text())
    assert (info["overall"]["n_episodes"], info["overall"]["n_invalid"]) == (12, 2)
    assert len(info["per_episode"]) == 14


def test_without_a_valid_episode_nothing_is_claimed(tmp_path: Path) -> None:
    seed = next(seed for seed in HELD_OUT_SEEDS if seed % 7 == 0)
    result = evaluate(Walker(), partial(make, fragile=True), [seed])
    info = json.loads(eval_info.write(result, tmp_path).read_text())
    assert info["overall"]["pc_success"] is None
    assert info["overall"]["pc_success_ci95"] == [0, 100]


def test_an_error_in_an_environment_names_the_seed() -> None:
    def actor(observation: dict) -> tuple[np.ndarray, dict]:
        return np.full((len(observation["task"]), 1), 99), {}

    with pytest.raises(ValueError, match="out of range") as caught:
        evaluate(actor, make, SEEDS, num_envs=1)
    assert f"seed {SEEDS[0]}" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(95, 100, 88.82, 97.85), (0, 10, 0.0, 27.75), (10, 10, 72.25, 100.0), (1, 2, 9.45, 90.55)],
)
def test_intervals_are_wilsons(successes: int, episodes: int, low: float, high: float) -> None:
    assert wilson(successes, episodes) == pytest.approx((low, high), abs=0.01)


def test_intervals_are_those_of_scipy() -> None:
    for episodes in (1, 2, 7, 100):
        for successes in range(episodes + 1):
            theirs = binomtest(successes, episodes).proportion_ci(0.95, method="wilson")
            assert wilson(successes, episodes) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)


def outcome(seed: int, success: bool, frames: int = 0) -> Outcome:
    film = tuple(np.full((9, 9, 3), 20 * step, np.uint8) for step in range(frames))
    return Outcome(
        seed, "go", success, float(success), float(success), 4, False, np.zeros((4, 1)), (0.5,), film or None
    )


def test_eval_info_has_lerobots_keys_and_the_interval(tmp_path: Path) -> None:
    outcomes = tuple(outcome(SEEDS[i], i < 3, frames=5 if i in (2, 3) else 0) for i in range(4))
    result = EvalResult("vla_rl/Reach-v0", outcomes, seconds=2.0)
    info = json.loads(eval_info.write(result, tmp_path, {"acting": "greedy"}).read_text())
    overall = info["overall"]
    assert overall["pc_success"] == 75.0
    assert overall["pc_success_ci95"] == pytest.approx(wilson(3, 4))
    assert (overall["avg_sum_reward"], overall["avg_max_reward"], overall["n_episodes"]) == (0.75, 0.75, 4)
    assert (overall["eval_s"], overall["eval_ep_s"]) == (2.0, 0.5)
    group = info["per_group"]["vla_rl/Reach-v0"]
    assert {"avg_sum_reward", "avg_max_reward", "pc_success", "n_episodes", "video_paths"} <= group.keys()
    task = info["per_task"][0]
    assert (task["task_group"], task["task_id"]) == ("vla_rl/Reach-v0", 0)
    assert task["metrics"]["successes"] == [True, True, True, False]
    assert [row["seed"] for row in info["per_episode"]] == list(SEEDS[:4])
    assert len(overall["video_paths"]) == 2
    for path in overall["video_paths"]:
        with av.open(path) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == 5
        assert min(frames[0].shape[:2]) > 200
        assert abs(int(frames[3].mean()) - 60) < 6


class Fitting:
    """A policy that fits five bins only."""

    def check_fits(self, action_space, cameras, state_dim: int) -> None:
        if action_space.slots[0].choices != 5:
            raise ValueError(f"the policy was made for 5 bins; the run has {action_space.slots}")


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Evaluate a lazy walker as if it came from a checkpoint."""
    actor = Walker(lazy=True)
    actor.policy = Fitting()  # type: ignore[attr-defined]
    monkeypatch.setattr("vla_rl.eval.load_actor", lambda folder, *how: actor)
    saved = checkpoint.save(tmp_path, 100, {"pretrained_model": lambda folder: None})

    def run(*overrides: str) -> EvalResult:
        settings = [f"env.id={LINE}", "env.sensors=null", "env.kwargs={}", "eval.workers=0", f"run_dir={tmp_path}/eval"]
        settings += [f"eval.checkpoint={saved}", "eval.episodes=11", *overrides]
        return evaluate_checkpoint(config.load(settings, command="eval"))

    return run


def test_a_checkpoint_leaves_numbers_films_and_a_report(evaluated, tmp_path: Path, capsys) -> None:
    result = evaluated("action_space.bins=5", "eval.videos=3", "eval.seed=40")
    assert [outcome.seed for outcome in result.outcomes] == list(HELD_OUT_SEEDS[40:51])
    info = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    assert info["overall"]["pc_success"] == result.pc_success
    assert info["about"]["acting"] == "greedy"
    assert len(list((tmp_path / "eval").rglob("*.mp4"))) == 3
    html = (tmp_path / "eval" / "report.html").read_text("utf-8")
    assert "step 100" in html
    assert html.count("<video") == 3
    assert config.load([], base=tmp_path / "eval" / "config.yaml", command="eval").eval.seed == 40
    assert info["about"]["version"] == __version__
    assert len(info["about"].get("commit", "0" * 40).removesuffix("-dirty")) == 40
    assert f"{result.pc_success:.1f} %" in capsys.readouterr().out


def test_an_evaluation_is_not_overwritten(evaluated) -> None:
    evaluated("action_space.bins=5", "eval.videos=0")
    with pytest.raises(FileExistsError, match="holds an evaluation already"):
        evaluated("action_space.bins=5", "eval.videos=0")


def test_a_policy_for_other_actions_is_refused(evaluated) -> None:
    with pytest.raises(ValueError, match="made for 5 bins"):
        evaluated("action_space.bins=7")


def test_a_checkpoint_must_be_given(evaluated) -> None:
    with pytest.raises(ConfigError, match=r"eval\.checkpoint: give"):
        evaluated("eval.checkpoint=null")


def test_workers_change_nothing() -> None:
    here, there = (
        evaluate(Walker(lazy=True), make, SEEDS, num_envs=3, films=2, workers=workers, stack=2) for workers in (0, 2)
    )
    assert comparable(here) == comparable(there)
    for one, other in zip(here.outcomes, there.outcomes, strict=True):
        assert (one.task, one.invalid, here.env) == (other.task, other.invalid, there.env)
        assert [frame.tobytes() for frame in one.frames or ()] == [frame.tobytes() for frame in other.frames or ()]


def test_environments_are_kept_for_the_next_evaluation() -> None:
    made = []

    def counted() -> gymnasium.Env:
        made.append(make())
        return made[-1]

    with closing(Evaluator(counted, num_envs=4)) as evaluator:
        first, second = (evaluator(Walker(lazy=True), SEEDS, films=2) for _ in range(2))
    assert comparable(first) == comparable(second)
    assert len(made) == 4


class Rewarding(Line):
    """The line, which pays a tenth in each step, in an array that it changes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.paid = np.zeros(1)

    def step(self, action: np.ndarray) -> tuple:
        observation, _, terminated, truncated, info = super().step(action)
        self.paid[:] = 0.1
        return observation, self.paid, terminated, truncated, info


def test_an_actor_that_changes_its_tokens_in_place_leaves_an_episodes_own() -> None:
    walker, kept = Walker(), np.zeros((1, 1), np.int64)

    def actor(observation: dict) -> tuple[np.ndarray, dict]:
        tokens, info = walker(observation)
        kept[:] = tokens
        return kept, info

    def rewarding() -> gymnasium.Env:
        env = Rewarding()
        return TokenEnv(env, Binned(bins=5).bind(env.action_space))

    expected = evaluate(Walker(), make, SEEDS[:3], num_envs=1)
    found = evaluate(actor, rewarding, SEEDS[:3], num_envs=1)
    assert [each.tokens.tolist() for each in found.outcomes] == [each.tokens.tolist() for each in expected.outcomes]
    for outcome in found.outcomes:
        assert outcome.sum_reward == pytest.approx(0.1 * outcome.length, abs=1e-12)


def test_where_a_worker_dies_the_episodes_under_way_are_named() -> None:
    def still(observation: dict) -> tuple[np.ndarray, dict]:
        return np.full((len(observation["task"]), 1), 2), {}

    with pytest.raises(RuntimeError, match="exit code 5") as caught:
        evaluate(still, partial(make, "fake/Fatal-v0"), SEEDS, num_envs=2, workers=1)
    assert f"0: seed {SEEDS[0]}, step 2; 1: seed {SEEDS[1]}, step 2" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(("setting", "train", "workers"), [("auto", 3, 4), ("auto", 0, 0), (2, "auto", 2), (0, 3, 0)])
def test_validation_has_workers_as_the_run_says(setting: Any, train: Any, workers: int, monkeypatch: Any) -> None:
    monkeypatch.setattr("vla_rl.evaluation.episodes.spare_cores", lambda sharing: 3)
    run = config.load([f"eval.workers={setting}", f"train.workers={train}"])
    assert workers_of(run) == workers


def test_the_old_place_of_evaluate_checkpoint_still_works() -> None:
    from vla_rl import evaluate as old

    with pytest.warns(DeprecationWarning, match=r"vla_rl\.eval\.evaluate_checkpoint"), pytest.raises(ConfigError):
        old.evaluate_checkpoint(config.load(["env=reach"], command="eval"))


class BreaksWhereItRenders(Line):
    """The line, which raises an error at its third step where it renders."""

    def step(self, action: np.ndarray) -> tuple:
        if self.render_mode and self.steps == 2:
            raise OSError("no screen")
        return super().step(action)


def test_an_environment_that_breaks_as_it_is_filmed_again_loses_nothing() -> None:
    def breaking(render_mode: str | None = None) -> gymnasium.Env:
        env = BreaksWhereItRenders(render_mode)
        return TokenEnv(env, Binned(bins=5).bind(env.action_space))

    result = evaluate(Walker(lazy=True), breaking, SEEDS, films=1)
    with pytest.warns(UserWarning, match="no better films: OSError: no screen"):
        assert refilmed(result, partial(breaking, "rgb_array")) is result


def test_a_disk_without_room_for_videos_keeps_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *rest: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vla_rl.media.video.write_video", full)
    result = evaluate(Walker(lazy=True), make, SEEDS, films=1)
    with pytest.warns(UserWarning, match=r"\.mp4: the video is left out: .*No space left"):
        info = json.loads(eval_info.write(result, tmp_path).read_text())
    assert info["overall"]["n_episodes"] == len(SEEDS)
    assert info["overall"]["video_paths"] == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != eval_info.INFO_FILE]
