"""The things of a generated table before they are rendered: which, how large, where, and what of it the image shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np

from sims.grounding.picture import View
from sims.vocabulary import COLOURS, HELD_OUT_COMBINATIONS, MARKS, SOLIDS, TABLE_SHAPES, allowed

_WEIGHTS = {"cube": 6.0, "ball": 5.0, "cylinder": 5.0, "mark": 5.0, "bar": 5.0}
_WEIGHTS |= {"button": 4.0, "drawer": 2.0, "peg": 2.0, "socket": 2.0, "tray": 2.0, "plate": 2.0}
"""How often a shape is drawn; the others 1."""
_ALIKE = 0.08
"""How often all things of a table have one shape, so that colour alone tells them apart."""
_UNLIT = 0.35
"""How often a button's lamp is out."""
FALLEN = 0.35
"""How often a peg of tables with kits does not stand upright."""
_DEPTH = 0.06
"""Half the depth of a drawer's cabinet, metres."""
KITS = (
    (("peg", "a"), ("socket", "b")),
    (("peg", "a"), ("peg", "b"), ("socket", "c"), ("socket", "d")),
    (("tray", "a"), ("plate", "a"), ("cube", "b")),
    (("tray", "a"), ("plate", "a"), ("cylinder", "b"), ("cube", "b")),
    (("cube", "a"), ("cylinder", "a"), ("mark", "b"), ("pad", "b")),
)
"""Things that are used together: shapes, and letters for their colours. Chance hardly ever draws all of a kit."""
_CARRIED = ("cube", "ball", "cylinder", "bar", "capsule", "egg", "peg")
_HOSTS = ("tray", "plate", "socket", "cube", *MARKS)
"""What an arm carries, and what it puts that into, or onto."""


@dataclass
class Body:
    """A thing before it is rendered: half extents, centre, turn; how far it is pulled out, if it is a drawer; and how
    far it leans, in radians: it turns about its own x axis before it turns about the vertical.

    `colour` is empty for a button whose lamp is out.
    """

    colour: str
    shape: str
    half: np.ndarray
    position: np.ndarray
    yaw: float
    opened: float = 0.0
    leaning: float = 0.0


def fall(body: Body, rng: np.random.Generator) -> None:
    """Have a peg lie on the table, or lean."""
    body.leaning = np.pi / 2 if rng.random() < 0.6 else float(rng.uniform(0.3, 1.4))
    body.position[2] = body.half[2] * np.cos(body.leaning) + body.half[0] * np.sin(body.leaning)


def pairs_of(
    rng: np.random.Generator, held_out: bool, count: int, twins: float, kits: float = 0.0
) -> list[tuple[str, str]]:
    """Colours and shapes of a table's things: often the same colour (`twins`), or the same shape, twice; some buttons
    unlit. Now and then (`kits`) there is a kit among them, which may make them more than `count`."""
    colours, shapes = tuple(COLOURS), TABLE_SHAPES
    weights = np.array([_WEIGHTS.get(shape, 1.0) for shape in shapes])
    pairs: list[tuple[str, str]] = []
    if held_out:
        held = [pair for pair in sorted(HELD_OUT_COMBINATIONS) if pair[1] in shapes]
        pairs.append(held[rng.integers(len(held))])
    elif kits and rng.random() < kits:
        pairs += _kit(rng)
    same_shape = 1.0 if rng.random() < _ALIKE else 0.2
    while len(pairs) < count:
        colour = colours[rng.integers(len(colours))]
        shape = str(rng.choice(shapes, p=weights / weights.sum()))
        if pairs and rng.random() < same_shape:
            shape = pairs[rng.integers(len(pairs))][1]
        elif pairs and rng.random() < twins:
            colour = pairs[rng.integers(len(pairs))][0]
        if allowed(colour, shape, held_out) and (colour, shape) not in pairs:
            pairs.append((colour, shape))
    for i, (colour, shape) in enumerate(pairs):
        if shape == "button" and allowed(colour, shape, held_out=False) and rng.random() < _UNLIT:
            pairs[i] = ("", shape)
    order = rng.permutation(len(pairs))
    return [pairs[i] for i in order]


def _kit(rng: np.random.Generator) -> list[tuple[str, str]]:
    """One of `KITS` in colours that training may show."""
    while True:
        kit = KITS[rng.integers(len(KITS))]
        colours = dict(zip("abcd", rng.permutation(list(COLOURS)).tolist(), strict=False))
        pairs = [(colours[letter], shape) for shape, letter in kit]
        if all(allowed(colour, shape, held_out=False) for colour, shape in pairs):
            return pairs


