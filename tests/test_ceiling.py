"""Ceilings from the true state: every table-top task can be seen wholly, and by no camera."""

import numpy as np
import pytest

from scripts.ceiling import seeing
from vla_rl import build, config, envs
from vla_rl.specs import STATE, TASK

TASKS = ("reach", "push", "pick", "place", "stack", "open_drawer", "press_in_order", "insert_peg", "tidy_up")


@pytest.mark.parametrize("task", TASKS)
def test_a_policy_sees_all_and_the_cameras_nothing(task: str) -> None:
    run = config.load(["experiment=push", *seeing(task)])
    assert build.env_spec(run).observation.images.keys() == {"observation.images.front"}
    env = envs.factory(run)()
    first, other = (env.reset(seed=seed)[0] for seed in (1, 2))
    assert not first["observation.images.front"].any()
    assert first[TASK] == other[TASK] != env.unwrapped.world.instruction
    world = env.unwrapped.world
    place = world.object_position(world.named[0])
    assert np.isclose(other[STATE][:, None], place[None], atol=1e-6).any(0).all()
    env.close()


def test_eyes_that_err_are_told_places_instead() -> None:
    run = config.load(["experiment=push", *seeing("push", noise=0.5, misses=0.25)])
    assert build.env_spec(run).observation.images.keys() == {"observation.images.front"}
    told = run.env.sensors[-1]
    assert told == {"type": "named_places", "count": 3, "noise": 0.5, "misses": 0.25}
