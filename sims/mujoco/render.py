"""One offscreen buffer of one size, and what is drawn into it."""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np

from sims.mujoco import gl, scenes

_SPARE_GEOMS = 16
_UPLOADED = ("flex", "hfield_", "mat_", "mesh_", "skin_", "tex_")
"""How the names begin of the arrays of a model that OpenGL gets."""


class Renderer:
    """Draws a model's cameras at one size, in the thread that made it; `light` says how finely.

    Unlike `mujoco.Renderer` it works whether or not mujoco was imported before the platform was chosen,
    has a buffer no larger than the picture, and frees itself before the interpreter tears OpenGL down.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self._model = model
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + model.nwrap + _SPARE_GEOMS)
        self._scene.flags[:] = 0  # no shadow, reflection, skybox, fog or haze: the scene has none
        self._scene.flags[int(mujoco.mjtRndFlag.mjRND_CULL_FACE)] = 1
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED.value
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._flipped = np.empty((height, width, 3), np.uint8)
        with light(model, width, height):
            self._canvas: _Canvas | None = _here.shared(_contents(model), lambda: _Canvas(model))

    def close(self) -> None:
        """Give the buffer up; nothing can be drawn then."""
        self._canvas = None

    def image(self, data: mujoco.MjData, camera: int | mujoco.MjvCamera) -> np.ndarray:
        """What `camera`, the model's by its index or one of your own, sees: a fresh uint8 [height, width, 3]."""
        self._draw(data, camera)
        return self._flipped[::-1].copy()  # OpenGL's rows run upwards

    def depth(self, data: mujoco.MjData, camera: int | mujoco.MjvCamera) -> np.ndarray:
        """How far what each pixel of `camera` shows lies before it: float32 [height, width], metres."""
        context = self._draw(data, camera)
        buffer = np.empty(self._flipped.shape[:2], np.float32)
        mujoco.mjr_readPixels(None, buffer, self._rect, context)
        extent, clip = self._model.stat.extent, self._model.vis.map
        near, far = clip.znear * extent, clip.zfar * extent
        return (near / (1 - buffer[::-1] * (1 - near / far))).astype(np.float32)

    def geoms(self, data: mujoco.MjData, camera: int | mujoco.MjvCamera) -> np.ndarray:
        """Which geom each pixel of `camera` shows: int32 [height, width], -1 for none."""
        flags = [int(mujoco.mjtRndFlag.mjRND_SEGMENT), int(mujoco.mjtRndFlag.mjRND_IDCOLOR)]
        self._scene.flags[flags] = 1
        self._draw(data, camera)
        self._scene.flags[flags] = 0
        shown = self._flipped[::-1].astype(np.int32) @ np.array([1, 2**8, 2**16], np.int32)
        ids = np.full(self._scene.ngeom + 1, -1, np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if int(geom.objtype) == int(mujoco.mjtObj.mjOBJ_GEOM):
                ids[geom.segid + 1] = geom.objid
        return ids[shown]

    def _draw(self, data: mujoco.MjData, camera: int | mujoco.MjvCamera) -> mujoco.MjrContext:
        assert self._canvas is not None, "the renderer is closed"
        context = self._canvas.begin()
        if isinstance(camera, int):
            self._camera.fixedcamid = camera
            camera = self._camera
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._option, None, camera, everything, self._scene)
        mujoco.mjr_render(self._rect, self._scene, context)
        mujoco.mjr_readPixels(self._flipped, None, self._rect, context)
        return context


@contextlib.contextmanager
def light(model: mujoco.MjModel, width: int, height: int) -> Iterator[None]:
    """Have what is made of a model meanwhile draw no more than a picture of this size can show.

    No shadows, no smoothed edges, which take two thirds of a small picture's time without a GPU, and flat faces in one
    piece. Round things get n = pi / 2 * sqrt(S) sides for S pixels, or the model's own number if that is smaller: a
    circle of r pixels is then off by r * (1 - cos(pi / n)), a quarter of a pixel for what is a quarter of S wide.
    """
    quality, buffer = model.vis.quality, model.vis.global_
    sides = math.ceil(math.pi / 2 * math.sqrt(max(width, height)))
    most = {"offsamples": 0, "shadowsize": 0, "numslices": sides, "numstacks": -(-sides // 2), "numquads": 1}
    kept = {name: getattr(quality, name) for name in most}
    size = buffer.offwidth, buffer.offheight
    try:
        for name, value in kept.items():
            setattr(quality, name, min(value, most[name]))
        buffer.offwidth, buffer.offheight = width, height
        yield
    finally:
        buffer.offwidth, buffer.offheight = size
        for name, value in kept.items():
            setattr(quality, name, value)


class _Here(threading.local):
    """What the renderers of a thread share as long as one of them refers to it: the context, canvases by contents."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()

    def shared(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is known by `key`, made where there is none."""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = make()
        return found


_here = _Here()


class _Canvas:
    """A buffer to draw into, and what OpenGL has of a model to draw with: shapes, meshes, textures.

    All renderers of a thread share one where they would make the same, as those of environments of one kind do. Each
    would fill the processor's cache anew, or a GPU's memory.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        buffer = model.vis.global_
        self._gl: _Context = _here.shared(_Context, lambda: _Context(buffer.offwidth, buffer.offheight))
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        # Not at exit: there the display may be gone before us, and the process frees all of it anyway.
        weakref.finalize(self, _free, self._gl, self._context).atexit = False

    def begin(self) -> mujoco.MjrContext:
        """Have OpenGL draw here."""
        self._gl.make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        return self._context


class _Context:
    """An OpenGL context. All canvases of a thread share one."""

    def __init__(self, width: int, height: int) -> None:
        try:
            made = gl.context_class()(width, height)
        except (ImportError, RuntimeError) as error:
            if isinstance(error, gl.MissingGLError):
                raise
            raise gl.MissingGLError(gl.HELP.format(reason=error)) from error
        self.make_current = made.make_current
        weakref.finalize(self, made.free).atexit = False


def _free(context_gl: _Context, context: mujoco.MjrContext) -> None:
    context_gl.make_current()
    context.free()


def _contents(model: mujoco.MjModel) -> bytes:
    """A digest of all that `MjrContext` takes from a model."""
    vis, planes = model.vis, model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)
    parts = {"size": model.geom_size[planes], "matid": model.geom_matid[planes], "fog": vis.rgba.fog}
    parts |= {"extent": np.array(model.stat.extent)} | scenes.arrays(model, _UPLOADED)
    parts |= {name: np.array(_numbers(getattr(vis, name))) for name in ("global_", "map", "quality")}
    digest = hashlib.blake2b()
    for name, part in parts.items():
        digest.update(repr((name, part.shape)).encode() + part.tobytes())
    return digest.digest()


def _numbers(group: Any) -> list[float]:
    """The settings of a part of MuJoCo's `vis`."""
    return [float(getattr(group, name)) for name in dir(group) if not name.startswith("_")]