def half_sizes(shape: str, rng: np.random.Generator) -> np.ndarray:
    """Half extents in metres [3]."""
    size = rng.uniform(0.021, 0.036)
    if shape in ("cube", "ball"):
        return np.full(3, size)
    if shape == "cylinder":
        return np.array([size, size, rng.uniform(0.025, 0.046)])
    if shape == "bar":
        return np.array([rng.uniform(0.04, 0.075), *rng.uniform(0.012, 0.019, 2)])
    if shape == "capsule":
        radius = rng.uniform(0.012, 0.02)
        return np.array([radius + rng.uniform(0.018, 0.03), radius, radius])
    if shape == "egg":
        return np.array([rng.uniform(0.028, 0.04), *[rng.uniform(0.016, 0.022)] * 2])
    if shape == "plate":
        return np.array([*rng.uniform(0.03, 0.05, 2), rng.uniform(0.006, 0.01)])
    if shape == "tray":
        return np.array([*rng.uniform(0.035, 0.06, 2), rng.uniform(0.01, 0.018)])
    if shape == "button":
        return np.array([*[rng.uniform(0.022, 0.032)] * 2, rng.uniform(0.013, 0.019)])
    if shape == "peg":
        return np.array([*[rng.uniform(0.011, 0.018)] * 2, rng.uniform(0.035, 0.055)])
    if shape == "socket":
        return np.array([*[rng.uniform(0.026, 0.038)] * 2, rng.uniform(0.016, 0.026)])
    if shape == "drawer":  # the front of one, in its cabinet
        return np.array([rng.uniform(0.055, 0.075), 0.004, rng.uniform(0.026, 0.036)])
    radius = rng.uniform(0.028, 0.055)
    return np.array([radius, radius, rng.uniform(0.0008, 0.002)])


@dataclass(frozen=True)
class Part:
    """A geom of a thing: MuJoCo's type and size, where it is in the thing; `trim` parts do not have its colour."""

    kind: int
    size: np.ndarray
    position: np.ndarray
    trim: bool = False


def parts_of(shape: str, half: np.ndarray, opened: float = 0.0) -> list[Part]:
    """The geoms of a shape; a drawer is pulled out by `opened` metres."""
    kinds, zero = mujoco.mjtGeom, np.zeros(3)
    box = int(kinds.mjGEOM_BOX)
    x, y, z = half
    if shape == "tray":
        wall, floor = 0.004, 0.002
        return [Part(box, np.array([x, y, floor]), np.array([0, 0, floor - z])), *_walls(x, y, z, wall)]
    if shape == "socket":
        return _walls(x, y, z, x - 0.6 * x)
    if shape == "button":
        housing = Part(int(kinds.mjGEOM_CYLINDER), np.array([1.33 * x, 0.55 * z, 0]), np.array([0, 0, -0.45 * z]), True)
        return [Part(int(kinds.mjGEOM_CYLINDER), np.array([x, z, 0]), zero), housing]
    if shape == "drawer":
        back = opened + y + _DEPTH
        return [
            Part(box, half, zero),
            Part(box, np.array([0.6 * x, 0.005, 0.006]), np.array([0, -0.043, 0.4 * z])),
            Part(box, np.array([1.1 * x, _DEPTH, 1.15 * z]), np.array([0, back, 0.15 * z]), True),
            Part(box, np.array([0.9 * x, opened / 2 + 0.001, 0.003]), np.array([0, opened / 2, -0.7 * z]), True),
        ]
    if shape == "ball":
        return [Part(int(kinds.mjGEOM_SPHERE), np.array([x, 0, 0]), zero)]
    if shape in ("cylinder", "mark", "peg"):
        return [Part(int(kinds.mjGEOM_CYLINDER), np.array([x, z, 0]), zero)]
    if shape == "capsule":
        return [Part(int(kinds.mjGEOM_CAPSULE), np.array([y, x - y, 0]), zero)]
    if shape == "egg":
        return [Part(int(kinds.mjGEOM_ELLIPSOID), half, zero)]
    return [Part(box, half, zero)]


