"""The slots of a compiled scene: bodies that can show one of their shapes."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

NAMES = ("thing", "block", "mark", "object", "container", "button", "cabinet", "peg", "socket")
"""How a scene names the bodies that are slots; a number follows."""


@dataclass(frozen=True)
class Slot:
    """Where a slot lies in its model.

    body: its index. geoms int64 [n]: indices of those of the body and of all that hangs on it. shapes: shape -> its
    geoms, a part with its trim last. joint: that of the moving part (a drawer, a button's cap), not of the body itself;
    None where nothing moves.
    """

    body: int
    geoms: np.ndarray
    shapes: dict[str, list[int]]
    joint: int | None


def of_model(model: mujoco.MjModel) -> dict[str, Slot]:
    """The slots of a model by name, in its order."""
    names = [model.body(i).name for i in range(model.nbody)]
    return {name: _slot(model, i) for i, name in enumerate(names) if name.rstrip("0123456789") in NAMES}


def geoms_under(model: mujoco.MjModel, body: int) -> np.ndarray:
    """Indices int64 [n] of the geoms of a body and of all that hangs on it."""
    inside = {body}
    for child in range(body + 1, model.nbody):
        if int(model.body_parentid[child]) in inside:
            inside.add(child)
    return np.flatnonzero(np.isin(model.geom_bodyid, list(inside)))


def geom_name(model: mujoco.MjModel, geom: int) -> str:
    """A geom's name without the number that the scene gives it ("cube3")."""
    return model.geom(geom).name.rstrip("0123456789")


def _slot(model: mujoco.MjModel, body: int) -> Slot:
    geoms = geoms_under(model, body)
    shapes: dict[str, list[int]] = {}
    for geom in geoms.tolist():
        shapes.setdefault(geom_name(model, geom).partition("_")[0], []).append(geom)
    parts = set(model.geom_bodyid[geoms].tolist()) - {body}
    joints = [joint for joint in range(model.njnt) if int(model.jnt_bodyid[joint]) in parts]
    return Slot(body, geoms, shapes, joints[0] if joints else None)
