"""What environments say of reward and success, and what is made of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.fakes import CAMERA, Blurred, Line, Walker
from vla_rl.actions.binned import Binned
from vla_rl.audit import command
from vla_rl.data.record import play
from vla_rl.envs import Bounds, TokenEnv, earned, succeeded
from vla_rl.envs.vector import VectorEnvs
from vla_rl.evaluation.episodes import evaluate
from vla_rl.specs import HELD_OUT_SEEDS, STATE


class Saying(Line):
    """The line, whose reward and info are what `change` makes of them."""

    def __init__(self, change: Callable[[float, dict[str, Any]], tuple[Any, dict[str, Any]]]) -> None:
        super().__init__()
        self.change = change

    def step(self, action: np.ndarray) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        reward, info = self.change(reward, info)
        return observation, reward, terminated, truncated, info


def rewarded(reward: Any) -> Any:
    return lambda given, info: (reward, info)


def only_success(reward: float, info: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    return reward, {"is_success": True} if info["is_success"] else {}


@pytest.mark.parametrize("said", [math.nan, np.float32(np.nan), np.array([np.nan]), None, -1.0, 0, np.array([False])])
def test_nan_none_and_numbers_that_are_not_above_zero_are_no_success(said: Any) -> None:
    assert succeeded({"is_success": said}) is False


@pytest.mark.parametrize(
    "info", [{"is_success": np.array([1.0])}, {"success": 1}, {"is_success": None, "success": True}]
)
def test_success_may_be_an_array_of_one(info: dict[str, Any]) -> None:
    assert succeeded(info) is True


@pytest.mark.parametrize("said", ["False", [True, False], {"arm": True}])
def test_success_that_is_no_truth_value_is_named(said: Any) -> None:
    with pytest.raises(ValueError, match=r"info\['success'\]: expected True or False"):
        succeeded({"success": said})


@pytest.mark.parametrize("reward", [np.array([0.5]), np.array([[0.5]], np.float32), np.float64(0.5)])
def test_a_reward_may_be_an_array_of_one(reward: Any) -> None:
    def tokens() -> gymnasium.Env:
        env = Saying(rewarded(reward))
        return TokenEnv(env, Binned(bins=5).bind(env.action_space))

    episode, _ = play(Saying(rewarded(reward)), seed=3, noise=0.0)
    assert set(episode.reward.tolist()) == {0.5}
    envs = VectorEnvs(tokens, 2)
    envs.reset(seed=0)
    assert envs.step(np.zeros((2, 1), np.int64)).reward.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("reward", [None, math.nan, math.inf, np.array([1.0, 2.0]), "1"])
def test_a_reward_that_is_no_number_is_named_with_its_lane_and_step(reward: Any) -> None:
    envs = VectorEnvs(lambda: Saying(rewarded(reward)), 1)
    envs.reset(seed=5)
    with pytest.raises(ValueError, match="reward: expected one finite number, got") as caught:
        envs.step(np.zeros((1, 1), np.float32))
    assert "in environment 0, step 0 of the episode of seed 5" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="reward: expected one finite number, got"):
        play(Saying(rewarded(reward)), seed=3, noise=0.0)


def test_an_environment_that_tells_of_success_alone_fails_where_it_is_silent() -> None:
    def make() -> gymnasium.Env:
        env = Saying(only_success)
        return TokenEnv(env, Binned(bins=5).bind(env.action_space))

    lazy = evaluate(Walker(lazy=True), make, HELD_OUT_SEEDS[:8])
    assert 0 < lazy.successes < 8
    found = command.examine(Saying(only_success), 4)
    assert {each.success for score in found.scores for each in score.played} == {True, False}
    gamed = command.examine(Saying(lambda reward, info: (1.0, only_success(reward, info)[1])), 4)
    assert any("the reward pays without success" in reason for reason in gamed.reasons)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("since", "where"), [(0, "reset"), (2, "step 1 of the episode of seed 5")])
def test_nan_in_an_observation_is_named_with_its_key_lane_seed_and_step(workers: int, since: int, where: str) -> None:
    envs = VectorEnvs(partial(Blurred, since), 1, workers)
    with pytest.raises(ValueError, match=r"observation\.state: entry \[0\] is nan") as caught:  # noqa: PT012
        envs.reset(seed=5)
        for _ in range(2):
            envs.step(np.zeros((1, 1), np.float32))
    assert f"in environment 0, {where}" in caught.value.__notes__[0]


def test_nan_in_a_demonstration_is_named() -> None:
    with pytest.raises(ValueError, match=r"observation\.state: entry \[0\] is nan") as caught:
        play(Blurred(1), seed=1, noise=0.0)
    assert caught.value.__notes__ == ["in the episode of seed 1, after 1 step(s)"]


def test_nan_where_the_environment_broke_down_ends_nothing() -> None:
    envs = VectorEnvs(lambda: Blurred(1, spoilt=True), 1)
    envs.reset(seed=5)
    assert envs.step(np.zeros((1, 1), np.float32)).observation[STATE].tolist() == [[0.0]]


class Short(Line):
    """The line, whose observation loses a key, or gets another shape, in its first step."""

    def __init__(self, seen: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.seen = seen

    def _observe(self) -> dict[str, Any]:
        found = super()._observe()
        if self.steps and self.seen is None:
            del found[CAMERA]
        return found | (self.seen if self.steps and self.seen else {})


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (None, r"the observation lacks observation\.images\.front"),
        (
            {CAMERA: np.zeros((8, 3), np.uint8)},
            r"observation\.images\.front: expected an array \[8, 8, 3\], got \[8, 3\]",
        ),
        ({CAMERA: np.zeros((8, 8, 3))}, r"observation\.images\.front: expected uint8, got float64"),
        ({CAMERA: np.zeros((8, 8, 3), np.int64)}, r"observation\.images\.front: expected uint8, got int64"),
        ({STATE: np.array(["1"])}, r"observation\.state: expected float32, got <U1"),
        ({STATE: [[1.0]]}, r"observation\.state: expected an array \[1\], got \[1, 1\]"),
    ],
)
def test_what_an_observation_lacks_or_has_of_a_wrong_shape_or_dtype_is_named(seen: Any, message: str) -> None:
    envs = VectorEnvs(lambda: Short(seen), 1)
    envs.reset(seed=5)
    with pytest.raises(ValueError, match=message) as caught:
        envs.step(np.zeros((1, 1), np.float32))
    assert "in environment 0, step 0 of the episode of seed 5" in caught.value.__notes__[0]


def test_numbers_of_another_size_are_taken_as_they_are_shown() -> None:
    envs = VectorEnvs(lambda: Short({STATE: np.array([0.25])}), 1)
    envs.reset(seed=5)
    assert envs.step(np.zeros((1, 1), np.float32)).observation[STATE].tolist() == [[0.25]]


@pytest.mark.parametrize(
    ("low", "high", "number", "fits"),
    [
        (-3, 3, 4.0, True),
        (-3, 3, 6002.0, True),
        (-3, 3, 6004.0, False),
        (-3, 3, 1e30, False),
        (-3, 3, np.nan, False),
        (5, 6, 5.5, True),
        (5, 6, -996.0, False),
        (-np.inf, np.inf, 1e17, True),
        (-np.inf, np.inf, -1e19, False),
        (-np.inf, np.inf, np.inf, False),
        (0, np.inf, -5.0, True),
        (-3.4e38, 3.4e38, 1e30, False),
    ],
)
def test_a_number_far_outside_its_space_is_not_believed(low: float, high: float, number: float, fits: bool) -> None:
    bounds = Bounds.of("observation.state", gymnasium.spaces.Box(low, high, (2, 2), np.float32))
    value = np.full((2, 2), np.clip(5.5, low, high), np.float32)
    bounds.check(value)
    value[1, 0] = number
    if fits:
        bounds.check(value)
        return
    with pytest.raises(ValueError, match=r"observation\.state: entry \[1, 0\] is .*; (far outside|every number)"):
        bounds.check(value)


def test_a_reward_that_is_too_large_to_learn_from_is_refused_unless_the_episode_is_spoilt() -> None:
    assert earned(np.float32(-1e17), {}) == pytest.approx(-1e17)
    assert earned(1e30, {"invalid": True}) == earned(np.array([np.nan]), {"diverged": True}) == 0.0
    for wild in (1e30, -math.inf, np.array([1e19])):
        with pytest.raises(ValueError, match=r"reward: expected one finite number, got .*1e\+18"):
            earned(wild, {})
