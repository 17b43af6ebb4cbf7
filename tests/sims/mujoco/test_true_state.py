"""What ceilings are told: the true state of what is named, or its places in pictures with errors."""

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.mujoco.true_state import NamedPlaces
from vla_rl.specs import STATE


def test_named_things_are_those_of_the_things_named_in_the_order_of_their_mention():
    made = gymnasium.make("vla_rl/Push-v0", sensors=[{"type": "named_things", "count": 3}, "instruction"])
    observation, _ = made.reset(seed=3)
    world = made.unwrapped.world
    block, mark = (world.object_position(slot) for slot in ("block0", "mark0"))
    tip, none = world.tip_position, np.zeros(3)
    turns = [[np.cos(world.object_yaw(slot)), np.sin(world.object_yaw(slot))] for slot in ("block0", "mark0")]
    parts = [[world.half_height("block0"), 0, 0], [world.half_height("mark0"), 0, 0]]
    told = [block, mark, none, block - tip, mark - tip, none, *turns, [0, 0], *parts, none, mark - block, none, none]
    np.testing.assert_allclose(observation["observation.state"], np.concatenate(told), atol=1e-6)
    saved = made.unwrapped.snapshot()
    made.reset(seed=4)
    made.unwrapped.restore(saved)
    made.step(np.zeros(3, np.float32))
    assert world.named == ("block0", "mark0")
    made.close()


def test_named_things_tell_which_lamps_are_out():
    made = gymnasium.make("vla_rl/PressInOrder-v0", sensors=[{"type": "named_things", "count": 3}, "instruction"])
    observation, _ = made.reset(seed=0)
    out, gone = slice(26, 33, 3), slice(25, 33, 3)
    np.testing.assert_array_equal(observation[STATE][out], 0)
    most = 0.0
    while not observation[STATE][out].any():
        observation = made.step(made.unwrapped.expert_action())[0]
        most = max(most, observation[STATE][gone][0])
    np.testing.assert_array_equal(observation[STATE][out], [1, 0, 0])
    assert most > 0.009  # metres: the cap was down
    made.close()


@pytest.fixture
def env():
    made = gymnasium.make("vla_rl/Push-v0", sensors=["instruction"])
    made.reset(seed=3)
    yield made.unwrapped
    made.close()


@pytest.fixture
def push(env):
    return env.world


def read(world, **settings) -> tuple[np.ndarray, np.ndarray]:
    """Places [cameras, things and tip, 2], and their differences [cameras, pairs, 2]."""
    sensor = NamedPlaces(**settings)
    told, n = sensor.read(world), sensor.count + 1
    assert sensor.spec(world).shape == told.shape
    return np.split(told.reshape(len(sensor.cameras), -1, 2), [n], axis=1)


def test_named_places_are_where_the_cameras_have_what_is_named(push):
    places, aside = read(push, count=3, misses=0.0)
    points = np.stack([push.object_position("block0"), push.object_position("mark0"), push.tip_position])
    for told, differences, camera in zip(places, aside, ("front", "side"), strict=True):
        true = push.project(camera, points)
        np.testing.assert_allclose(told[[0, 1, 3]], true, atol=1e-6)
        np.testing.assert_array_equal(told[2], 0)  # nothing third is named
        block, mark, tip = true
        none = np.zeros(2)
        np.testing.assert_allclose(
            differences, 4 * np.array([mark - block, none, none, tip - block, tip - mark, none]), atol=1e-5
        )


def test_places_err_by_as_much_and_as_often_as_told(env):
    noisy, missed = [], []
    for _ in range(300):
        env.step(env.action_space.sample())
        true = read(env.world)[0]
        noisy.append(read(env.world, noise=0.5)[0] - true)
        missed.append(read(env.world, misses=0.2)[0] != true)
    assert np.std(noisy) == pytest.approx(0.5 * 2 / 64, rel=0.1)
    assert abs(np.mean(noisy)) < 0.002
    assert np.mean(missed, axis=0)[:, :-1].mean() == pytest.approx(0.2, abs=0.04)
    assert not np.array(missed)[:, :, -1].any()  # the tip's


def test_a_restored_state_is_read_as_it_was(env):
    saved, errs = env.snapshot(), {"noise": 1.0, "misses": 0.3}
    first = NamedPlaces(**errs).read(env.world)
    env.step(np.ones(env.action_space.shape, np.float32))
    assert not np.isclose(NamedPlaces(**errs).read(env.world), first).any()
    env.restore(saved)
    np.testing.assert_array_equal(NamedPlaces(**errs).read(env.world), first)


def test_settings_of_named_places_are_checked(push):
    with pytest.raises(ValueError, match="misses must lie in"):
        NamedPlaces(misses=1.5)
    with pytest.raises(ValueError, match="noise must be at least 0, got -1"):
        NamedPlaces(noise=-1)
    with pytest.raises(ValueError, match="at least one"):
        NamedPlaces(cameras=())
    with pytest.raises(ValueError, match="front"):
        NamedPlaces(cameras=("frint",)).spec(push)
