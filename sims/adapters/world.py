"""What another package's environment shows: its last observation, its MuJoCo model where it has one, the words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np

from sims.adapters.meshes import coarse
from sims.adapters.settings import View
from sims.mujoco.render import Renderer
from sims.mujoco.world import BAD_NUMBERS
from vla_rl.registry import nearest

_CELLS = 8
"""Meshes stay this many times finer than the pixels of a picture of the whole model."""


class ForeignWorld:
    """An environment as sensors and experts see it.

    Attributes:
        env: the environment, with its wrappers.
        kwargs: what it was made with.
        observation: what it last returned, in its own form.
        instruction: what is to be done, a str.
    """

    def __init__(self, env: gymnasium.Env, kwargs: Mapping[str, Any], views: Mapping[str, View]) -> None:
        self.env = env
        self.kwargs = dict(kwargs)
        self.observation: Any = None
        self.instruction = ""
        self._views = dict(views)
        self._free: dict[str, mujoco.MjvCamera] = {}
        self._renderers: dict[tuple[int, int], Renderer] = {}
        self._drawn: mujoco.MjModel | None = None
        self._stale = True
        self._warnings = 0
        if views and self.model is None:
            raise ValueError("cameras: this environment has no MuJoCo model; observe its pictures by `foreign_image`")

    def show(self, observation: Any, *, begins: bool) -> None:
        """Take in what the environment has just returned."""
        self.observation = observation
        self._stale = True
        if begins:
            self._warnings = self._bad_numbers()

    @property
    def model(self) -> mujoco.MjModel | None:
        """MuJoCo's model, where the environment has one."""
        model = getattr(self.env.unwrapped, "model", None)
        return model if isinstance(model, mujoco.MjModel) else None

    @property
    def data(self) -> mujoco.MjData:
        """MuJoCo's data, where the environment has a model."""
        return self.env.unwrapped.data  # type: ignore[attr-defined]

    @property
    def diverged(self) -> bool:
        """Whether MuJoCo met numbers it could not go on with since the episode began, and started over by itself."""
        return self._bad_numbers() > self._warnings

    def _bad_numbers(self) -> int:
        return 0 if self.model is None else int(self.data.warning.number[BAD_NUMBERS].sum())

    # Looking

    @property
    def cameras(self) -> tuple[str, ...]:
        """The config's cameras, and the model's that have a name."""
        model = self.model
        named = [model.camera(i).name for i in range(model.ncam)] if model is not None else []
        return (*self._views, *(name for name in named if name and name not in self._views))

    def camera_id(self, camera: str) -> int:
        """The model's index of a camera, -1 for one of the config's. Raises ValueError, naming those there are."""
        if camera not in self.cameras:
            there = ", ".join(self.cameras) or "none; `foreign_image` shows what the environment itself draws"
            raise ValueError(
                f"no camera {camera!r} in this world; {nearest(camera, self.cameras)} (cameras: {there})"
                if self.cameras
                else f"no camera {camera!r} in this world (cameras: {there})"
            )
        return -1 if camera in self._views else int(self.model.camera(camera).id)  # type: ignore[union-attr]

    def render(self, camera: str, width: int, height: int) -> np.ndarray:
        """What `camera` sees: uint8 [height, width, 3], drawn by our renderer.

        Raises:
            ValueError: no such camera.
            MissingGLError: nothing to draw with.
        """
        index = self.camera_id(camera)
        renderer = self._renderer(width, height)
        if self._stale and hasattr(self.env.unwrapped, "_render_callback"):
            self.env.unwrapped._render_callback()  # Fetch and its kin put the goal where it is drawn only here
        self._stale = False
        return renderer.image(self.data, self._free_camera(camera) if index < 0 else index)

    def own_picture(self) -> Any:
        """What the environment's own `render()` gives."""
        viewer = getattr(getattr(self.env.unwrapped, "mujoco_renderer", None), "viewer", None)
        if viewer is not None:  # Gymnasium's draws into whichever context is current, and ours may be
            viewer.make_context_current()
        return self.env.render()

    def _renderer(self, width: int, height: int) -> Renderer:
        model = self.model
        assert model is not None, "camera_id has refused"
        if model is not self._drawn:  # some environments compile anew
            self.close()
            self._drawn = model
        if (width, height) not in self._renderers:
            self._renderers[width, height] = _coarse_renderer(model, width, height)
        return self._renderers[width, height]

    def _free_camera(self, name: str) -> mujoco.MjvCamera:
        if name not in self._free:
            view, camera = self._views[name], mujoco.MjvCamera()
            camera.type = mujoco.mjtCamera.mjCAMERA_FREE.value
            camera.azimuth, camera.elevation, camera.distance = view.azimuth, view.elevation, view.distance
            camera.lookat[:] = view.lookat
            if view.body is not None:
                camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING.value
                camera.trackbodyid = self.model.body(view.body).id  # type: ignore[union-attr]
            self._free[name] = camera
        return self._free[name]

    def close(self) -> None:
        """Free the pictures' buffers. Drawing again makes new ones."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
        self._free.clear()


def _coarse_renderer(model: mujoco.MjModel, width: int, height: int) -> Renderer:
    with coarse(model, cell=float(model.stat.extent) / (_CELLS * max(width, height))):
        return Renderer(model, width, height)
