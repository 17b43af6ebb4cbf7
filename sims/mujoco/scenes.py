"""Scene files, put together with a robot."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from vla_rl.paths import is_within, shipped
from vla_rl.registry import nearest

_FOLDERS = ("assetdir", "meshdir", "texturedir")
"""Of `compiler`: where files lie."""


def source(scene: str, robot: str) -> tuple[str, dict[str, bytes]]:
    """MJCF of a scene with `<robot>.xml` before it, and the files that it includes, by name.

    The robot comes first, so that its joints and actuators do, too.

    Args:
        scene: the name of a file of `assets/mujoco`, or the path of a file `*.xml`, which may include those, and what
            lies in its own folder.
        robot: the name of a robot's file.

    Raises:
        ValueError: no such scene; or it names a file that lies elsewhere.
    """
    files = {file.name: file.read_bytes() for file in (shipped("assets") / "mujoco").glob("*.xml")}
    own = Path(scene)
    if own.suffix == ".xml" and own.is_file():
        files[own.name] = own.read_bytes()
        _add_named(own.parent.resolve(), own.name, files)
    elif f"{scene}.xml" not in files:
        raise ValueError(f"scene: no file {scene!r}; {nearest(scene, [Path(name).stem for name in files])}")
    text = f'<mujoco model="{own.stem}"><include file="{robot}.xml"/><include file="{own.stem}.xml"/></mujoco>'
    return text, files


def _add_named(root: Path, name: str, files: dict[str, bytes]) -> None:
    """Add the files that a file names (included ones, meshes, textures), so that MuJoCo looks for none on the disk.

    Raises:
        ValueError: one is not there, or lies outside `root`; or the file is no XML.
    """
    try:
        top = ElementTree.fromstring(files[name])
    except ElementTree.ParseError as error:
        raise ValueError(f"scene: {root / name} is no XML: {error}") from error
    folders = [element.get(key, "") for element in top.iter("compiler") for key in _FOLDERS]
    for element in top.iter():
        for key, told in element.items():
            if key.startswith("file"):
                _add(root, name, told, [f"{folder}/{told}".lstrip("/") for folder in ("", *folders)], files)


def _add(root: Path, name: str, told: str, places: list[str], files: dict[str, bytes]) -> None:
    """Add a file that may lie at any of these places."""
    for place in places:
        if place in files:
            return
        path = root / place
        if is_within(place) and is_within(told) and path.is_file() and path.resolve().is_relative_to(root):
            files[place] = path.read_bytes()
            if path.suffix == ".xml":
                _add_named(root, place, files)
            return
    raise ValueError(f"scene: {root / name} names the file {told[:80]!r}, and no such one lies in {root}")


def arrays(model: mujoco.MjModel, begin: str | tuple[str, ...] = "") -> dict[str, np.ndarray]:
    """A compiled model's own arrays by name, those that are not empty; only names that begin so, or so."""
    found = {name: getattr(model, name) for name in dir(model) if name.startswith(begin) and not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray) and value.size}
