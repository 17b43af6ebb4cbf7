"""Pictures of table tops: random things, materials, lights and cameras, rendered and labelled by MuJoCo."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from sims.grounding.bodies import FALLEN, Body, apart, carry, disturb, extent_of, fall, half_sizes, pairs_of, parts_of
from sims.grounding.picture import BARE, Maker, Picture, Split, Thing, View, cells_of
from sims.mujoco import rotations, scenes
from sims.mujoco.render import Renderer
from sims.mujoco.robots import ROBOTS
from sims.vocabulary import HELD_OUT_AZIMUTHS, HELD_OUT_HUES, paint

THINGS = 7
"""Most things on a table."""
PARTS = 5
"""Most geoms of a thing: a tray has a floor and four walls."""
TRIM = {"button": np.array([0.3, 0.3, 0.33]), "drawer": np.array([0.45, 0.38, 0.32])}
"""Colours of what is not coloured: a button's housing, a drawer's cabinet."""
TEXTURES = ("none", "speckle", "speckle2", "gradient", "stripes", "checker")
VIEWS = ("front", "front jittered", "top", "side", "orbit")
_SHARES = (0.15, 0.35, 0.15, 0.15, 0.2)
_FAMILIAR_SHARES = (0.4, 0.25, 0.0, 0.35, 0.0)


class Tables(Maker):
    """Renders random table tops, where the one robot stands or the other."""

    def __init__(self, split: Split = Split()) -> None:  # noqa: B008 (frozen)
        super().__init__(split)
        self._stages = {name: _Stage(name, split.table_sides) for name in ROBOTS}
        self._familiar = False
        self._on("gripper")

    def _on(self, robot: str) -> None:
        """Draw on the table where `robot` stands."""
        stage = self._stages[robot]
        self.model, self.data, self._renderers = stage.model, stage.data, stage.renderers
        self._robot, self._geom, self._owner, self._texture = stage.robot, stage.geom, stage.owner, stage.texture

    def close(self) -> None:
        """Free the renderers."""
        for stage in self._stages.values():
            for renderer in stage.renderers.values():
                renderer.close()

    def draw(self, rng: np.random.Generator) -> Picture:
        """A random picture with 2 to THINGS things."""
        self._familiar = not (self.split.backgrounds or self.split.cameras) and rng.random() < self.split.familiar
        self._on("gripper" if rng.random() < 0.4 else "arm")
        tip = self._tip(rng)
        bodies = self._bodies(rng, tip)
        held = -1.0
        if self.split.carried and self._robot == "arm" and rng.random() < self.split.carried:
            held = carry(bodies, tip, rng)
        for i in range(THINGS):
            self._show(i, bodies[i] if i < len(bodies) else None, rng)
        self._scenery(rng)
        self._light(rng)
        tip = self._pose(tip, held, rng)
        camera, view = self._camera(rng)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        sides = self.split.table_sides
        # Nothing is drawn from `rng` where there is no choice: exams stay the pictures that they were.
        image, owner = self._render(int(rng.choice(sides)) if len(sides) > 1 else sides[0])
        return self._label(image, owner, bodies, tip, camera, view)

    def _pose(self, tip: np.ndarray, held: float, rng: np.random.Generator) -> np.ndarray:
        """Bring the robot there, the arm's hand turned at random and around what it holds, which is `held` metres wide,
        or opened at random where that is negative; returns where its tip then is [3].
        """
        robot = self._stages[self._robot].hand
        if self._robot == "arm":
            robot.drive(robot.HOME)
            yaw = rng.uniform(-1.6, 1.6) if rng.random() < 0.6 else 0.0
            robot.reach(tip, rotations.about_z(yaw), iterations=30)
            robot.opening = float(rng.random() < 0.5) if rng.random() < 0.7 else rng.random()
            if held >= 0:
                robot.opening = min(1.0, held / (2 * robot.travel))
            robot.apply(self.data)
            self.data.qpos[:8] = self.data.ctrl[:8]
            return robot.position.copy()
        self.data.qpos[:3] = tip - [0.0, 0.0, 0.12]
        return tip

    def _tip(self, rng: np.random.Generator) -> np.ndarray:
        height = rng.uniform(0.0, 0.06) if rng.random() < 0.5 else rng.uniform(0.0, 0.24)
        return np.array([*rng.uniform(-0.27, 0.27, 2), height])

    def _bodies(self, rng: np.random.Generator, tip: np.ndarray) -> list[Body]:
        bodies: list[Body] = []
        count, split = int(rng.integers(2, THINGS + 1)), self.split
        pairs = pairs_of(rng, split.combinations, count, split.twins, split.kits)
        for colour, shape in pairs:
            half = half_sizes(shape, rng)
            for _ in range(20):
                spot = rng.uniform(-0.24, 0.24, 2)
                if all(apart(spot, half, other) for other in bodies):
                    break
            else:
                continue
            body = Body(colour, shape, half, np.array([*spot, half[2]]), rng.uniform(-np.pi, np.pi))
            if shape == "drawer":  # to the front, since its front is what has the colour
                body.yaw = rng.uniform(-0.7, 0.7)
                body.opened = 0.0 if rng.random() < 0.5 else rng.uniform(0.0, 0.11)
                body.position[2] += 0.005
            if shape in ("cube", "bar", "pad", "plate", "tray") and rng.random() < 0.3:
                body.yaw = 0.0
            if split.kits and shape == "peg" and rng.random() < FALLEN:
                fall(body, rng)
            bodies.append(body)
        disturb(bodies, tip, rng)
        return bodies

    def _show(self, index: int, body: Body | None, rng: np.random.Generator) -> None:
        """Write a thing into the model; None hides it."""
        model = self.model
        first = self._geom[f"thing{index}_0"]
        parts = slice(first, first + PARTS)
        model.geom_rgba[parts, 3] = 0.0
        if body is None:
            return
        body_id = model.geom_bodyid[first]
        model.body_pos[body_id] = body.position
        turn, lean = np.array([np.cos(body.yaw / 2), 0, 0, np.sin(body.yaw / 2)]), body.leaning / 2
        mujoco.mju_mulQuat(model.body_quat[body_id], turn, np.array([np.cos(lean), np.sin(lean), 0, 0]))
        colour, trim = (
            paint(body.colour, rng),
            TRIM[body.shape] + rng.normal(0, 0.03, 3) if body.shape in TRIM else None,
        )
        for geom, part in enumerate(parts_of(body.shape, body.half, body.opened), first):
            model.geom_type[geom], model.geom_size[geom] = part.kind, part.size
            model.geom_pos[geom] = part.position
            lying = body.shape == "capsule"
            model.geom_quat[geom] = [np.sqrt(0.5), 0, np.sqrt(0.5), 0] if lying else [1, 0, 0, 0]
            model.geom_rgba[geom] = [*(np.clip(trim, 0, 1) if part.trim and trim is not None else colour), 1.0]
            self._owner[geom] = BARE if part.trim else index
        material = model.material(f"thing{index}").id
        model.geom_matid[parts] = material if rng.random() < (0.2 if self._familiar else 0.6) else -1
        self._finish(material, rng, textures=("none", "none", "none", "speckle", "gradient"))

    def _finish(self, material: int, rng: np.random.Generator, textures: tuple[str, ...]) -> None:
        name = textures[rng.integers(len(textures))]
        role = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
        self.model.mat_texid[material, role] = -1 if name == "none" else self._texture[name]
        self.model.mat_specular[material] = rng.uniform(0, 1)
        self.model.mat_shininess[material] = rng.uniform(0, 1)
        self.model.mat_emission[material] = 0.0 if rng.random() < 0.7 else rng.uniform(0, 0.3)

    def _scenery(self, rng: np.random.Generator) -> None:
        """Colours and materials of table, floor and gripper."""
        model = self.model
        for name in ("table", "floor"):
            geom = self._geom[name]
            if self.split.backgrounds:
                textures: tuple[str, ...] = ("none", "checker")
                colour = _surface(rng, HELD_OUT_HUES)
            else:
                textures = ("none", "none", "none", "speckle", "speckle2", "gradient", "stripes")
                colour = _surface(rng, None)
            if self._familiar or (not self.split.backgrounds and rng.random() < 0.2):  # as in tabletop.xml, or nearly
                base = [0.78, 0.72, 0.62] if name == "table" else [0.35, 0.36, 0.4]
                colour, textures = np.clip(np.array(base) + rng.normal(0, 0.02, 3), 0, 1), ("none",)
            model.geom_rgba[geom, :3] = colour
            material = model.material(name).id
            model.geom_matid[geom] = material if rng.random() < 0.7 else -1
            self._finish(material, rng, textures)
        dark, light = np.array([0.22, 0.22, 0.25]), np.array([0.85, 0.85, 0.88])
        shift = rng.normal(0, 0.04, 3) if rng.random() < 0.5 else np.zeros(3)
        robot = {"gripper": ("hand", "stem"), "arm": ("palm", "wrist_cover", "elbow_cover")}[self._robot]
        for name, colour in (*((name, dark) for name in robot), ("left_finger", light), ("right_finger", light)):
            model.geom_rgba[self._geom[name], :3] = np.clip(colour + shift, 0, 1)

    def _light(self, rng: np.random.Generator) -> None:
        model = self.model
        plain = self._familiar or rng.random() < 0.3  # as in tabletop.xml
        ambient, diffuse, key = (0.35, 0.4, 0.5) if plain else rng.uniform((0.2, 0.2, 0.2), (0.5, 0.55, 0.7))
        tint = np.ones(3) if plain else rng.uniform(0.9, 1.0, 3)
        model.vis.headlight.ambient[:] = ambient * tint
        model.vis.headlight.diffuse[:] = diffuse * tint
        model.vis.headlight.specular[:] = 0.1 if plain else rng.uniform(0, 0.4)
        light = model.light("key").id
        model.light_diffuse[light] = key * tint
        model.light_specular[light] = 0.3 if plain else rng.uniform(0, 0.5)
        model.light_dir[light] = [-0.25, 0.35, -1] if plain else [*rng.uniform(-0.8, 0.8, 2), -1]

    def _camera(self, rng: np.random.Generator) -> tuple[str, View]:
        shares = _FAMILIAR_SHARES if self._familiar else _SHARES
        name = self.split.view or VIEWS[rng.choice(len(VIEWS), p=shares)]
        if self.split.cameras:
            name = "orbit"
        model, target = self.model, model_camera(self.model, "view")
        if name == "orbit":
            position, rotation, fovy = _orbit(rng, self.split.cameras)
        else:
            source = model_camera(model, name.split()[0])
            position, fovy = model.cam_pos[source].copy(), float(model.cam_fovy[source])
            rotation = _rotation(model.cam_quat[source])
            if name != "front":
                position = position + rng.normal(0, 0.025, 3)
                rotation = rotation @ _small_turn(rng.normal(0, 0.03, 3))
                fovy += rng.normal(0, 1.5)
        model.cam_pos[target] = position
        mujoco.mju_mat2Quat(model.cam_quat[target], rotation.ravel())
        model.cam_fovy[target] = fovy
        return name, View(position, rotation, float(1 / np.tan(np.radians(fovy) / 2)))

    def _render(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [side, side, 3], and int [side, side], what each pixel shows: a thing, BARE, THINGS (the gripper)."""
        camera, renderer = model_camera(self.model, "view"), self._renderers[side]
        image = renderer.image(self.data, camera)
        geoms = renderer.geoms(self.data, camera)
        return image, self._owner[geoms]

    def _label(
        self, image: np.ndarray, owner: np.ndarray, bodies: list[Body], tip: np.ndarray, camera: str, view: View
    ) -> Picture:
        places = view.project(np.array([body.position for body in bodies] + [tip]))
        owner = np.where(owner == THINGS, len(bodies), owner)
        pixels = np.bincount(owner[owner >= 0].ravel(), minlength=len(bodies) + 1)[:-1]
        things = tuple(
            Thing(
                body.colour,
                body.shape,
                (float(x), float(y)),
                extent_of(body, view),
                int(count),
                float(body.position[2]),
            )
            for body, (x, y), count in zip(bodies, places[:-1], pixels, strict=True)
        )
        inside = bool(np.all(np.abs(places[-1]) <= 1))
        return Picture(
            image=image, things=things, cells=cells_of(owner, len(things) + 1), kind="table", camera=camera,
            self_place=(float(places[-1, 0]), float(places[-1, 1])) if inside else None,
            self_height=float(tip[2]), view=view,
        )  # fmt: skip


