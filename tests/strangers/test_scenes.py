"""An MJCF file of somebody's: what it names lies in its own folder."""

from __future__ import annotations

from pathlib import Path

import mujoco
import pytest

from sims.mujoco import scenes

MESH = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
CANARY = '<mujoco><worldbody><geom name="canary" size="1"/></worldbody></mujoco>'


def scene(folder: Path, content: str) -> str:
    folder.mkdir(exist_ok=True)
    file = folder / "own.xml"
    file.write_text(f"<mujoco>{content}</mujoco>")
    return str(file)


def test_what_lies_in_its_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "scene"
    own = scene(
        folder,
        '<include file="parts/more.xml"/><compiler meshdir="meshes"/><asset><mesh name="m" file="m.obj"/></asset>'
        '<worldbody><geom type="mesh" mesh="m"/></worldbody>',
    )
    for name, content in (("parts/more.xml", CANARY), ("meshes/m.obj", MESH)):
        (folder / name).parent.mkdir()
        (folder / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    model = mujoco.MjModel.from_xml_string(*scenes.source(own, "gripper"))
    assert model.geom("canary").id >= 0


@pytest.mark.parametrize(
    "content",
    [
        '<include file="../canary.xml"/>',
        '<include file="{root}/canary.xml"/>',
        '<include file="link.xml"/>',
        '<include file="canary.xml"/>',
        '<compiler meshdir=".."/><asset><mesh file="canary.xml"/></asset>',
        '<compiler assetdir="{root}"/><asset><texture type="cube" fileright="canary.xml"/></asset>',
        '<asset><hfield name="h" size="1 1 1 1" file="/etc/passwd"/></asset>',
    ],
)
def test_what_lies_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "canary.xml").write_text(CANARY)
    own = scene(tmp_path / "scene", content.replace("{root}", str(tmp_path)))
    (tmp_path / "scene" / "link.xml").symlink_to(tmp_path / "canary.xml")
    monkeypatch.chdir(tmp_path)  # where MuJoCo would look
    with pytest.raises(ValueError, match="and no such one lies in"):
        scenes.source(own, "gripper")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"own\.xml is no XML"):
        scenes.source(scene(tmp_path, "<include"), "gripper")
