"""Scene files, put together with a robot."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from vla_rl.paths import shipped
from vla_rl.registry import nearest


def source(scene: str, robot: str) -> tuple[str, dict[str, bytes]]:
    """MJCF of a scene with `<robot>.xml` before it, and the files that it includes, by name.

    The robot comes first, so that its joints and actuators do, too.

    Args:
        scene: the name of a file of `assets/mujoco`, or the path of a file `*.xml`, which may include those.
        robot: the name of a robot's file.

    Raises:
        ValueError: no such scene.
    """
    files = {file.name: file.read_bytes() for file in (shipped("assets") / "mujoco").glob("*.xml")}
    own = Path(scene)
    if own.suffix == ".xml" and own.is_file():
        files[own.name] = own.read_bytes()
    elif f"{scene}.xml" not in files:
        raise ValueError(f"scene: no file {scene!r}; {nearest(scene, [Path(name).stem for name in files])}")
    text = f'<mujoco model="{own.stem}"><include file="{robot}.xml"/><include file="{own.stem}.xml"/></mujoco>'
    return text, files


def arrays(model: mujoco.MjModel, begin: str | tuple[str, ...] = "") -> dict[str, np.ndarray]:
    """A compiled model's own arrays by name, those that are not empty; only names that begin so, or so."""
    found = {name: getattr(model, name) for name in dir(model) if name.startswith(begin) and not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray) and value.size}
