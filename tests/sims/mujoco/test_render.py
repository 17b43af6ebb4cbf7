"""Renderers share an OpenGL context, and none sees that the others are there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import gymnasium
import mujoco
import numpy as np
import pytest

import sims  # noqa: F401  (registers the environments)
from sims.mujoco import gl
from sims.mujoco.render import Renderer, light
from vla_rl.specs import IMAGES


def make(name: str, size: int) -> gymnasium.Env:
    sensors = [{"type": "camera", "name": "front", "width": size, "height": size}, {"type": "instruction"}]
    return gymnasium.make(f"vla_rl/{name}-v0", sensors=sensors).unwrapped


def film(env: gymnasium.Env, seed: int, steps: int = 3) -> list[np.ndarray]:
    shown = [env.reset(seed=seed)[0]]
    shown += [env.step(np.full(env.action_space.shape, 0.5, np.float32))[0] for _ in range(steps)]
    return [observation[IMAGES + "front"] for observation in shown]


def test_models_and_sizes_in_turn_draw_what_each_draws_alone() -> None:
    kinds = [("Reach", 64), ("Pick", 96), ("Reach", 32), ("Stack", 64), ("Reach", 64)]
    alone = []
    for kind in kinds:
        env = make(*kind)
        alone.append(film(env, seed=5))
        env.close()
    envs = [make(*kind) for kind in kinds]
    shown = [[env.reset(seed=5)[0][IMAGES + "front"]] for env in envs]
    for _ in range(3):
        for env, frames in zip(envs, shown, strict=True):
            observation, *_ = env.step(np.full(env.action_space.shape, 0.5, np.float32))
            frames.append(observation[IMAGES + "front"])
    assert all(np.array_equal(one, other) for one, other in zip(alone, shown, strict=True))
    envs[0].close()  # frees its own, not what the others share
    assert np.array_equal(film(envs[1], seed=5), alone[1])
    for env in envs[1:]:
        env.close()


def test_every_thread_has_a_context_of_its_own() -> None:
    expected = film(make("Reach", 64), seed=9)
    films: dict[int, list[np.ndarray]] = {}

    def draw(number: int) -> None:
        films[number] = film(make("Reach", 64), seed=9, steps=3)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(films) == 3
    assert all(np.array_equal(shown, expected) for shown in films.values())


def test_contexts_come_and_go() -> None:
    first = None
    for _ in range(30):
        env = make("Reach", 32)
        shown = film(env, seed=1, steps=0)
        env.close()
        first = first or shown
        assert np.array_equal(shown, first)


def test_another_packages_context_in_between_changes_nothing() -> None:
    expected = film(make("Reach", 64), seed=9)
    env = make("Reach", 64)
    shown = [env.reset(seed=9)[0]]
    theirs = gl.context_class().__mro__[1](32, 32)  # as MuJoCo's own renderer, or Gymnasium's viewer, has
    for _ in range(3):
        theirs.make_current()
        shown.append(env.step(np.full(env.action_space.shape, 0.5, np.float32))[0])
    theirs.free()
    assert all(np.array_equal(one[IMAGES + "front"], two) for one, two in zip(shown, expected, strict=True))


SCENE = """<mujoco><asset>
<texture name="tiles" type="2d" builtin="checker" rgb1="{colour}" rgb2="1 1 1" width="64" height="64"/>
<material name="tiles" texture="tiles" texrepeat="4 4"/></asset>
<worldbody><camera name="front" pos="0 -1.2 0.6" xyaxes="1 0 0 0 0.45 0.9"/><light pos="0 0 3"/>
<geom type="plane" size="{half} {half} 0.1" material="tiles"/>
<geom type="sphere" size="{radius}" pos="0 0 0.2" rgba="0.8 0.2 0.2 1"/></worldbody></mujoco>"""


def scene(colour: str = "1 0 0", half: float = 0.5, radius: float = 0.15) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(SCENE.format(colour=colour, half=half, radius=radius))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_only_models_that_look_alike_to_opengl_share_what_it_has_of_them() -> None:
    kinds = [{}, {"colour": "0 0 1"}, {"half": 0.3}, {"radius": 0.1}, {}]
    scenes = [scene(**kind) for kind in kinds]
    with ThreadPoolExecutor(len(scenes)) as threads:  # alone: nothing is shared between threads
        alone = list(threads.map(lambda each: Renderer(each[0], 64, 64).image(each[1], 0), scenes))
    renderers = [Renderer(model, 64, 64) for model, _ in scenes]
    together = [renderer.image(data, 0) for renderer, (_, data) in zip(renderers, scenes, strict=True)]
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
    assert len({picture.tobytes() for picture in together}) == 4, "the scenes differ, but for the last"
    canvases = [renderer._canvas for renderer in renderers]
    assert canvases[0] is canvases[4], "equal models"
    assert canvases[0] is canvases[3], "a sphere's size is told with every picture"
    assert len(set(map(id, canvases))) == 3


@pytest.mark.parametrize("size", [48, 64, 128, 300])
def test_sides_that_a_picture_cannot_show_are_left_out(size: int) -> None:
    model, data = scene(radius=0.11)
    quality = model.vis.quality
    quality.numslices, quality.numstacks = 300, 150
    with light(model, size, size):
        assert quality.numslices == np.ceil(np.pi / 2 * np.sqrt(size))
    ours = Renderer(model, size, size).geoms(data, 0) == 1
    assert (quality.numslices, quality.numstacks) == (300, 150)
    x, y = np.meshgrid(*[(np.arange(size) + 0.5) / size * 2 - 1] * 2)
    rays = np.stack([x, -y, np.full_like(x, -1 / np.tan(np.radians(model.cam_fovy[0]) / 2))], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    centre = (data.geom_xpos[1] - data.cam_xpos[0]) @ data.cam_xmat[0].reshape(3, 3)
    exactly = centre @ centre - (rays @ centre) ** 2 < model.geom_size[1, 0] ** 2
    outline = 2 * np.sqrt(np.pi * exactly.sum())
    # The sphere is less than a quarter of the picture wide: slices and stacks are each off by less than 1/4 pixel.
    assert (ours != exactly).sum() < outline / 2
    quality.numslices, quality.numstacks = 4, 2  # a model's own number counts where it is smaller
    assert (Renderer(model, size, size).geoms(data, 0) == 1).sum() < 0.97 * exactly.sum()
