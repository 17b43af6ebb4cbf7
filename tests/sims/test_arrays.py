"""Our environments in another library: Stable-Baselines3 learns from their pictures and states as they are."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

import sims

REACH = "vla_rl/Reach-v0"


@pytest.fixture
def reach() -> Iterator[gymnasium.Env]:
    env = gymnasium.make(REACH)
    yield env
    env.close()


def test_texts_are_left_out_or_become_numbers(reach: gymnasium.Env) -> None:
    seen, _ = reach.reset(seed=0)
    env = sims.numeric(reach)
    plain, _ = env.reset(seed=0)
    assert plain.keys() == {key.replace(".", "_") for key in seen if key != "task"}
    assert np.array_equal(plain["observation_images_front"], seen["observation.images.front"])
    told = sims.numeric(reach, letters=40)
    words, _ = told.reset(seed=0)
    assert told.observation_space.contains(words)
    assert "".join(map(chr, words["task"][words["task"] > 0])) == seen["task"][:40]


def test_what_is_no_dict_of_distinct_names_is_refused(reach: gymnasium.Env) -> None:
    with pytest.raises(ValueError, match="expected a Dict of observations, got Box"):
        sims.numeric(gymnasium.make("CartPole-v1"))
    with pytest.raises(ValueError, match="letters: at least 0, got -1"):
        sims.numeric(reach, letters=-1)
    box = gymnasium.spaces.Box(0, 1, (1,))
    space = gymnasium.spaces.Dict({"a.b": box, "a_b": box})
    twice = gymnasium.wrappers.TransformObservation(reach, lambda seen: seen, space)
    with pytest.raises(ValueError, match="have one name without dots"):
        sims.numeric(twice)


@pytest.mark.parametrize("letters", [0, 24])
def test_stable_baselines3_accepts_reach(reach: gymnasium.Env, letters: int) -> None:
    check_env = pytest.importorskip("stable_baselines3.common.env_checker").check_env
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for symmetric actions and the like
        check_env(sims.numeric(reach, letters))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("PPO", {"n_steps": 16, "batch_size": 16, "n_epochs": 1}),
        ("SAC", {"learning_starts": 8, "batch_size": 8, "buffer_size": 64}),
    ],
)
def test_stable_baselines3_learns_from_pixels_and_state_on_reach(
    reach: gymnasium.Env, name: str, settings: dict[str, Any]
) -> None:
    pytest.importorskip("stable_baselines3")
    algorithm = getattr(importlib.import_module("stable_baselines3"), name)
    model = algorithm("MultiInputPolicy", sims.numeric(reach), seed=0, device="cpu", **settings)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(16 if name == "PPO" else 12)
    assert any((value != before[key]).any() for key, value in model.policy.state_dict().items())
    action, _ = model.predict(sims.numeric(reach).reset(seed=1)[0], deterministic=True)
    assert reach.action_space.contains(action)
