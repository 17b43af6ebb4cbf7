"""The world: placing, drawing, projecting, and drawing nothing without OpenGL."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from sims.mujoco.placing import scatter
from sims.mujoco.things import COLOURS, MARK, SHAPES, Thing
from sims.mujoco.world import World


@pytest.fixture
def world():
    made = World("anything")
    yield made
    made.close()


def fill(world: World, seed: int) -> None:
    """Show every slot, far from the gripper."""
    rng = np.random.default_rng(seed)
    colours = list(COLOURS.items())
    places = scatter(rng, len(world.slots), 0.24, 0.12)
    for i, slot in enumerate(world.slots):
        name, rgb = colours[i % len(colours)]
        thing = Thing(name, MARK if slot.startswith("mark") else SHAPES[i % len(SHAPES)])
        world.place(slot, thing, places[i], rgb, yaw=rng.uniform(-3, 3))
    world.settle()


def centroid(mask: np.ndarray) -> np.ndarray:
    """The middle of a mask in [-1, 1] coordinates, x right and y down."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return np.array([(columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height]) * 2 - 1


@pytest.mark.parametrize(("camera", "width", "height"), [("top", 256, 256), ("front", 256, 256), ("front", 384, 256)])
def test_projection_agrees_with_the_picture(world, camera, width, height):
    for seed in range(3):
        world.reset(tip=(0, 0, 0.25))
        fill(world, seed)
        covered = world.pixels_of(camera, width, height)
        for slot in world.shown:
            if covered[slot].sum() > 50 and world.shown[slot].shape != "cylinder":
                place = world.project(camera, world.object_position(slot), aspect=width / height)
                assert np.abs(place - centroid(covered[slot])).max() < 0.05, (slot, world.shown[slot])


def test_projection_follows_a_camera_that_was_moved(world):
    world.aim("front", position=(0.3, -0.6, 0.7), target=(0.1, 0.05, 0), fovy=50)
    np.testing.assert_allclose(world.project("front", np.array([0.1, 0.05, 0.0])), [0, 0], atol=1e-9)
    right, up = world.project("front", np.array([[0.2, 0.1, 0.0], [0.1, 0.05, 0.1]]))
    assert right[0] > 0
    assert up[1] < 0
    assert np.isnan(world.project("front", np.array([0.5, -1.2, 1.4]))).all()


def test_a_thing_shows_its_colour_and_a_hidden_one_nothing(world):
    world.place("thing0", Thing("red", "cube"), (0.1, 0.1), COLOURS["red"])
    world.settle()
    seen = world.render("front", 128, 128)[world.pixels_of("front", 128, 128)["thing0"]].mean(0)
    assert seen[0] > 2 * max(seen[1], seen[2])
    world.hide("thing0")
    world.settle()
    assert "thing0" not in world.pixels_of("front", 128, 128)
    assert np.array_equal(world.render("front", 128, 128), World("anything").render("front", 128, 128))


def test_things_are_solid_and_hidden_ones_are_not(world):
    def lowest(shown: bool) -> float:
        world.reset(tip=(0.1, 0.1, 0.15))
        if shown:
            world.place("thing2", Thing("blue", "cube"), (0.1, 0.1), COLOURS["blue"])
            world.settle()
        for _ in range(10):
            world.robot.reach(world.robot.position - np.array([0, 0, 0.04]), world.robot.rotation)
            world.step()
        return float(world.tip_position[2])

    assert lowest(shown=True) == pytest.approx(0.056, abs=0.003)
    assert lowest(shown=False) == pytest.approx(0.012, abs=0.003)


def test_a_slot_refuses_a_shape_that_it_cannot_show(world):
    with pytest.raises(ValueError, match="did you mean 'cube'"):
        world.place("thing0", Thing("red", "cub"), (0, 0), COLOURS["red"])


