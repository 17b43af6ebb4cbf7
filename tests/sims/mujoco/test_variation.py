"""Splits keep combinations and places apart; randomisation varies what it says, when it says, and can be repeated."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.mujoco import splits
from sims.mujoco.things import COLOURS, Thing
from vla_rl.specs import IMAGES

FRONT = IMAGES + "front"


def make(env_id: str = "vla_rl/Pick-v0", **kwargs):
    return gymnasium.make(env_id, **({"sensors": ("instruction",)} | kwargs)).unwrapped


def targets(env, count: int = 40) -> list[tuple[Thing, np.ndarray]]:
    found = []
    for seed in range(count):
        env.reset(seed=seed)
        slot = env._goal.slots[0]
        found.append((env.world.shown[slot], env.world.footprint(slot)))
    return found


@pytest.mark.parametrize("env_id", ["vla_rl/Pick-v0", "vla_rl/Reach-v0", "vla_rl/Place-v0", "vla_rl/PressInOrder-v0"])
def test_splits_do_not_overlap(env_id):
    seen = {split: targets(make(env_id, split=split)) for split in ("train", "combination", "position")}
    pairs = {split: {thing for thing, _ in found} for split, found in seen.items()}
    assert not pairs["train"] & pairs["combination"]
    assert not pairs["position"] & pairs["combination"]
    assert all(splits.in_held_out_area(place) for _, place in seen["position"])
    assert not any(splits.in_held_out_area(place) for split in ("train", "combination") for _, place in seen[split])


def test_every_colour_and_every_shape_is_seen_in_training():
    for shape in ("cube", "cylinder", "bar", "button", "peg"):
        held = [colour for colour in COLOURS if splits.is_held_out(Thing(colour, shape))]
        assert 1 <= len(held) <= 2
    for colour in COLOURS:
        assert not all(splits.is_held_out(Thing(colour, shape)) for shape in ("cube", "cylinder", "bar"))


def test_looks_vary_and_the_physics_does_not():
    plain, varied = (
        make(sensors=("camera", "instruction")),
        make(sensors=("camera", "instruction"), randomise=[{"appearance": 1.0}]),
    )
    for seed in range(3):
        first, second = plain.reset(seed=seed)[0], varied.reset(seed=seed)[0]
        assert np.abs(first[FRONT].astype(int) - second[FRONT]).mean() > 5
        assert np.array_equal(plain.world.data.qpos, varied.world.data.qpos)
        assert np.array_equal(plain.world.model.body_mass, varied.world.model.body_mass)
    assert np.array_equal(first["task"], second["task"])


def test_cameras_move_and_nothing_else():
    env = make(sensors=("camera", "instruction"), randomise=[{"camera": 1.0}])
    places = []
    for seed in range(6):
        env.reset(seed=seed)
        places.append(env.world.model.cam_pos[env.world.camera_id("front")].copy())
    assert 0.01 < np.std(places, axis=0).mean() < 0.1
    home = make().world.model.cam_pos[env.world.camera_id("front")]
    np.testing.assert_allclose(np.mean(places, axis=0), home, atol=0.08)


def test_dynamics_vary_and_do_not_pile_up():
    env = make(randomise=[{"dynamics": 1.0}])
    masses = []
    for seed in range(20):
        env.reset(seed=seed)
        masses.append(np.log(env.world.model.body_mass[env.world.model.body("object0").id] / 0.08))
    assert 0.2 < np.std(masses) < 0.6
    assert abs(np.mean(masses)) < 0.3
    again = make(randomise=[{"dynamics": 1.0}])
    again.reset(seed=19)
    assert np.array_equal(env.world.model.body_mass, again.world.model.body_mass)


def test_the_expert_picks_in_a_varied_world():
    env = make(randomise=[{"appearance": 0.5, "camera": 0.5, "dynamics": 0.5}])
    done = 0
    for seed in range(12):
        env.reset(seed=seed)
        ended = False
        while not ended:
            _, _, terminated, truncated, info = env.step(env.expert_action())
            ended = terminated or truncated
        done += info["is_success"]
    assert done >= 10


def test_the_environment_shifts_in_mid_run_and_stays_shifted():
    env = make(sensors=("camera", "instruction"), randomise=[{"from_episode": 2, "camera": 1.0, "seed": 3}])
    before = make(sensors=("camera", "instruction"))
    seen = []
    for episode in range(5):
        ours, theirs = env.reset(seed=episode)[0], before.reset(seed=episode)[0]
        assert np.array_equal(ours[FRONT], theirs[FRONT]) == (episode < 2)
        seen.append(env.world.model.cam_pos.copy())
    assert np.array_equal(seen[2], seen[4])


def test_a_world_goes_on_from_the_episodes_that_its_run_has_had():
    env = make(randomise=[{"appearance": 0.1}, {"from_episode": 4, "camera": 1.0}])
    assert [env.reset(seed=1)[1]["stage"] for _ in range(6)] == [0, 0, 0, 0, 1, 1]
    env.continue_after(2, stride=2)
    assert [env.reset(seed=1)[1]["stage"] for _ in range(3)] == [0, 1, 1]
    env.continue_after(3, stride=0)
    assert [env.reset(seed=1)[1]["stage"] for _ in range(3)] == [0, 0, 0]
    assert "stage" not in make().reset(seed=1)[1]


def test_a_snapshot_carries_the_variation():
    stages = [{"appearance": 1.0, "camera": 1.0, "dynamics": 1.0}]
    env, other = (make(sensors=("camera", "end_effector_pose", "instruction"), randomise=stages) for _ in range(2))
    env.reset(seed=1)
    other.reset(seed=2)
    for _ in range(5):
        env.step(env.expert_action())
    other.restore(env.snapshot())
    for _ in range(6):
        action = env.expert_action()
        ours, theirs = env.step(action)[0], other.step(action)[0]
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    assert np.array_equal(env.reset()[0][FRONT], other.reset()[0][FRONT])