def model_camera(model: Any, name: str) -> int:
    """The id of a camera."""
    return mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)


class _Stage:
    """The table with one robot: a model into which sizes, colours and places are written, and a renderer a side."""

    def __init__(self, robot: str, sides: Sequence[int]) -> None:
        self.robot = robot
        self.model = _compile(robot)
        self.data = mujoco.MjData(self.model)
        self.hand: Any = ROBOTS[robot](self.model)
        self.renderers = {side: Renderer(self.model, side, side) for side in sides}
        self.geom = {self.model.geom(i).name: i for i in range(self.model.ngeom)}
        self.texture = {name: self.model.texture(name).id for name in TEXTURES[1:]}
        self.owner = np.full(self.model.ngeom + 1, BARE)
        hand = {"gripper": "hand", "arm": "palm"}[robot]
        self.owner[[self.geom[name] for name in (hand, "left_finger", "right_finger")]] = THINGS


def _compile(robot: str) -> Any:
    spec = mujoco.MjSpec.from_string(*scenes.source("tabletop", robot))
    built, mark = mujoco.mjtBuiltin, mujoco.mjtMark
    looks = {
        "speckle": (built.mjBUILTIN_FLAT, mark.mjMARK_RANDOM, 0.2, 0.75),
        "speckle2": (built.mjBUILTIN_FLAT, mark.mjMARK_RANDOM, 0.05, 0.5),
        "gradient": (built.mjBUILTIN_GRADIENT, mark.mjMARK_NONE, 0.0, 0.65),
        "stripes": (built.mjBUILTIN_FLAT, mark.mjMARK_EDGE, 0.0, 0.7),
        "checker": (built.mjBUILTIN_CHECKER, mark.mjMARK_NONE, 0.0, 0.75),
    }
    for name, (builtin, marks, share, dark) in looks.items():
        spec.add_texture(
            name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=builtin, mark=marks, random=share,
            rgb1=[1, 1, 1], rgb2=[dark] * 3, markrgb=[dark] * 3, width=64, height=64,
        )  # fmt: skip
    for name in ("table", "floor", *(f"thing{i}" for i in range(THINGS))):
        spec.add_material(name=name, texrepeat=[6, 6] if name in ("table", "floor") else [1, 1])
    for i in range(THINGS):
        body = spec.worldbody.add_body(name=f"thing{i}")
        for part in range(PARTS):
            # Compiled away from the body's frame: MuJoCo would take a geom that is there for one that stays there.
            body.add_geom(
                name=f"thing{i}_{part}", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.02] * 3, contype=0, conaffinity=0,
                pos=[0.01, 0.02, 0.03], quat=[0.5, 0.5, 0.5, 0.5],
            )  # fmt: skip
    spec.worldbody.add_camera(name="view")
    return spec.compile()