def test_scatter_keeps_its_distance_or_says_that_it_cannot():
    places = scatter(np.random.default_rng(0), 9, 0.24, 0.1)
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(9, 1)]
    assert gaps.min() >= 0.1
    with pytest.raises(ValueError, match="no room for 50"):
        scatter(np.random.default_rng(0), 50, 0.2, 0.1)


def drawing(code: str, **variables: str) -> subprocess.CompletedProcess:
    inherited = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    code += "\nfrom sims.mujoco.world import World\nprint(World('reach').render('front', 64, 64).std() > 10)"
    return subprocess.run([sys.executable, "-c", code], env=inherited | variables, capture_output=True, text=True)


def hiding(*libraries: str) -> str:
    """Code that makes these libraries impossible to load."""
    return (
        "import ctypes\n"
        "load = ctypes.CDLL.__init__\n"
        "def guarded(self, name, *rest, **named):\n"
        f"    if name and any(part in str(name) for part in {libraries}):\n"
        "        raise OSError(name)\n"
        "    load(self, name, *rest, **named)\n"
        "ctypes.CDLL.__init__ = guarded\n"
    )


@pytest.mark.parametrize("code", ["", "import mujoco", hiding("libEGL")])
def test_draws_without_a_screen_and_leaves_in_peace(code):
    finished = drawing(code)
    assert (finished.stdout.strip(), finished.returncode) == ("True", 0), finished.stderr
    assert finished.stderr == ""


def test_without_opengl_one_message_names_the_packages():
    finished = drawing(hiding("libEGL", "libOSMesa"))
    assert finished.returncode != 0
    message = finished.stderr.partition("MissingGLError")[2]
    for package in ("libegl1", "libgl1-mesa-dri", "libosmesa6", "scripts/system_packages.sh"):
        assert package in message
    assert "During handling" not in finished.stderr


def test_an_egl_without_drivers_gives_way_to_osmesa():
    finished = drawing(
        "from sims.mujoco import gl; print(gl.choose())", __EGL_VENDOR_LIBRARY_FILENAMES="/nonexistent.json"
    )
    assert finished.stdout.split() == ["osmesa", "True"], finished.stderr


def test_the_users_own_choice_is_kept():
    finished = drawing("from sims.mujoco import gl; print(gl.choose())", MUJOCO_GL="osmesa")
    assert finished.stdout.split() == ["osmesa", "True"], finished.stderr
    finished = drawing("from sims.mujoco import gl; print(gl.choose())", PYOPENGL_PLATFORM="osmesa")
    assert finished.stdout.split() == ["osmesa", "True"], finished.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MUJOCO_GL": "nonsense"}, "MUJOCO_GL=nonsense: no such platform ("),
        ({"MUJOCO_GL": "elg"}, "MUJOCO_GL=elg: no such platform (did you mean 'egl'?); unset it"),
        (
            {"MUJOCO_GL": "glfw"},
            "MUJOCO_GL=glfw: it draws on a screen, and there is none that DISPLAY or WAYLAND_DISPLAY",
        ),
        ({"PYOPENGL_PLATFORM": "x11"}, "PYOPENGL_PLATFORM=x11: MuJoCo draws with egl or osmesa here; unset it"),
        (
            {"PYOPENGL_PLATFORM": "osmesa", "MUJOCO_GL": "egl"},
            "PYOPENGL_PLATFORM=osmesa, and MUJOCO_GL=egl: MuJoCo draws with egl here; unset it",
        ),
        ({"MUJOCO_EGL_DEVICE_ID": "abc", "MUJOCO_GL": "egl"}, "MUJOCO_EGL_DEVICE_ID=abc: the number of a device is"),
    ],
)
def test_a_variable_that_prevents_drawing_is_named(variables: dict[str, str], message: str) -> None:
    finished = drawing("", DISPLAY="", WAYLAND_DISPLAY="", **variables)
    assert finished.returncode != 0
    assert f"MissingGLError: {message}" in finished.stderr
    assert "apt-get" not in finished.stderr