def _walls(x: float, y: float, z: float, wall: float) -> list[Part]:
    """Four walls around a rectangle, outside at x and y, `wall` half as thick."""
    box, sides = int(mujoco.mjtGeom.mjGEOM_BOX), (-1, 1)
    parts = [Part(box, np.array([wall, y, z]), np.array([side * (x - wall), 0, 0])) for side in sides]
    return parts + [Part(box, np.array([x, wall, z]), np.array([0, side * (y - wall), 0])) for side in sides]


def extent_of(body: Body, view: View) -> tuple[float, float]:
    """Half the width and half the height of a thing in the image."""
    x, upright_y, upright_z = (_hull(body.shape) * body.half).T
    sin, cos = np.sin(body.leaning), np.cos(body.leaning)
    y, z = upright_y * cos - upright_z * sin, upright_y * sin + upright_z * cos
    turned = np.stack([x * np.cos(body.yaw) - y * np.sin(body.yaw), x * np.sin(body.yaw) + y * np.cos(body.yaw), z], -1)
    places = np.clip(np.nan_to_num(view.project(body.position + turned)), -1, 1)
    width, height = np.ptp(places, axis=0) / 2
    return float(width), float(height)


@cache
def _hull(shape: str) -> np.ndarray:
    """Points [P, 3] whose convex hull is about that of a shape with half extents of 1."""
    turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], -1)
    if shape in ("ball", "egg", "capsule"):
        levels = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 9))
    else:
        levels = np.array([-1.0, 1.0])
        if shape not in ("cylinder", "mark", "button", "peg"):
            return np.array([(x, y, z) for x in levels for y in levels for z in levels])
        return np.array([(*point, z) for point in circle for z in levels])
    return np.array([(*(point * np.sqrt(1 - z**2)), z) for point in circle for z in levels])


def apart(spot: np.ndarray, half: np.ndarray, other: Body) -> bool:
    reach = max(half[0], half[1]) + max(other.half[0], other.half[1]) + (_DEPTH if other.shape == "drawer" else 0.0)
    return bool(np.hypot(*(spot - other.position[:2])) > 0.85 * reach + 0.004)


def disturb(bodies: list[Body], tip: np.ndarray, rng: np.random.Generator) -> None:
    """What happens while a robot works: a thing is on a mark, in the air, or the gripper is at it."""
    solids = [body for body in bodies if body.shape in SOLIDS]
    marks = [body for body in bodies if body.shape in MARKS]
    if solids and marks and rng.random() < 0.2:
        body, mark = solids[rng.integers(len(solids))], marks[rng.integers(len(marks))]
        body.position[:2] = mark.position[:2] + rng.normal(0, 0.02, 2)
    if solids and rng.random() < 0.06:
        body = solids[rng.integers(len(solids))]
        body.position[2] += rng.uniform(0.01, 0.15)
    if bodies and rng.random() < 0.5:
        body = bodies[rng.integers(len(bodies))]
        beside = rng.normal(0, 0.035, 2) if rng.random() < 0.7 else rng.normal(0, 0.008, 2)
        tip[:2] = np.clip(body.position[:2] + beside, -0.29, 0.29)
        if rng.random() < 0.5:
            tip[2] = np.clip(body.position[2] + rng.normal(0.01, 0.015), 0.0, 0.25)


def carry(bodies: list[Body], tip: np.ndarray, rng: np.random.Generator) -> float:
    """What happens while an arm carries: a thing is held up or has been put down, mostly at, on or in another one.

    Returns:
        How far the fingers are apart, metres; negative where nothing is held.
    """
    things = [body for body in bodies if body.shape in _CARRIED and not body.leaning]
    if not things:
        return -1.0
    body = things[rng.integers(len(things))]
    hosts = [host for host in bodies if host.shape in _HOSTS and host is not body]
    rests = False
    if hosts and rng.random() < 0.6:
        host, rests = hosts[rng.integers(len(hosts))], bool(rng.random() < 0.5)
        floor = host.position[2] + host.half[2] * (-0.8 if host.shape in ("tray", "socket") else 1.0)
        body.position[:2] = host.position[:2] + rng.normal(0, 0.01 if rests else 0.03, 2)
        body.position[2] = floor + body.half[2] + (0.0 if rests else rng.uniform(0, 0.12))
    else:
        body.position[2] += rng.uniform(0, 0.16)
    if rests and rng.random() < 0.5:
        return -1.0
    tip[:2] = body.position[:2] + rng.normal(0, 0.003, 2)
    tip[2] = body.position[2] + rng.uniform(-0.1, 0.7) * body.half[2]
    return float(2 * body.half[1])
