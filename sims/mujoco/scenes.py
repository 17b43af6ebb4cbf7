"""Scene files, put together with a robot."""

from __future__ import annotations

from vla_rl.paths import shipped


def source(scene: str, robot: str) -> tuple[str, dict[str, bytes]]:
    """MJCF of `assets/mujoco/<scene>.xml` with `<robot>.xml` before it, and the files that it includes.

    The robot comes first, so that its joints and actuators do, too.
    """
    text = f'<mujoco model="{scene}"><include file="{robot}.xml"/><include file="{scene}.xml"/></mujoco>'
    return text, {file.name: file.read_bytes() for file in (shipped("assets") / "mujoco").glob("*.xml")}
