"""A table-top world: MuJoCo's model and data, a robot, cameras, things, the instruction.

The frame: metres; the origin is the centre of the table's top; x points right and y away from the
`front` camera, z points up.
"""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from sims.mujoco import rotations, scenes, slots
from sims.mujoco.cameras import Cameras
from sims.mujoco.robots import ROBOTS, Robot
from sims.mujoco.table import SUBSTEPS
from sims.mujoco.things import Thing
from vla_rl.registry import nearest

BAD_NUMBERS = [int(getattr(mujoco.mjtWarning, f"mjWARN_BAD{what}")) for what in ("QPOS", "QVEL", "QACC", "CTRL")]
"""The warnings of MuJoCo by which a simulation has diverged."""
_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
_SHOWN, _HIDDEN = 0, 4  # geom groups; MuJoCo draws 0 to 2


class World:
    """A compiled scene of `assets/mujoco` whose things can be shown, coloured, placed and hidden.

    A slot is a body of the scene ("thing0", "block2", "mark1") that can show one of its shapes. A shape is the
    geoms of the slot (its moving parts' too) whose names begin with it; parts named `<shape>_trim...` keep their
    own colour.

    Args:
        scene: the name of a file of `assets/mujoco`, or the path of one of your own.
        robot: who stands at the table, a name of `robots.ROBOTS`.

    Attributes:
        model, data: MuJoCo's own.
        compiled: the model's arrays by name as they were compiled; what is not drawn at random goes back to them.
        headlight: the light at the camera as it was compiled, [3].
        robot: what the robot is told.
        instruction: what the task says, a str. named: the slots that it names, in the order of their mention.
        slots: names of the scene's slots, in its order.
        shown: the `Thing` that each filled slot shows.
        previous_action: what was done last, float32; zeros before the first step.
        memory: what a task has to remember of the episode so far; of JSON's types.
        looked: whether the camera `close_up` was called in this step.
    """

    def __init__(self, scene: str, robot: str = "gripper") -> None:
        if robot not in ROBOTS:
            raise ValueError(f"robot: {robot!r} is unknown; {nearest(robot, ROBOTS)}")
        self.model = mujoco.MjModel.from_xml_string(*scenes.source(scene, robot))
        self.compiled = _arrays(self.model)
        self.headlight = self.model.vis.headlight.diffuse.copy()
        self.data = mujoco.MjData(self.model)
        self.robot: Robot = ROBOTS[robot](self.model)
        self.instruction, self.named = "", tuple[str, ...]()
        self.shown: dict[str, Thing] = {}
        self.memory: dict[str, Any] = {}
        self.previous_action = np.zeros(0, np.float32)
        self.looked = False
        self._cameras = Cameras(self.model, self.data)
        self.cameras = self._cameras.names
        self._slots = slots.of_model(self.model)
        self.slots = tuple(self._slots)
        self._fingers = [slots.geoms_under(self.model, self.model.body(name).id) for name in self.robot.fingers]
        bodies = [self.model.body(name).id for name in self.robot.parts]
        self._robot_geoms = np.flatnonzero(np.isin(self.model.geom_bodyid, bodies))
        self._joint_qpos = [self.model.joint(name).qposadr[0] for name in self.robot.joints]
        self._joint_dofs = [self.model.joint(name).dofadr[0] for name in self.robot.joints]
        self._finger_qpos = [self.model.joint(name).qposadr[0] for name in self.robot.fingers]
        measured = [self.model.sensor(i) for i in range(self.model.nsensor)]
        self._measured = {each.name: slice(each.adr[0], each.adr[0] + each.dim[0]) for each in measured}
        self._tip = self.model.site("tip").id
        self._contype, self._conaffinity = self.model.geom_contype.copy(), self.model.geom_conaffinity.copy()
        self._before = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        self._stepped = False
        self.reset()

    # Placing things

    def reset(self, tip: ArrayLike = (0.0, 0.0, 0.12)) -> None:
        """Hide everything and hold the robot still with its tip at `tip` [3], metres."""
        mujoco.mj_resetData(self.model, self.data)
        for slot in self.slots:
            self.hide(slot)
        self.robot.reset(self.data, np.asarray(tip, np.float64))
        self.instruction, self.named = "", ()
        self.memory = {}
        self.looked = False
        self.previous_action = np.zeros_like(self.previous_action)
        self.settle()

    def place(
        self, slot: str, thing: Thing, position: ArrayLike, colour: ArrayLike, yaw: float = 0, height: float = 0
    ) -> None:
        """Show `thing` at `position` [2] (x, y on the table), painted `colour` [3] in [0, 1], turned by `yaw` rad.

        `height` lifts its footprint above the table, metres. Call `settle` after the last one.

        Raises:
            ValueError: the slot cannot show the shape.
        """
        self.hide(slot)
        body, shapes = self._slots[slot].body, self._slots[slot].shapes
        if thing.shape not in shapes:
            raise ValueError(f"{slot} cannot show a {thing.shape!r}; {nearest(thing.shape, shapes)}")
        self.model.geom_group[shapes[thing.shape]] = _SHOWN
        self.paint(slot, colour, thing.shape)
        self._set_solid(shapes[thing.shape], True)
        self.model.body_gravcomp[body] = 0.0
        x, y = np.asarray(position, np.float64)
        turned = rotations.about_z(yaw)
        if self.model.body_jntnum[body] == 1:  # a free joint
            first = self.model.jnt_qposadr[self.model.body_jntadr[body]]
            self.data.qpos[first : first + 7] = (x, y, height, *turned)
        elif self.model.body_jntnum[body]:
            first = self.model.jnt_qposadr[self.model.body_jntadr[body]]
            self.data.qpos[first : first + 3] = (x, y, yaw)
        else:
            self.model.body_pos[body] = (x, y, height)
            self.model.body_quat[body] = turned
        self.shown[slot] = thing

    def hide(self, slot: str) -> None:
        """Let `slot` show nothing, touch nothing, and stay where it is."""
        hidden = self._slots[slot]
        self.model.geom_group[hidden.geoms] = _HIDDEN
        self._set_solid(hidden.geoms, False)
        self.model.body_gravcomp[hidden.body] = 1.0
        self.shown.pop(slot, None)

    def paint(self, slot: str, colour: ArrayLike, shape: str | None = None) -> None:
        """Give what `slot` shows (or its `shape`) a `colour` [3] in [0, 1]; its trim keeps its own."""
        self.model.geom_rgba[self._untrimmed(slot, shape or self.shown[slot].shape), :3] = colour

    def is_painted(self, slot: str, colour: ArrayLike) -> bool:
        """Whether what `slot` shows has, but for its trim, this `colour` [3]."""
        geoms = self._untrimmed(slot, self.shown[slot].shape)
        return bool((np.abs(self.model.geom_rgba[geoms, :3] - colour) < 1e-6).all())

    def _untrimmed(self, slot: str, shape: str) -> list[int]:
        """The geoms of a slot's shape without its trim."""
        return [geom for geom in self._slots[slot].shapes[shape] if "_trim" not in slots.geom_name(self.model, geom)]

    def _set_solid(self, geoms: list[int] | np.ndarray, solid: bool) -> None:
        self.model.geom_contype[geoms] = self._contype[geoms] if solid else 0
        self.model.geom_conaffinity[geoms] = self._conaffinity[geoms] if solid else 0

    def settle(self) -> None:
        """Bring every derived quantity up to date with what was placed."""
        mujoco.mj_getState(self.model, self.data, self._before, _STATE)
        self._stepped = False
        mujoco.mj_forward(self.model, self.data)

    # Moving

    def step(self) -> None:
        """Let a control step pass: the robot follows what it was told."""
        before, stages = self.data.ctrl.copy(), self.robot.stages
        self.robot.apply(self.data)
        after = self.data.ctrl.copy()
        for stage in range(1, stages + 1):
            self.data.ctrl[:] = after if stage == stages else before + (stage / stages) * (after - before)
            mujoco.mj_step(self.model, self.data, SUBSTEPS // stages - (stage == stages))
        # From here `restore` goes on, so that contacts and forces are those of the last physics step again.
        mujoco.mj_getState(self.model, self.data, self._before, _STATE)
        self._stepped = True
        self._finish_step()

    def _finish_step(self) -> None:
        mujoco.mj_step(self.model, self.data)
        # mj_step leaves places one physics step behind the joints.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def snapshot(self) -> dict[str, Any]:
        """Everything that decides what happens next: arrays, and values of JSON's types."""
        return {
            "physics": self._before.copy(),
            "stepped": self._stepped,
            "model": {name: now for name, now in _arrays(self.model).items() if (now != self.compiled[name]).any()},
            "meaninertia": float(self.model.stat.meaninertia),
            "headlight": self.model.vis.headlight.diffuse.copy(),
            "robot": self.robot.snapshot(),
            "shown": {slot: [thing.colour, thing.shape] for slot, thing in self.shown.items()},
            "instruction": self.instruction,
            "memory": copy.deepcopy(self.memory),
            "looked": self.looked,
            "previous_action": self.previous_action.copy(),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a `snapshot` of a world of the same scene and robot, bit by bit as that one would."""
        for name, value in (self.compiled | snapshot["model"]).items():
            getattr(self.model, name)[:] = value
        self.model.stat.meaninertia = snapshot["meaninertia"]
        self.model.vis.headlight.diffuse[:] = snapshot["headlight"]
        self.robot.restore(snapshot["robot"])
        self.shown = {slot: Thing(*said) for slot, said in snapshot["shown"].items()}
        self.instruction, self.memory = snapshot["instruction"], copy.deepcopy(snapshot["memory"])
        self.previous_action, self.looked = snapshot["previous_action"].copy(), snapshot["looked"]
        mujoco.mj_resetData(self.model, self.data)
        self._before[:] = snapshot["physics"]
        self._stepped = snapshot["stepped"]
        mujoco.mj_setState(self.model, self.data, self._before, _STATE)
        if self._stepped:
            self._finish_step()
        else:
            mujoco.mj_forward(self.model, self.data)

    # Physics facts

    @property
    def tip_position(self) -> np.ndarray:
        """Where the robot's tip is [3], metres."""
        return self.data.site_xpos[self._tip].copy()

    @property
    def tip_rotation(self) -> np.ndarray:
        """How the hand is turned: a rotation matrix [3, 3]; the identity points straight down."""
        return self.data.site_xmat[self._tip].reshape(3, 3).copy()

    @property
    def commanded_position(self) -> np.ndarray:
        """Where the tip was told to go [3], metres; it trails by about one step."""
        return self.robot.position.copy()

    @property
    def joint_positions(self) -> np.ndarray:
        """Of the robot's joints without the fingers, radians or metres."""
        return self.data.qpos[self._joint_qpos]

    @property
    def joint_velocities(self) -> np.ndarray:
        """Of the robot's joints without the fingers, a second."""
        return self.data.qvel[self._joint_dofs]

    @property
    def finger_gap(self) -> float:
        """How far the fingers' pads are apart, metres; 0 for fingers that do not move."""
        return float(self.data.qpos[self._finger_qpos].sum())

    @property
    def diverged(self) -> bool:
        """Whether MuJoCo met numbers it could not go on with since the last reset, and started over by itself."""
        return bool(self.data.warning.number[BAD_NUMBERS].any())

    def object_position(self, slot: str) -> np.ndarray:
        """The centre of the first part of what `slot` shows [3], metres."""
        return self.data.geom_xpos[self._shown_geoms(slot)[0]].copy()

    def object_top(self, slot: str) -> np.ndarray:
        """The centre of the first part of what `slot` shows, moved up to its highest point [3], metres."""
        centre = self.object_position(slot)
        centre[2] += self.half_height(slot)
        return centre

    def bottom(self, slot: str) -> float:
        """The height of the lowest point of the first part of what `slot` shows, metres."""
        return float(self.object_position(slot)[2]) - self.half_height(slot)

    def half_height(self, slot: str) -> float:
        """Half the height of the first part of what `slot` shows, as it is turned now, metres."""
        geom = self._shown_geoms(slot)[0]
        kind, size = int(self.model.geom_type[geom]), self.model.geom_size[geom]
        upward = np.abs(self.data.geom_xmat[geom, 6:9])
        if kind == int(mujoco.mjtGeom.mjGEOM_SPHERE):
            return float(size[0])
        if kind == int(mujoco.mjtGeom.mjGEOM_CYLINDER):
            return float(size[1] * upward[2] + size[0] * np.hypot(upward[0], upward[1]))
        return float(size @ upward)

    def part_position(self, slot: str, part: str) -> np.ndarray:
        """The centre of the geom `<shape>_<part>` of what `slot` shows [3], metres."""
        names = {slots.geom_name(self.model, geom): geom for geom in self._shown_geoms(slot)}
        return self.data.geom_xpos[names[f"{self.shown[slot].shape}_{part}"]].copy()

    def footprint(self, slot: str) -> np.ndarray:
        """The origin of the slot's body [3], metres: the centre of what touches the table when it stands there."""
        return self.data.xpos[self._slots[slot].body].copy()

    def object_yaw(self, slot: str) -> float:
        """How `slot` is turned about the vertical, radians in (-pi, pi]."""
        return rotations.yaw_of(self.data.xmat[self._slots[slot].body].reshape(3, 3))

    def upright(self, slot: str) -> float:
        """The cosine of the angle between the slot's own upward axis and the vertical."""
        return float(self.data.xmat[self._slots[slot].body, 8])

    def speed(self, slot: str) -> float:
        """How fast the slot's body moves, m/s."""
        body = self._slots[slot].body
        return float(np.linalg.norm(self.data.cvel[body, 3:])) if self.model.body_dofnum[body] else 0.0

    def travel(self, slot: str) -> float:
        """How far the moving part of `slot` (a drawer, a button's cap) has gone, metres; 0 of what has none."""
        joint = self._slots[slot].joint
        return 0.0 if joint is None else float(self.data.qpos[self.model.jnt_qposadr[joint]])

    def touched(self, slot: str) -> bool:
        """Whether the robot touches what `slot` shows."""
        return self._in_contact(self._shown_geoms(slot), self._robot_geoms)

    def touching(self, slot: str, other: str) -> bool:
        """Whether what two slots show touches."""
        return self._in_contact(self._shown_geoms(slot), self._shown_geoms(other))

    def held(self, slot: str) -> bool:
        """Whether every finger touches what `slot` shows."""
        mine = self._shown_geoms(slot)
        return bool(self._fingers) and all(self._in_contact(mine, finger) for finger in self._fingers)

    def _in_contact(self, some: list[int] | np.ndarray, others: list[int] | np.ndarray) -> bool:
        """Whether any geom of the one set touches any of the other; no geom is in both."""
        if not self.data.ncon:
            return False
        kinds = np.zeros(self.model.ngeom, np.int8)
        kinds[some] = 1
        kinds[others] = 2
        first, second = self.data.contact.geom.T
        return bool((kinds[first] + kinds[second] == 3).any())

    def sensor(self, name: str) -> np.ndarray:
        """What a sensor of the robot's file measured in the last physics step.

        Raises:
            ValueError: the robot has no such sensor.
        """
        if name not in self._measured:
            raise ValueError(f"this robot has no sensor {name!r}; {nearest(name, self._measured)}")
        return self.data.sensordata[self._measured[name]].copy()

    def _shown_geoms(self, slot: str) -> list[int]:
        return self._slots[slot].shapes[self.shown[slot].shape]

    # Looking

    def camera_id(self, camera: str) -> int:
        """The model's index of a camera. Raises ValueError, naming those there are."""
        return self._cameras.index(camera)

    def render(self, camera: str, width: int, height: int) -> np.ndarray:
        """What `camera` sees: uint8 [height, width, 3].

        Raises:
            ValueError: no such camera.
            MissingGLError: nothing to draw with.
        """
        return self._cameras.image(camera, width, height)

    def depth(self, camera: str, width: int, height: int) -> np.ndarray:
        """How far what `camera` sees lies before it, along its axis: float32 [height, width], metres."""
        return self._cameras.depth(camera, width, height)

    def pixels_of(self, camera: str, width: int, height: int) -> dict[str, np.ndarray]:
        """Which pixels of `camera` each filled slot, and the "gripper", cover: bool [height, width] each."""
        geoms = self._cameras.geoms(camera, width, height)
        masks = {slot: np.isin(geoms, self._shown_geoms(slot)) for slot in self.shown}
        return masks | {"gripper": np.isin(geoms, self._robot_geoms)}

    def aim(self, camera: str, position: ArrayLike, target: ArrayLike, fovy: float) -> None:
        """Put `camera` at `position` [3], looking at `target` [3], level, with a vertical view of `fovy` degrees."""
        self._cameras.aim(camera, position, target, fovy)

    def project(self, camera: str, points: np.ndarray, aspect: float = 1.0) -> np.ndarray:
        """Where `camera` shows world points [..., 3]: [..., 2], x right and y down, [-1, 1] over the image.

        `aspect` is the image's width over its height. NaN for points behind the camera.
        """
        return self._cameras.project(camera, points, aspect)

    def close(self) -> None:
        """Free the pictures' buffers. Drawing again makes new ones."""
        self._cameras.close()


def _arrays(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """A copy of every array of a model, by name."""
    return {name: value.copy() for name, value in scenes.arrays(model).items()}
