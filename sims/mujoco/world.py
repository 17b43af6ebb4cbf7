"""A table-top world: MuJoCo's model and data, cameras, a Cartesian gripper, the instruction.

The frame: metres; the origin is the centre of the table's top; x points right and y away from the
`front` camera, z points up. The gripper moves along the axes and never turns; its tip is the point
between the lower ends of its fingers.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from sims.mujoco.render import Renderer
from sims.mujoco.things import Thing
from vla_rl.paths import shipped
from vla_rl.registry import nearest

STEP = 0.04
"""How far one step can displace the commanded position along each axis, metres."""
SUBSTEPS = 12
"""Physics steps (of 4 ms) in one control step."""
WORKSPACE_LOW = np.array([-0.25, -0.25, 0.012])
WORKSPACE_HIGH = np.array([0.25, 0.25, 0.25])
"""Where the commanded position may be, metres."""

_BAD_NUMBERS = [int(getattr(mujoco.mjtWarning, f"mjWARN_BAD{what}")) for what in ("QPOS", "QVEL", "QACC")]
_SHOWN, _HIDDEN = 0, 4  # geom groups; MuJoCo draws 0 to 2
_SLOTS = ("thing", "block", "mark")


class World:
    """A compiled scene of `assets/mujoco` whose things can be shown, coloured, placed and hidden.

    A slot is a body of the scene ("thing0", "block2", "mark1") that can show one of its shapes.

    Attributes:
        model, data: MuJoCo's own.
        instruction: what the task says, a str.
        slots: names of the scene's slots, in its order.
        shown: the `Thing` that each filled slot shows.
    """

    def __init__(self, scene: str) -> None:
        self.model = mujoco.MjModel.from_xml_path(str(shipped("assets") / "mujoco" / f"{scene}.xml"))
        self.data = mujoco.MjData(self.model)
        self.instruction = ""
        self.shown: dict[str, Thing] = {}
        self.cameras = tuple(self.model.camera(i).name for i in range(self.model.ncam))
        names = [self.model.body(i).name for i in range(self.model.nbody)]
        self._bodies = {name: i for i, name in enumerate(names) if name.rstrip("0123456789") in _SLOTS}
        self.slots = tuple(self._bodies)
        self._geoms = {slot: self._geoms_of(body) for slot, body in self._bodies.items()}
        self._tip = self.model.site("tip").id
        self._gripper_home = self.model.body("gripper").pos.copy()
        self._renderers: dict[tuple[int, int], Renderer] = {}
        self.reset()

    def _geoms_of(self, body: int) -> dict[str, int]:
        """Shape -> geom of a slot; the scene numbers its names ("cube3")."""
        first, count = self.model.body_geomadr[body], self.model.body_geomnum[body]
        return {self.model.geom(i).name.rstrip("0123456789"): int(i) for i in range(first, first + count)}

    # Placing things

    def reset(self, tip: ArrayLike = (0.0, 0.0, 0.12)) -> None:
        """Hide everything and hold the gripper still with its tip at `tip` [3]."""
        mujoco.mj_resetData(self.model, self.data)
        for slot in self.slots:
            self.hide(slot)
        self._command(np.asarray(tip, np.float64))
        self.data.qpos[:3] = self.data.ctrl
        self.instruction = ""
        self.settle()

    def place(self, slot: str, thing: Thing, position: ArrayLike, colour: ArrayLike, yaw: float = 0) -> None:
        """Show `thing` at `position` [2] (x, y on the table), painted `colour` [3] in [0, 1], turned by `yaw` rad.

        Call `settle` after the last one.

        Raises:
            ValueError: the slot cannot show the shape.
        """
        self.hide(slot)
        body, geoms = self._bodies[slot], self._geoms[slot]
        if thing.shape not in geoms:
            raise ValueError(f"{slot} cannot show a {thing.shape!r}; {nearest(thing.shape, geoms)}")
        geom = geoms[thing.shape]
        x, y = np.asarray(position, np.float64)
        self.model.geom_group[geom] = _SHOWN
        self.model.geom_rgba[geom, :3] = colour
        self._set_solid(geom, not slot.startswith("mark"))
        if self.model.body_jntnum[body]:
            first = self.model.jnt_qposadr[self.model.body_jntadr[body]]
            self.data.qpos[first : first + 3] = (x, y, yaw)
        else:
            self.model.body_pos[body] = (x, y, 0.0)
            self.model.body_quat[body] = (np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        self.shown[slot] = thing

    def hide(self, slot: str) -> None:
        """Let `slot` show nothing, and touch nothing."""
        for geom in self._geoms[slot].values():
            self.model.geom_group[geom] = _HIDDEN
            self._set_solid(geom, False)
        self.shown.pop(slot, None)

    def _set_solid(self, geom: int, solid: bool) -> None:
        self.model.geom_contype[geom] = self.model.geom_conaffinity[geom] = int(solid)

    def settle(self) -> None:
        """Bring every derived quantity up to date with what was placed."""
        mujoco.mj_forward(self.model, self.data)

    # Moving

    def move(self, displacement: np.ndarray) -> None:
        """Displace the commanded position by `displacement` [3] in [-1, 1] (times STEP), and step the physics."""
        self._command(self._commanded + STEP * displacement)
        mujoco.mj_step(self.model, self.data, SUBSTEPS)
        # mj_step leaves places one physics step behind the joints.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def _command(self, position: np.ndarray) -> None:
        self._commanded = np.minimum(np.maximum(position, WORKSPACE_LOW), WORKSPACE_HIGH)
        self.data.ctrl[:] = self._commanded - self._gripper_home

    # Physics facts

    @property
    def tip_position(self) -> np.ndarray:
        """Where the gripper's tip is [3], metres."""
        return self.data.site_xpos[self._tip].copy()

    @property
    def commanded_position(self) -> np.ndarray:
        """Where the tip was told to go [3], metres; it trails by about one step."""
        return self._commanded.copy()

    @property
    def joint_positions(self) -> np.ndarray:
        """How far each of the gripper's slides is from its middle [3], metres."""
        return self.data.qpos[:3].copy()

    @property
    def diverged(self) -> bool:
        """Whether MuJoCo met numbers it could not go on with since the last reset, and started over by itself."""
        return bool(self.data.warning.number[_BAD_NUMBERS].any())

    def object_position(self, slot: str) -> np.ndarray:
        """The centre of what `slot` shows [3], metres."""
        return self.data.geom_xpos[self._shown_geom(slot)].copy()

    def object_top(self, slot: str) -> np.ndarray:
        """The middle of the upper side of what `slot` shows [3], metres."""
        centre = self.object_position(slot)
        centre[2] *= 2  # everything stands on the table
        return centre

    def _shown_geom(self, slot: str) -> int:
        return self._geoms[slot][self.shown[slot].shape]

    # Looking

    def camera_id(self, camera: str) -> int:
        """The model's index of a camera. Raises ValueError, naming those there are."""
        if camera not in self.cameras:
            raise ValueError(
                f"no camera {camera!r} in this world; {nearest(camera, self.cameras)} "
                f"(cameras: {', '.join(self.cameras)})"
            )
        return self.cameras.index(camera)

    def render(self, camera: str, width: int, height: int) -> np.ndarray:
        """What `camera` sees: uint8 [height, width, 3].

        Raises:
            ValueError: no such camera.
            MissingGLError: nothing to draw with.
        """
        return self._renderer(width, height).image(self.data, self.camera_id(camera))

    def pixels_of(self, camera: str, width: int, height: int) -> dict[str, np.ndarray]:
        """Which pixels of `camera` each filled slot, and the "gripper", cover: bool [height, width] each."""
        geoms = self._renderer(width, height).geoms(self.data, self.camera_id(camera))
        masks = {slot: geoms == self._shown_geom(slot) for slot in self.shown}
        gripper = np.flatnonzero(self.model.geom_bodyid == self.model.body("gripper").id)
        return masks | {"gripper": np.isin(geoms, gripper)}

    def _renderer(self, width: int, height: int) -> Renderer:
        if (width, height) not in self._renderers:
            self._renderers[width, height] = Renderer(self.model, width, height)
        return self._renderers[width, height]

    def aim(self, camera: str, position: ArrayLike, target: ArrayLike, fovy: float) -> None:
        """Put `camera` at `position` [3], looking at `target` [3], level, with a vertical view of `fovy` degrees."""
        index = self.camera_id(camera)
        backward = np.subtract(position, target) / np.linalg.norm(np.subtract(position, target))
        right = np.cross((0.0, 0.0, 1.0), backward)
        # Straight down there is no level; keep the table's y up.
        right = right / np.linalg.norm(right) if np.linalg.norm(right) > 1e-6 else np.array([1.0, 0.0, 0.0])
        axes = np.stack([right, np.cross(backward, right), backward], axis=1)
        self.model.cam_pos[index] = position
        self.model.cam_fovy[index] = fovy
        mujoco.mju_mat2Quat(self.model.cam_quat[index], axes.ravel())
        mujoco.mj_camlight(self.model, self.data)

    def project(self, camera: str, points: np.ndarray, aspect: float = 1.0) -> np.ndarray:
        """Where `camera` shows world points [..., 3]: [..., 2], x right and y down, [-1, 1] over the image.

        `aspect` is the image's width over its height. NaN for points behind the camera.
        """
        index = self.camera_id(camera)
        axes = self.data.cam_xmat[index].reshape(3, 3)  # columns: right, up, backward
        seen = (np.asarray(points, np.float64) - self.data.cam_xpos[index]) @ axes
        depth = np.where(seen[..., 2] < 0, -seen[..., 2], np.nan)
        half = depth * np.tan(np.radians(self.model.cam_fovy[index]) / 2)
        return np.stack([seen[..., 0] / (half * aspect), -seen[..., 1] / half], axis=-1)

    def close(self) -> None:
        """Free the pictures' buffers. Drawing again makes new ones."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