def _surface(rng: np.random.Generator, hues: tuple[float, float] | None) -> np.ndarray:
    """A colour of a table or floor: outside the held-out hues, or inside `hues`."""
    if hues is not None:
        hue, saturation, value = rng.uniform(*hues), rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.85)
    else:
        low, high = HELD_OUT_HUES
        hue = (high + 0.03 + rng.random() * (1 - (high - low) - 0.06)) % 1.0
        saturation = rng.uniform(0, 0.35) if rng.random() < 0.8 else rng.uniform(0.3, 0.6)
        value = rng.uniform(0.25, 0.95)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def _orbit(rng: np.random.Generator, held_out: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """A camera somewhere around the table, looking at it."""
    low, high = HELD_OUT_AZIMUTHS
    azimuth = np.radians(rng.uniform(low, high) if held_out else rng.uniform(high, low + 360))
    elevation, distance = np.radians(rng.uniform(35, 75)), rng.uniform(0.95, 1.25)
    flat = distance * np.cos(elevation)
    position = np.array([flat * np.sin(azimuth), -flat * np.cos(azimuth), distance * np.sin(elevation)])
    back = position - np.array([*rng.normal(0, 0.03, 2), 0.0])
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    return position, np.stack([right, np.cross(back, right), back], 1), float(rng.uniform(36, 46))


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def _small_turn(angles: np.ndarray) -> np.ndarray:
    quaternion = np.zeros(4)
    angle = float(np.linalg.norm(angles))
    mujoco.mju_axisAngle2Quat(quaternion, angles / max(angle, 1e-9), angle)
    return _rotation(quaternion)
