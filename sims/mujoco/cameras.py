"""The cameras of a world: what they see, and where they stand."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from sims.mujoco import rotations
from sims.mujoco.render import Renderer
from vla_rl.registry import nearest


class Cameras:
    """Draws what a model's cameras see at any size.

    Attributes:
        names: the cameras', in the model's order.

    Raises:
        ValueError: from every method that is told a camera, where there is none of that name.
        MissingGLError: from every method that draws, where there is nothing to draw with.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self.names = tuple(model.camera(i).name for i in range(model.ncam))
        self._model, self._data = model, data
        self._renderers: dict[tuple[int, int], Renderer] = {}

    def index(self, camera: str) -> int:
        """The model's index of a camera. Raises ValueError, naming those there are."""
        if camera not in self.names:
            raise ValueError(
                f"no camera {camera!r} in this world; {nearest(camera, self.names)} (cameras: {', '.join(self.names)})"
            )
        return self.names.index(camera)

    def image(self, camera: str, width: int, height: int) -> np.ndarray:
        """What `camera` sees: uint8 [height, width, 3]."""
        return self._renderer(width, height).image(self._data, self.index(camera))

    def depth(self, camera: str, width: int, height: int) -> np.ndarray:
        """How far what `camera` sees lies before it, along its axis: float32 [height, width], metres."""
        return self._renderer(width, height).depth(self._data, self.index(camera))

    def geoms(self, camera: str, width: int, height: int) -> np.ndarray:
        """Which geom each pixel of `camera` shows: int32 [height, width], -1 for none."""
        return self._renderer(width, height).geoms(self._data, self.index(camera))

    def aim(self, camera: str, position: ArrayLike, target: ArrayLike, fovy: float) -> None:
        """See `World.aim`."""
        index = self.index(camera)
        self._model.cam_pos[index] = position
        self._model.cam_fovy[index] = fovy
        mujoco.mju_mat2Quat(self._model.cam_quat[index], rotations.looking(position, target).ravel())
        mujoco.mj_camlight(self._model, self._data)

    def project(self, camera: str, points: np.ndarray, aspect: float) -> np.ndarray:
        """See `World.project`."""
        index = self.index(camera)
        axes = self._data.cam_xmat[index].reshape(3, 3)  # columns: right, up, backward
        seen = (np.asarray(points, np.float64) - self._data.cam_xpos[index]) @ axes
        depth = np.where(seen[..., 2] < 0, -seen[..., 2], np.nan)
        half = depth * np.tan(np.radians(self._model.cam_fovy[index]) / 2)
        return np.stack([seen[..., 0] / (half * aspect), -seen[..., 1] / half], axis=-1)

    def close(self) -> None:
        """Free the pictures' buffers. Drawing again makes new ones."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _renderer(self, width: int, height: int) -> Renderer:
        if (width, height) not in self._renderers:
            self._renderers[width, height] = Renderer(self._model, width, height)
        return self._renderers[width, height]
