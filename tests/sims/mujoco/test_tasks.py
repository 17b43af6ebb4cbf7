"""Tasks say what they mean: an instruction holds for one thing only, and things lie where they can be reached."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.mujoco.things import COLOURS, SHAPES, Thing

WORDS = (*COLOURS, *SHAPES, "mark", "object", "block")


def episodes(env_id: str, count: int, **kwargs):
    env = gymnasium.make(env_id, sensors=["instruction"], **kwargs).unwrapped
    for seed in range(count):
        observation, _ = env.reset(seed=seed)
        yield env.world, observation["task"]


def named(words: list[str], things: list[Thing]) -> list[Thing]:
    """The things that fit "red cube", or "red object"."""
    colour, noun = words
    return [thing for thing in things if thing.colour == colour and noun in (thing.shape, "object", "block")]


def test_reach_names_exactly_the_target():
    seen = set()
    for world, task in episodes("vla_rl/Reach-v0", 200):
        things = list(world.shown.values())
        said = [word for word in task.split() if word in WORDS]
        assert named(said, things) == [world.shown["thing0"]], task
        assert 3 <= len(things) <= 5
        seen.add(task.rsplit(" ", 2)[0])
    assert len(seen) >= 5


def test_push_names_exactly_the_block_and_the_mark():
    for world, task in episodes("vla_rl/Push-v0", 200, blocks=3):
        blocks = [thing for slot, thing in world.shown.items() if slot.startswith("block")]
        marks = [thing for slot, thing in world.shown.items() if slot.startswith("mark")]
        said = [word for word in task.split() if word in WORDS]
        assert named(said[:2], blocks) == [world.shown["block0"]], task
        assert named(said[2:], marks) == [world.shown["mark0"]], task
        colours = [thing.colour for thing in marks]
        assert len({*colours}) == 2
        assert not {*colours} & {thing.colour for thing in blocks}


def test_shape_decides_now_and_then():
    twins = 0
    for world, _ in episodes("vla_rl/Reach-v0", 200):
        colours = [thing.colour for thing in world.shown.values()]
        twins += colours.count(world.shown["thing0"].colour) > 1
    assert 30 <= twins <= 90


@pytest.mark.parametrize("env_id", ["vla_rl/Reach-v0", "vla_rl/Push-v0"])
def test_things_lie_apart_and_in_view(env_id):
    for world, _ in episodes(env_id, 50):
        places = np.array([world.object_position(slot)[:2] for slot in world.shown])
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(len(places), 1)]
        assert gaps.min() >= 0.1
        for slot in world.shown:
            assert np.all(np.abs(world.project("front", world.object_position(slot))) < 0.95)


def test_push_starts_undone_and_every_colour_and_shape_occurs():
    colours, shapes = set(), set()
    for world, _ in episodes("vla_rl/Reach-v0", 100):
        colours.add(world.shown["thing0"].colour)
        shapes.add(world.shown["thing0"].shape)
    assert colours == {*COLOURS}
    assert shapes == {*SHAPES}
